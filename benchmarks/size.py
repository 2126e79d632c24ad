"""Time and memory of MAML by the episode's length and by the observation's: both grow linearly.

    python -m benchmarks.size [--json FILE]
    python -m benchmarks.size --horizon 20000 --observations 20

Without a size every point of the table is measured in a process of its own, so that its peak memory
is its own too. A point is one meta-iteration of MAML on a made-up environment of random
observations, and before it the advantages alone of as many made-up steps. The seconds are the
processor's, which wander less than the clock's where others are at work.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from gymnasium import spaces

from benchmarks.growth import measure
from benchmarks.measurement import begin, count, parser, peak_memory, print_table, write_json
from metarl.algorithms.maml import MAML
from metarl.algorithms.settings.gradient import MAMLSettings
from metarl.envs import TaskVectorEnv, UniformInterval
from metarl.experience.advantages import AdvantageEstimator
from metarl.experience.rollout import RolloutWorker
from metarl.process import run_program
from metarl.random import Key
from metarl.types import Trajectory

TASKS = 2
POINTS = [  # lanes a task, horizon, numbers of an observation
    *((2, horizon, 20) for horizon in (1000, 5000, 20_000)),
    *((10, 200, numbers) for numbers in (20, 300, 3000, 12_288)),
]
_HEADER = (
    *("lanes", "T", "o", "data, MiB"),
    *("advantages, s", "their memory, MiB", "iteration, s", "peak, GiB"),
)


class Noise(TaskVectorEnv):
    """Random observations of any size, and a reward for an action near the task's number."""

    def __init__(self, num_envs: int, horizon: int, numbers: int) -> None:
        self._rng, self._numbers = np.random.default_rng(0), numbers
        box = spaces.Box(-np.inf, np.inf, (numbers,), np.float32)
        action = spaces.Box(-1.0, 1.0, (1,), np.float32)
        super().__init__(num_envs, UniformInterval(-1.0, 1.0, "goal", ""), horizon, box, action)

    def _reset_lanes(self, lanes: Any) -> None:
        pass

    def _advance(self, actions: Any, live: Any) -> Any:
        return -np.abs(actions[:, 0] - self._tasks[:, 0]), None

    def _observe(self) -> Any:
        return self._rng.standard_normal((self.num_envs, self._numbers), dtype=np.float32)


def advantages(lanes: int, horizon: int, numbers: int) -> dict[str, float]:
    """Processor seconds, and bytes beyond the data's own, of the advantages of made-up episodes."""
    rng = torch.Generator().manual_seed(0)
    shape = (TASKS, lanes, horizon)
    observations = torch.randn(*shape, numbers, generator=rng)
    rewards = torch.randn(shape, generator=rng)
    flags = torch.zeros(shape, dtype=torch.bool)
    actions = rewards.unsqueeze(-1)
    trajectory = Trajectory(observations, actions, rewards, rewards, flags, flags, ~flags)
    estimator = AdvantageEstimator(discount=0.99, gae_lambda=1.0, normalize=True)
    before, start = peak_memory(), time.process_time()
    estimator.samples(trajectory)
    return {"seconds": time.process_time() - start, "memory_bytes": peak_memory() - before}


def iteration(lanes: int, horizon: int, numbers: int) -> float:
    """Processor seconds of a meta-iteration: episodes, adaptation, episodes, update."""
    worker = RolloutWorker(lambda n: Noise(n, horizon, numbers))
    env = worker.env(TASKS * lanes)
    settings = {"tasks": TASKS, "episodes": lanes, "hidden_sizes": (32, 32)}
    config = MAMLSettings.model_validate(settings)
    maml = MAML(config, env.single_observation_space, env.single_action_space, seed=0)
    start = time.process_time()
    maml.update(maml.collect(worker, Key(0, 1)))
    return time.process_time() - start


def measure_point(lanes: int, horizon: int, numbers: int) -> dict[str, Any]:
    """A row of the table."""
    alone = advantages(lanes, horizon, numbers)
    return {
        "lanes": lanes,
        "horizon": horizon,
        "observations": numbers,
        "data_bytes": 4 * TASKS * lanes * horizon * numbers,
        "advantages_seconds": alone["seconds"],
        "advantages_memory_bytes": alone["memory_bytes"],
        "iteration_seconds": iteration(lanes, horizon, numbers),
        "peak_memory_bytes": peak_memory(),
    }


def cells(row: dict[str, Any]) -> list[str]:
    """A row as it is printed."""
    return [
        *(f"{row[name]:,}" for name in ("lanes", "horizon", "observations")),
        f"{row['data_bytes'] / 2**20:.1f}",
        f"{row['advantages_seconds']:.2f}",
        f"{row['advantages_memory_bytes'] / 2**20:.0f}",
        f"{row['iteration_seconds']:.1f}",
        f"{row['peak_memory_bytes'] / 2**30:.2f}",
    ]


def run(argv: Sequence[str]) -> int:
    """Measure, print and write."""
    arguments = parser("size", __doc__, repeats=None)
    arguments.add_argument("--lanes", type=count, default=2, help="of each of the two tasks")
    arguments.add_argument("--horizon", type=count, help="measure this size alone")
    arguments.add_argument("--observations", type=count, default=20, help="numbers of one")
    options = begin(arguments, argv)
    if options.horizon:
        rows = [measure_point(options.lanes, options.horizon, options.observations)]
    else:
        rows = []
        for lanes, horizon, numbers in POINTS:
            words = ["--threads", options.threads, "--lanes", lanes, "--observations", numbers]
            record = measure("size", "horizon", horizon, [str(word) for word in words])
            rows += record["rows"]
            print(f"measured: {lanes} × {horizon} × {numbers}", file=sys.stderr)
    print_table(_HEADER, [cells(row) for row in rows])
    write_json("size", options, rows, {"tasks": TASKS})
    return 0


if __name__ == "__main__":
    sys.exit(run_program(lambda: run(sys.argv[1:])))
