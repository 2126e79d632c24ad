"""A whole meta-iteration, split into rollout, adapt and update, against its bare physics.

    python -m benchmarks.meta_iteration [--curvature-every 5] [--algorithm promp] [--json FILE]
    python -m benchmarks.meta_iteration --env navigation
    python -m benchmarks.meta_iteration --device cuda

Every repeat starts from the same parameters and keys, so that it plays the same episodes, and the
simulator alone plays them again before and after it. Navigation has no simulator: there the
reference is the environment's own steps. On a GPU the transfers, which are a part of "adapt", are
measured once more on their own.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence

from benchmarks.measurement import (
    Seconds,
    begin,
    interleave,
    parser,
    peak_memory,
    print_parts,
    summarize,
    synchronize,
    write_json,
)
from benchmarks.physics import Recorder, replay
from benchmarks.setting import Setting, add_options, gradient_based, setting
from metarl.maths.params import stack, to_device
from metarl.process import run_program
from metarl.random import Key


class MetaIteration:
    """The same meta-iteration, again and again."""

    def __init__(self, setting: Setting) -> None:
        self.setting = setting
        self.worker: Recorder = setting.worker()
        self.algorithm = setting.meta_learner(self.worker)
        # With moments: the first look at the observations' scale belongs to no other iteration.
        self.algorithm.moments = self.algorithm.collect(self.worker, Key(0)).moments
        self._initial = self.algorithm.state_dict()

    def parts(self) -> Seconds:
        """Seconds of rollout, adapt, update and all of them; with a GPU, of the transfers too."""
        device = self.setting.device
        self.algorithm.load_state_dict(self._initial)
        self.worker.recordings.clear()
        self.worker.seconds = 0.0
        start = time.perf_counter()
        batch = self.algorithm.collect(self.worker, Key(0))
        synchronize(device)
        collected = time.perf_counter()
        self.algorithm.update(batch)
        synchronize(device)
        end = time.perf_counter()
        seconds = {
            "rollout": self.worker.seconds,
            "adapt": collected - start - self.worker.seconds,
            "update": end - collected,
            "iteration": end - start,
        }
        return seconds if device == "cpu" else seconds | self._transfers()

    def bare(self) -> float:
        """Seconds of the simulator alone for the env steps of the last meta-iteration."""
        env = self.worker.env(self.setting.tasks * self.setting.episodes)
        return sum(replay(env, recording) for recording in self.worker.recordings)

    def _transfers(self) -> Seconds:
        """Seconds of a meta-iteration's ways to the GPU and back, taken apart."""
        start = time.perf_counter()
        for recording in self.worker.recordings:
            recording.trajectory.to(self.algorithm.device)
        synchronize(self.setting.device)
        there = time.perf_counter()
        stacked = {
            n: p.contiguous() for n, p in stack(self.algorithm.params, self.setting.tasks).items()
        }
        synchronize(self.setting.device)
        begin_back = time.perf_counter()
        for _ in self.worker.recordings:
            to_device(stacked, "cpu")
        return {"to_device": there - start, "to_host": time.perf_counter() - begin_back}


def run(argv: Sequence[str]) -> int:
    """Measure, print and write."""
    arguments = parser("meta_iteration", __doc__)
    add_options(arguments)
    arguments.add_argument("--algorithm", choices=gradient_based(), default="maml")
    options = begin(arguments, argv)
    size = setting(options)
    benchmark = MetaIteration(size)
    peak = 0

    def parts() -> Seconds:
        nonlocal peak
        seconds = benchmark.parts()
        peak = peak or peak_memory()  # of the first: what follows also holds the replay's actions
        return seconds

    rows = interleave(benchmark.bare, {"meta_iteration": parts}, options.repeats)
    summary: dict[str, object] = {**summarize(rows)}
    env_steps_per_s = size.env_steps / summarize(rows)["iteration"]["seconds"]
    summary |= {
        "env_steps": size.env_steps,
        "env_steps_per_s": env_steps_per_s,
        "peak_memory_bytes": peak,
    }
    print_parts(summarize(rows), "environment" if size.env == "navigation" else "physics")
    print(
        f"{size.env_steps:,} env steps, {env_steps_per_s:,.0f} a second; "
        f"peak memory {peak / 2**30:.2f} GiB"
    )
    write_json("meta_iteration", options, rows, summary)
    benchmark.worker.close()
    return 0


if __name__ == "__main__":
    sys.exit(run_program(lambda: run(sys.argv[1:])))
