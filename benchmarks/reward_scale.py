"""RL² on a bandit whose rewards are of any scale: the same curve at all of them.

    python -m benchmarks.reward_scale [--iterations 60] [--seeds 5] [--json FILE]

Five arms, one of which pays; ten pulls an episode. What is shown is the share of what could be
earned, mean and standard deviation over training seeds of the last ten iterations.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from gymnasium import spaces

from benchmarks.measurement import begin, count, parser, print_table, write_json
from metarl.algorithms.rl2 import RL2
from metarl.algorithms.settings.rl2 import RL2Settings
from metarl.envs import TaskVectorEnv
from metarl.envs.tasks import FiniteTasks
from metarl.experience.rollout import RolloutWorker
from metarl.process import run_program
from metarl.random import Key

SCALES = (1.0, 1e-3, 1e-6, 1e-9, 1e6)
PULLS = 10
SETTINGS = {"tasks": 64, "episodes": 1, "width": 32, "minibatches": 4, "lr": 0.005}


class Bandit(TaskVectorEnv):
    """Five arms, one of which pays; nothing is to be seen."""

    def __init__(self, num_envs: int, pay: float) -> None:
        self._pay = pay
        tasks = FiniteTasks([[float(arm)] for arm in range(5)], ("arm",), ("",))
        box = spaces.Box(0.0, 1.0, (1,), np.float64)
        super().__init__(num_envs, tasks, PULLS, box, spaces.Discrete(5))

    def _reset_lanes(self, lanes: Any) -> None:
        pass

    def _advance(self, actions: Any, live: Any) -> Any:
        return self._pay * (actions == self._tasks[:, 0]), None

    def _observe(self) -> Any:
        return np.ones((self.num_envs, 1))


def curve(pay: float, seed: int, iterations: int) -> list[float]:
    """The share of what could be earned in each iteration."""
    worker = RolloutWorker(lambda lanes: Bandit(lanes, pay))
    settings = RL2Settings.model_validate(SETTINGS)
    rl2, shares = RL2(settings, *worker.spaces, seed), []
    for iteration in range(1, iterations + 1):
        batch = rl2.collect(worker, Key(seed, iteration))
        shares.append(batch.metrics["return/episode_1"] / (pay * PULLS))
        rl2.update(batch)
    return shares


def run(argv: Sequence[str]) -> int:
    """Train, print and write."""
    arguments = parser("reward_scale", __doc__, repeats=None)
    arguments.add_argument("--iterations", type=count, default=60)
    arguments.add_argument("--seeds", type=count, default=5, help="training seeds, from 1 on")
    options = begin(arguments, argv)
    torch.set_num_threads(options.threads)
    rows = []
    for pay in SCALES:
        curves = [curve(pay, seed, options.iterations) for seed in range(1, options.seeds + 1)]
        ends = np.array(curves)[:, -10:].mean(axis=1)
        std = float(ends.std(ddof=1)) if len(ends) > 1 else None
        rows.append({"pay": pay, "mean": float(ends.mean()), "std": std})
    cells = [
        [f"{r['pay']:g}", f"{r['mean']:.3f}", "–" if r["std"] is None else f"{r['std']:.3f}"]
        for r in rows
    ]
    print_table(["reward of the arm that pays", "share earned", "± over seeds"], cells)
    write_json("reward_scale", options, rows, {})
    return 0


if __name__ == "__main__":
    sys.exit(run_program(lambda: run(sys.argv[1:])))
