"""The update alone: meta-gradient, curvature products, line search, and MAML's own whole update.

    python -m benchmarks.update [--curvature-every 5] [--width 128] [--device cuda] [--json FILE]

What an update costs does not depend on what the numbers are, so the samples are made up: normal
observations and rewards, the policy's own actions. The reference is the bare physics of as many
env steps, taken from a few steps of the very lanes (navigation: the environment's own).
"""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence

import torch

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
from benchmarks.physics import batch_seconds, env_seconds
from benchmarks.setting import Setting, add_options, setting
from metarl.algorithms.maml import MAML, GradientBatch
from metarl.algorithms.settings.outer import TRPOSettings
from metarl.envs import TaskVectorEnv
from metarl.envs.locomotion.mujoco_vector import MujocoTaskVectorEnv
from metarl.maths.params import stack, to_device
from metarl.process import run_program
from metarl.random import Key
from metarl.types import Trajectory


def made_up_trajectory(size: Setting, maml: MAML, k: int) -> Trajectory:
    """Full episodes ``[M, B, T, ·]`` of normal observations and rewards."""
    rng = Key(0, adaptation_step=k).generator("evaluation")
    shape = (size.tasks, size.episodes, size.horizon)

    def normal(*last: int) -> torch.Tensor:
        return torch.from_numpy(rng.standard_normal((*shape, *last), dtype="float32"))

    observations = normal(maml.policy.observation_dim)
    noise = normal(maml.policy.action_dim)
    params = stack(to_device(maml.params, "cpu"), size.tasks)
    policy = maml.policy(params, observations.flatten(1, 2))  # over [M, N] actions
    actions = policy.sample(noise.flatten(1, 2))
    last = torch.zeros(shape, dtype=torch.bool)
    last[..., -1] = True
    return Trajectory(
        observations=observations,
        actions=actions.view(*shape, -1),
        log_probs=policy.log_prob(actions).view(shape),
        rewards=normal(),
        terminated=torch.zeros(shape, dtype=torch.bool),
        truncated=last,
        valid=torch.ones(shape, dtype=torch.bool),
    )


def made_up_batch(size: Setting, maml: MAML, trajectories: Sequence[Trajectory]) -> GradientBatch:
    """A meta-iteration's data on the update's device."""
    data = [maml.advantages.samples(t.to(maml.device)) for t in trajectories]
    env_steps = sum(t.env_steps for t in trajectories)
    tasks = Key(0).generator("tasks").uniform(size=(size.tasks, 1))
    return GradientBatch(0, tasks, data, env_steps, metrics={}, returns=())


def update_parts(maml: MAML, batch: GradientBatch) -> Seconds:
    """Seconds of the parts of one update, and of the whole one by MAML itself."""
    outer, device = maml.config.outer, maml.device.type
    assert isinstance(outer, TRPOSettings)
    times = [time.perf_counter()]

    def lap() -> float:
        synchronize(device)
        times.append(time.perf_counter())
        return times[-1] - times[-2]

    objective = maml.objective(batch)
    _, gradient = objective.loss_and_gradient()
    seconds = {"meta_gradient": lap()}
    objective.curvature_product(gradient)
    objective.curvature_product(gradient)
    seconds["curvature_product"] = lap() / 2
    objective.evaluate(maml.meta.vector() - 1e-3 * gradient / gradient.norm())
    seconds["line_search_evaluation"] = lap()
    # TRPO takes one more product than steps, for the length of the step.
    seconds["curvature_products"] = (outer.cg_steps + 1) * seconds["curvature_product"]
    return seconds | {"update": update_seconds(maml, batch)}


def update_seconds(maml: MAML, batch: GradientBatch) -> float:
    """Seconds of MAML's update, which leaves the parameters as they were."""
    before = maml.state_dict()
    synchronize(maml.device.type)
    start = time.perf_counter()
    maml.update(batch)
    synchronize(maml.device.type)
    seconds = time.perf_counter() - start
    maml.load_state_dict(before)
    return seconds


def physics_seconds(env: TaskVectorEnv, size: Setting, steps: int) -> float:
    """Seconds of a meta-iteration's bare physics, scaled up from a few steps of all its lanes."""
    steps = min(steps, size.horizon)
    rng = Key(0).generator("action")
    actions = rng.uniform(-1.0, 1.0, (steps, *env.action_space.shape))  # type: ignore[misc]
    env.reset(seed=0)
    measured = batch_seconds if isinstance(env, MujocoTaskVectorEnv) else env_seconds
    seconds = measured(env, actions)  # type: ignore[arg-type]
    return seconds * size.env_steps / (steps * env.num_envs)


def run(argv: Sequence[str]) -> int:
    """Measure, print and write."""
    arguments = parser("update", __doc__)
    add_options(arguments)
    arguments.add_argument(
        "--physics-steps", type=count, default=20, help="steps of the reference before scaling"
    )
    options = begin(arguments, argv)
    size = setting(options)
    worker = size.worker()
    maml = size.maml(worker)
    env = worker.env(size.tasks * size.episodes)
    trajectories = [made_up_trajectory(size, maml, k) for k in range(size.adaptation_steps + 1)]
    batch = made_up_batch(size, maml, trajectories)
    rows = interleave(
        lambda: physics_seconds(env, size, options.physics_steps),
        {"update": lambda: update_parts(maml, batch)},
        options.repeats,
    )
    summary: dict[str, object] = {**summarize(rows), "peak_memory_bytes": peak_memory()}
    print_parts(summarize(rows), "environment" if size.env == "navigation" else "physics")
    samples = size.episodes * size.horizon
    print(
        f"{size.tasks} tasks × {samples:,} samples, width {size.width}, {size.device}; "
        f"peak memory {peak_memory() / 2**30:.2f} GiB"
    )
    write_json("update", options, rows, summary)
    worker.close()
    return 0


if __name__ == "__main__":
    sys.exit(run_program(lambda: run(sys.argv[1:])))
