"""A MAML meta-iteration against the bare physics of its own rollouts, in one process.

    python -m benchmarks.meta_iteration [--tasks 40] [--episodes 20] [--repeats 3] [--json FILE]

The limit is MuJoCo's batch stepping the recorded actions of the same rollouts again, with the same
lanes and threads and nothing else: contacts change its cost, so it is measured on those very
actions. Everything is a ratio to it; absolute figures wander from machine to machine.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import time
from pathlib import Path

import numpy as np
import torch

import envs
from envs.half_cheetah import HalfCheetahVel
from metarl.algorithms.maml import MAML, MAMLConfig
from metarl.networks import PolicyActor
from metarl.random import Key
from metarl.rollout import RolloutWorker
from metarl.types import Trajectory


class Recorder(RolloutWorker):
    """A rollout worker that keeps what it collected, and counts its seconds."""

    def __init__(self, threads: int, horizon: int) -> None:
        super().__init__(
            lambda n: envs.make("half_cheetah_vel", n, num_threads=threads, horizon=horizon)
        )
        self.trajectories: list[tuple[Trajectory, np.ndarray]] = []

    def collect(self, actor: PolicyActor, tasks: np.ndarray, lanes: int, key: Key) -> Trajectory:  # type: ignore[override]
        trajectory = super().collect(actor, tasks, lanes, key)
        self.trajectories.append((trajectory, key.reset_seeds(len(tasks), lanes)))
        return trajectory


def bare_physics_seconds(env: HalfCheetahVel, trajectory: Trajectory, seeds: np.ndarray) -> float:
    """Seconds that the simulator alone takes for the trajectory's actions."""
    n = env.num_envs
    actions = trajectory.actions.flatten(0, 1).clamp(-1, 1).double().numpy()  # [N, T, a]
    env.reset(seed=seeds)
    batch = env._batch  # the benchmark's business is to go below the environment
    control = batch.bind("ctrl")
    start = time.perf_counter()
    for t in range(actions.shape[1]):
        control[:] = actions[:, t]
        batch.step(nstep=5)
    seconds = time.perf_counter() - start
    assert n == actions.shape[0]
    return seconds


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--tasks", type=int, default=40)
    parser.add_argument("--episodes", type=int, default=20)
    parser.add_argument("--horizon", type=int, default=200)
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--curvature-every", type=int, default=1)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()

    torch.set_num_threads(options.threads)
    worker = Recorder(options.threads, options.horizon)
    env = worker.env(options.tasks * options.episodes)
    config = MAMLConfig(
        tasks=options.tasks, episodes=options.episodes, curvature_every=options.curvature_every
    )
    maml = MAML(config, env.single_observation_space, env.single_action_space, 0, options.device)
    rows = []
    for repeat in range(options.repeats + 1):  # the first warms up
        worker.trajectories.clear()
        worker.seconds, start = 0.0, time.perf_counter()
        batch = maml.collect(worker, Key(0, repeat))
        collected = time.perf_counter()
        maml.update(batch)
        if options.device != "cpu":
            torch.cuda.synchronize()
        end = time.perf_counter()
        physics = sum(bare_physics_seconds(env, t, s) for t, s in worker.trajectories)
        rows.append(
            {
                "physics": physics,
                "rollout": worker.seconds,
                "adapt": collected - start - worker.seconds,
                "update": end - collected,
                "iteration": end - start,
                "env_steps": batch.env_steps,
            }
        )
    rows = rows[1:]
    median = {name: statistics.median(row[name] for row in rows) for name in rows[0]}
    print(f"{'':>10} {'seconds':>9} {'/ physics':>9}")
    for name in ("physics", "rollout", "adapt", "update", "iteration"):
        print(f"{name:>10} {median[name]:9.3f} {median[name] / median['physics']:9.2f}")
    print(f"{median['env_steps'] / median['iteration']:,.0f} env steps/s")
    if options.json:
        record = {
            "settings": vars(options) | {"json": None},
            "machine": {"cores": os.cpu_count(), "platform": platform.machine()},
            "torch": torch.__version__,
            "rows": rows,
            "median": median,
        }
        options.json.write_text(json.dumps(record, indent=1) + "\n")


if __name__ == "__main__":
    main()
