"""RL² on the sparse semicircle with an LSTM and with Transformers: seconds of rollout and update.

    python -m benchmarks.memory_cores [--width 128] [--horizon 20] [--json FILE]

The kinds of memory take turns with the same tasks, an iteration each. Processor seconds, of one
thread unless ``--threads`` says otherwise: other programs on the machine count less than by the
clock.
"""

from __future__ import annotations

import statistics
import sys
import time
from collections.abc import Sequence
from typing import Any

from benchmarks.measurement import Row, Seconds, begin, count, parser, print_table, write_json
from metarl import envs
from metarl.algorithms.rl2 import RL2
from metarl.algorithms.settings.rl2 import RL2Settings
from metarl.experience.rollout import RolloutWorker
from metarl.process import run_program
from metarl.random import Key

KINDS: dict[str, dict[str, Any]] = {
    "lstm": {"name": "lstm"},
    "transformer, 1 layer": {"name": "transformer", "layers": 1},
    "transformer, 2 layers": {"name": "transformer", "layers": 2},
    "transformer, 2 layers, context of an episode": {"name": "transformer", "layers": 2},
}
_PARTS = ("rollout", "update")


def _iteration(rl2: RL2, worker: RolloutWorker, number: int) -> Seconds:
    start = time.process_time()
    batch = rl2.collect(worker, Key(0, number))
    middle = time.process_time()
    rl2.update(batch)
    return dict(zip(_PARTS, (middle - start, time.process_time() - middle), strict=True))


def run(argv: Sequence[str]) -> int:
    """Measure, print and write."""
    arguments = parser("memory_cores", __doc__)
    arguments.set_defaults(threads=1)
    arguments.add_argument("--tasks", type=count, default=128, help="one lane each")
    arguments.add_argument("--episodes", type=count, default=5, help="of a trial")
    arguments.add_argument("--horizon", type=count, default=100, help="env steps of an episode")
    arguments.add_argument("--width", type=count, default=64, help="of the memory")
    arguments.add_argument("--minibatches", type=count, default=16, help="of the 2 epochs each")
    options = begin(arguments, argv)

    def make_env(lanes: int) -> envs.TaskVectorEnv:
        goals: dict[str, Any] = {"preset": "varibad", "reward": "sparse", "sparse_radius": 0.2}
        return envs.make("point_navigation", lanes, horizon=options.horizon, **goals)

    worker = RolloutWorker(make_env)
    sizes = {n: getattr(options, n) for n in ("tasks", "episodes", "width", "minibatches")}
    agents = {}
    for kind, core in KINDS.items():
        window = {"context": options.horizon} if "context" in kind else {}
        config = RL2Settings.model_validate({"core": core | window, "target_kl": None, **sizes})
        agents[kind] = RL2(config, *worker.spaces, 0)
    rows: list[Row] = []
    for repeat in range(options.repeats + 1):
        for kind, rl2 in agents.items():
            seconds = _iteration(rl2, worker, repeat + 1)
            if repeat:  # the first warms up
                rows.append({"name": kind, "repeat": repeat, "seconds": seconds})
    env_steps = options.tasks * options.episodes * options.horizon
    summary: dict[str, Seconds] = {}
    for kind in KINDS:
        of_kind = [row["seconds"] for row in rows if row["name"] == kind]
        summary[kind] = {part: statistics.median(s[part] for s in of_kind) for part in _PARTS}
    table = [
        [kind, *(f"{env_steps / seconds[part]:,.0f}" for part in _PARTS)]
        + [f"{seconds[part] / summary['lstm'][part]:.1f}" for part in _PARTS]
        for kind, seconds in summary.items()
    ]
    print_table(["", "rollout: env steps/s", "update", "/ lstm: rollout", "update"], table)
    write_json("memory_cores", options, rows, summary)
    worker.close()
    return 0


if __name__ == "__main__":
    sys.exit(run_program(lambda: run(sys.argv[1:])))
