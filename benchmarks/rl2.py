"""An RL² iteration on HalfCheetah against the bare physics of its own rollout, in one process.

    python -m benchmarks.rl2 [--growth] [--core lstm] [--repeats 3] [--json FILE]

The limit is MuJoCo's batch stepping the recorded actions of the same rollout again, with the same
lanes and threads and nothing else: contacts change its cost, so it is measured on those very
actions. Shares are of its speed; absolute figures wander from machine to machine. `--growth` also
varies lanes, width of the memory and episodes of a trial, one at a time.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch

import envs
from envs.half_cheetah import HalfCheetahVel
from metarl.algorithms.rl2 import RL2, RL2Config
from metarl.random import Key
from metarl.rollout import RolloutWorker
from metarl.types import Trial

GROWTH = {"tasks": (32, 64, 128, 256, 512), "width": (32, 64, 128, 256), "episodes": (1, 2, 4)}


def bare_physics_seconds(env: HalfCheetahVel, trial: Trial, key: Key) -> float:
    """Seconds that the simulator alone takes for the trial's actions; resets are not counted."""
    num_tasks, lanes, steps = trial.valid.shape
    actions = trial.actions.flatten(0, 1).clamp(-1, 1).double().numpy()  # [N, S, a]
    batch = env._batch  # the benchmark's business is to go below the environment
    control = batch.bind("ctrl")
    seconds = 0.0
    for s in range(steps):
        if s % env.horizon == 0:  # HalfCheetah never terminates: all lanes start together
            env.reset(seed=key.at(s // env.horizon).reset_seeds(num_tasks, lanes))
        start = time.perf_counter()
        control[:] = actions[:, s]
        batch.step(nstep=5)
        seconds += time.perf_counter() - start
    return seconds


def measure(config: RL2Config, options: argparse.Namespace) -> dict[str, Any]:
    """Medians over some iterations of one setting: seconds, and shares of the bare physics."""
    worker = RolloutWorker(lambda n: envs.make("half_cheetah_vel", n, num_threads=options.threads))
    env = worker.env(config.tasks * config.lanes)
    assert isinstance(env, HalfCheetahVel)
    spaces = env.single_observation_space, env.single_action_space
    algorithm = RL2(config, *spaces, 0, options.device)
    rows = []
    for iteration in range(1, options.repeats + 2):  # the first warms up
        key, before, start = Key(0, iteration), worker.seconds, time.perf_counter()
        batch = algorithm.collect(worker, key)
        algorithm.update(batch)  # its metrics are numbers: the device has finished
        seconds = time.perf_counter() - start
        rollout = worker.seconds - before
        physics = bare_physics_seconds(env, batch.trial, key)
        rows.append((physics, rollout, seconds - rollout, seconds, batch.env_steps))
    worker.close()
    names = ("physics", "rollout", "update", "iteration", "env_steps")
    columns = zip(*rows[1:], strict=True)
    found = {name: statistics.median(x) for name, x in zip(names, columns, strict=True)}
    found["env_steps_per_s"] = found["env_steps"] / found["iteration"]
    found["share_of_physics"] = found["physics"] / found["iteration"]
    fields = ("core", "tasks", "lanes", "width", "episodes", "epochs", "minibatches")
    return {name: getattr(config, name) for name in fields} | found


def settings(options: argparse.Namespace) -> list[RL2Config]:
    """The standard setting, and with --growth its neighbours."""
    fields: dict[str, Any] = {
        "tasks": options.tasks,
        "episodes": options.episodes,
        "width": options.width,
        "core": options.core,
        "epochs": options.epochs,
        "minibatches": options.minibatches,
    }
    found = [RL2Config(**fields)]
    for name, values in GROWTH.items() if options.growth else ():
        found += [RL2Config(**fields | {name: value}) for value in values if value != fields[name]]
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--tasks", type=int, default=128, help="one lane each")
    parser.add_argument("--episodes", type=int, default=2)
    parser.add_argument("--width", type=int, default=128)
    parser.add_argument("--core", choices=("lstm", "gru"), default="lstm")
    parser.add_argument("--epochs", type=int, default=2)
    parser.add_argument("--minibatches", type=int, default=4)
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--growth", action="store_true", help="vary tasks, width and episodes too")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()

    torch.set_num_threads(options.threads)
    print(
        f"{'lanes':>6} {'width':>6} {'episodes':>8} {'physics s':>9} {'rollout':>8} {'update':>7} "
        f"{'iteration':>9} {'env steps/s':>11} {'of physics':>10}"
    )
    rows = []
    for config in settings(options):
        row = measure(config, options)
        rows.append(row)
        print(
            f"{row['tasks'] * row['lanes']:6} {row['width']:6} {row['episodes']:8} "
            f"{row['physics']:9.2f} {row['rollout']:8.2f} {row['update']:7.2f} "
            f"{row['iteration']:9.2f} {row['env_steps_per_s']:11,.0f} "
            f"{row['share_of_physics']:10.1%}",
            flush=True,
        )
    if options.json:
        record = {
            "settings": vars(options) | {"json": None},
            "machine": {"cores": os.cpu_count(), "platform": platform.machine()},
            "torch": torch.__version__,
            "numpy": np.__version__,
            "rows": rows,
        }
        options.json.write_text(json.dumps(record, indent=1) + "\n")


if __name__ == "__main__":
    main()
