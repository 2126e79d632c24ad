"""An RL² iteration on HalfCheetah, split into rollout and update, against its bare physics.

    python -m benchmarks.rl2 [--core gru] [--width 256] [--json FILE]
    python -m benchmarks.growth --of rl2 --plot growth.png

Every repeat starts from the same parameters and keys, so that it plays the same trials, and the
simulator alone plays them again before and after it.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Sequence

from benchmarks.measurement import (
    Seconds,
    begin,
    count,
    interleave,
    parser,
    peak_memory,
    print_parts,
    summarize,
    synchronize,
    write_json,
)
from benchmarks.physics import Recorder, replay
from metarl import envs
from metarl.algorithms.rl2 import RL2
from metarl.algorithms.settings.rl2 import RL2Settings
from metarl.config.loading import resolve_device
from metarl.process import run_program
from metarl.random import Key

_SETTINGS = ("tasks", "episodes", "width", "core", "epochs", "minibatches")


class Iteration:
    """The same RL² iteration, again and again."""

    def __init__(self, options: argparse.Namespace) -> None:
        def make_env(lanes: int) -> envs.TaskVectorEnv:
            horizon, threads = options.horizon, options.threads
            return envs.make("half_cheetah_vel", lanes, horizon=horizon, num_threads=threads)

        self.config = RL2Settings(**{name: getattr(options, name) for name in _SETTINGS})
        self.worker = Recorder(make_env)
        self.env = self.worker.env(self.config.tasks)
        spaces = self.env.single_observation_space, self.env.single_action_space
        self.rl2 = RL2(self.config, *spaces, 0, options.device)
        self.env_steps = self.config.tasks * self.config.episodes * options.horizon
        # With moments: the first look at the observations' scale belongs to no other iteration.
        moments = self.rl2.collect(self.worker, Key(0, 1)).moments
        assert moments is not None  # the default
        self.rl2.input_moments = moments
        self._initial = self.rl2.state_dict()

    def parts(self) -> Seconds:
        """Seconds of the rollout, of the update, and of both."""
        self.rl2.load_state_dict(self._initial)
        self.worker.recordings.clear()
        self.worker.seconds = 0.0
        start = time.perf_counter()
        batch = self.rl2.collect(self.worker, Key(0, 1))
        self.rl2.update(batch)
        synchronize(self.rl2.device.type)
        seconds = time.perf_counter() - start
        rollout = self.worker.seconds
        return {"rollout": rollout, "update": seconds - rollout, "iteration": seconds}

    def bare(self) -> float:
        """Seconds of the simulator alone for the trials of the last iteration."""
        return sum(replay(self.env, recording) for recording in self.worker.recordings)


def run(argv: Sequence[str]) -> int:
    """Measure, print and write."""
    arguments = parser("rl2", __doc__)
    arguments.add_argument("--tasks", type=count, default=128, help="one lane each")
    arguments.add_argument("--episodes", type=count, default=2, help="of a trial")
    arguments.add_argument("--horizon", type=count, default=200, help="env steps of an episode")
    arguments.add_argument("--width", type=count, default=128, help="of the memory")
    arguments.add_argument("--core", choices=["lstm", "gru", "transformer"], default="lstm")
    arguments.add_argument("--epochs", type=count, default=2)
    arguments.add_argument("--minibatches", type=count, default=16)
    arguments.add_argument("--device", choices=["auto", "cpu", "cuda"], default="cpu")
    options = begin(arguments, argv)
    options.device = resolve_device(options.device)
    benchmark = Iteration(options)
    peak = 0

    def parts() -> Seconds:
        nonlocal peak
        seconds = benchmark.parts()
        peak = peak or peak_memory()  # of the first: what follows also holds the replay's actions
        return seconds

    rows = interleave(benchmark.bare, {"rl2": parts}, options.repeats)
    summary: dict[str, object] = {**summarize(rows)}
    seconds = summarize(rows)["iteration"]
    summary |= {
        "env_steps": benchmark.env_steps,
        "env_steps_per_s": benchmark.env_steps / seconds["seconds"],
        "share_of_bare": 1.0 / seconds["ratio"],
        "peak_memory_bytes": peak,
    }
    print_parts(summarize(rows), "physics")
    print(
        f"{benchmark.env_steps:,} env steps, {summary['env_steps_per_s']:,.0f} a second; training "
        f"at {100 / seconds['ratio']:.1f} % of the bare physics; "
        f"peak memory {peak / 2**30:.2f} GiB"
    )
    write_json("rl2", options, rows, summary)
    benchmark.worker.close()
    return 0


if __name__ == "__main__":
    sys.exit(run_program(lambda: run(sys.argv[1:])))
