"""Rollouts against the bare physics, and the stepping of vector environments against it.

    python -m benchmarks.rollout [--env ant] [--rivals metarl sync async sb3 envpool] [--json FILE]

First the rollout worker, policy included, on tasks × episodes lanes, against MuJoCo's batch
stepping the same actions again with the same lanes and threads. Then HalfCheetah with random
actions and few lanes (a rival may be a process a lane) in what a user would pick instead, against
the batch with as many lanes, the same actions and the same threads.

Of a random policy's walker and humanoid lanes are soon down: what is left of them is stepped on
its own, and env steps are those of lanes that stand.
"""

from __future__ import annotations

import importlib.util
import sys
import time
from collections.abc import Callable, Sequence
from typing import Any

import gymnasium
import numpy as np
from gymnasium.vector import AsyncVectorEnv, SyncVectorEnv

from benchmarks.measurement import (
    begin,
    count,
    interleave,
    parser,
    print_parts,
    print_table,
    summarize,
    write_json,
)
from benchmarks.physics import batch_seconds, env_seconds, replay
from benchmarks.setting import Setting, add_options, setting
from metarl import envs
from metarl.envs.locomotion.half_cheetah import HalfCheetahVel
from metarl.envs.locomotion.models import silence
from metarl.maths.params import stack
from metarl.networks.mlp import PolicyActor
from metarl.process import run_program
from metarl.random import Key

RIVALS = {
    "metarl": "metarl's TaskVectorEnv",
    "sync": "Gymnasium SyncVectorEnv",
    "async": "Gymnasium AsyncVectorEnv",
    "sb3": "SB3 SubprocVecEnv",
    "envpool": "EnvPool",
}


def half_cheetah() -> gymnasium.Env:
    """Gymnasium's own."""
    with silence():
        return gymnasium.make("HalfCheetah-v5")


def make_rival(name: str, lanes: int, horizon: int, threads: int) -> Any | None:
    """A vector environment with ``reset``, ``step`` and ``close``; None where not installed."""
    if name == "metarl":
        return envs.make("half_cheetah_vel", lanes, num_threads=threads, horizon=horizon)
    if name == "sync":
        return SyncVectorEnv([half_cheetah] * lanes)
    if name == "async":
        return AsyncVectorEnv([half_cheetah] * lanes)
    if name == "sb3":
        from stable_baselines3.common.vec_env import SubprocVecEnv

        return SubprocVecEnv([half_cheetah] * lanes)
    if importlib.util.find_spec("envpool") is None:
        return None
    import envpool  # type: ignore[import-not-found]

    return envpool.make("HalfCheetah-v4", "gymnasium", num_envs=lanes, num_threads=threads)


def rollout_rows(size: Setting, repeats: int) -> tuple[list[dict[str, Any]], int]:
    """The rollout worker against the replay of what it collects; its env steps."""
    worker = size.worker()
    maml = size.maml(worker)
    actor = PolicyActor(maml.policy, stack(maml.params, size.tasks))
    tasks = worker.sample_tasks(size.tasks, Key(0))

    def collect() -> dict[str, float]:
        worker.recordings.clear()
        start = time.perf_counter()
        worker.collect(actor, tasks, size.episodes, Key(0))
        return {"rollout": time.perf_counter() - start}

    env = worker.env(size.tasks * size.episodes)
    rows = interleave(lambda: replay(env, worker.recordings[0]), {"rollout": collect}, repeats)
    env_steps = int(worker.recordings[0].valid().sum())
    worker.close()
    return rows, env_steps


def rival_rows(
    names: Sequence[str], lanes: int, steps: int, threads: int, repeats: int
) -> tuple[list[dict[str, Any]], list[str]]:
    """The rivals' stepping against the bare batch; and those that are not installed."""
    uniform = Key(0).generator("action").uniform(-1.0, 1.0, (steps, lanes, 6))
    actions = uniform.astype(np.float32)
    bare = HalfCheetahVel(lanes, horizon=steps, num_threads=threads)
    rivals = {name: make_rival(name, lanes, steps, threads) for name in names}

    def batch() -> float:
        bare.reset(seed=0)
        return batch_seconds(bare, actions)

    def stepping(env: Any) -> Callable[[], dict[str, float]]:
        def measure() -> dict[str, float]:
            env.reset()
            return {"steps": env_seconds(env, actions)}

        return measure

    there = {name: stepping(env) for name, env in rivals.items() if env is not None}
    rows = interleave(batch, there, repeats)
    for env in rivals.values():
        if env is not None:
            env.close()
    return rows, [name for name, env in rivals.items() if env is None]


def run(argv: Sequence[str]) -> int:
    """Measure, print and write."""
    arguments = parser("rollout", __doc__, repeats=5)
    add_options(arguments)
    arguments.add_argument("--rivals", nargs="*", choices=list(RIVALS), help="of HalfCheetah")
    arguments.add_argument("--lanes", type=count, default=8, help="of the rivals")
    arguments.add_argument("--steps", type=count, default=300, help="of each lane of the rivals")
    options = begin(arguments, argv)
    size = setting(options)
    if options.rivals is None:
        options.rivals = list(RIVALS) if size.env == "half_cheetah" else []
    rows, env_steps = rollout_rows(size, options.repeats)
    measured: dict[str, Any] = summarize(rows)
    share = 1.0 / measured["rollout"]["ratio"]
    print_parts(measured, "environment" if size.env == "navigation" else "physics")
    rates = [env_steps / measured[part]["seconds"] for part in ("reference", "rollout")]
    print(
        f"{size.tasks} × {size.episodes} lanes: rollouts at {100 * share:.1f} % of the limit, "
        f"{rates[1]:,.0f} env steps/s\n"
    )
    measured |= {"share_of_bare": share, "env_steps": env_steps}
    measured |= {"bare_env_steps_per_s": rates[0], "env_steps_per_s": rates[1]}
    summary: dict[str, Any] = {"rollout": measured}

    if options.rivals:
        args = options.rivals, options.lanes, options.steps, options.threads, options.repeats
        stepped, missing = rival_rows(*args)
        rows += stepped
        summary["rivals"] = rivals_summary(stepped, missing, options.lanes * options.steps)
        table = [[RIVALS.get(n, n), *rival_cells(v)] for n, v in summary["rivals"].items()]
        header = [f"HalfCheetah-v5, {options.lanes} lanes", "env steps/s", "of Batch", "spread"]
        print_table(header, table)
    write_json("rollout", options, rows, summary)
    return 0


def rivals_summary(
    rows: Sequence[dict[str, Any]], missing: Sequence[str], env_steps: int
) -> dict[str, dict[str, float] | None]:
    """Rates, and shares of the batch's rate: median, lowest, highest; None if not installed."""
    summary: dict[str, dict[str, float] | None] = {}
    if rows:
        reference = summarize([row | {"seconds": {}} for row in rows])["reference"]["seconds"]
        summary["MuJoCo Batch, nothing else"] = {"env_steps_per_s": env_steps / reference}
    for name in dict.fromkeys(row["name"] for row in rows):
        steps = summarize([row for row in rows if row["name"] == name])["steps"]
        summary[name] = {
            "env_steps_per_s": env_steps / steps["seconds"],
            "share": 1.0 / steps["ratio"],
            "share_low": 1.0 / steps["ratio_high"],
            "share_high": 1.0 / steps["ratio_low"],
        }
    return summary | dict.fromkeys(missing)


def rival_cells(values: dict[str, float] | None) -> list[str]:
    """A rival's cells of the table."""
    if values is None:
        return ["not installed", "", ""]
    rate = f"{values['env_steps_per_s']:,.0f}"
    if "share" not in values:
        return [rate, "1", ""]
    spread = f"{values['share_low']:.3f} to {values['share_high']:.3f}"
    return [rate, f"{values['share']:.3f}", spread]


if __name__ == "__main__":
    sys.exit(run_program(lambda: run(sys.argv[1:])))
