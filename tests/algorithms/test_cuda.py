"""The same update, checkpoint and agent on a GPU as on the CPU; skipped where there is none."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from metarl import envs
from metarl.algorithms import ALGORITHMS, algorithm_class
from metarl.algorithms.maml import GradientBatch
from metarl.evaluation.plan import EvaluationPlan
from metarl.evaluation.protocol import evaluate
from metarl.experience.rollout import RolloutWorker
from metarl.random import Key
from tests.algorithms.test_other_device import after_an_update

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no CUDA device")

EPISODIC = [
    name
    for name in ALGORITHMS
    if "episodes" in algorithm_class(name).config_class.model_fields
    and "capacity" not in algorithm_class(name).config_class.model_fields
]
"""Those that learn from the episodes of one iteration."""
FEW: dict[str, Any] = {"tasks": 8, "episodes": 4}


def worker_of(env: str = "point_navigation") -> RolloutWorker:
    return RolloutWorker(lambda lanes: envs.make(env, lanes, horizon=20))


def built(name: str, device: str, worker: RolloutWorker) -> Any:
    cls: Any = algorithm_class(name)
    env = worker.env(1)
    spaces = env.single_observation_space, env.single_action_space
    return cls(cls.config_class.model_validate(FEW), *spaces, 1, device)


def on_the_gpu(batch: GradientBatch) -> GradientBatch:
    """The same data of a meta-iteration, there."""
    data = [samples.map(lambda x: x.cuda()) for samples in batch.data]
    return replace(batch, data=data, returns=tuple(x.cuda() for x in batch.returns))


def apart(state: Any, other: Any) -> float:
    """The largest difference between two states, relative to the largest number of a tensor."""
    if isinstance(state, dict):
        return max(map(apart, state.values(), (other[key] for key in state)), default=0.0)
    if isinstance(state, torch.Tensor) and state.is_floating_point():
        scale = float(other.abs().max()) or 1.0
        return float((state - other).abs().max()) / scale
    return 0.0


@pytest.mark.parametrize("env", ["point_navigation", "half_cheetah_vel"])
@pytest.mark.parametrize("name", EPISODIC)
def test_losses_and_gradients_on_the_gpu_are_those_on_the_cpu(name: str, env: str) -> None:
    """Of the same episodes, and before any step: a trust region amplifies what rounding leaves."""
    worker = worker_of(env)
    here, there = (built(name, device, worker) for device in ("cpu", "cuda"))
    batch = here.collect(worker, Key(1, 1))
    if name in ("rl2", "varibad", "reptile"):  # which have no objective
        moved = batch if name != "reptile" else on_the_gpu(batch)
        norms = [x.update(y)["gradient_norm"] for x, y in ((here, batch), (there, moved))]
        assert norms[1] == pytest.approx(norms[0], rel=1e-3)
        return
    objectives = here.objective(batch), there.objective(on_the_gpu(batch))
    (losses, gradient), (losses_there, gradient_there) = (
        objective.loss_and_gradient() for objective in objectives
    )
    torch.testing.assert_close(losses_there.cpu(), losses, rtol=1e-4, atol=1e-5)
    assert apart(gradient_there.cpu(), gradient) < 1e-3
    curved, curved_there = (
        objective.curvature_product(gradient.to(x.device))
        for objective, x in zip(objectives, (here, there), strict=True)
    )
    assert apart(curved_there.cpu(), curved) < 1e-3


@pytest.mark.parametrize("name", ALGORITHMS)
def test_an_update_on_the_gpu_is_that_on_the_cpu(name: str) -> None:
    """Of very few data, all algorithms; of more see above."""
    expected, found = (after_an_update(name, torch.device(d)) for d in ("cpu", "cuda"))
    torch.testing.assert_close(found, expected, rtol=1e-2, atol=1e-3)


@pytest.mark.parametrize("name", EPISODIC)
def test_two_runs_on_the_gpu_are_the_same_to_the_bit(name: str) -> None:
    states = []
    for _ in range(2):
        worker = worker_of()
        algorithm = built(name, "cuda", worker)
        for iteration in (1, 2, 3):
            algorithm.update(algorithm.collect(worker, Key(1, iteration)))
        states.append(algorithm.state_dict())
    torch.testing.assert_close(*states, rtol=0.0, atol=0.0)


@pytest.mark.parametrize("name", EPISODIC)
def test_a_checkpoint_goes_to_the_cpu_and_back(name: str) -> None:
    worker = worker_of()
    first = built(name, "cuda", worker)
    first.update(first.collect(worker, Key(1, 1)))
    saved = first.state_dict()
    on_cpu = built(name, "cpu", worker)
    on_cpu.load_state_dict(saved)
    torch.testing.assert_close(on_cpu.state_dict(), saved, rtol=0.0, atol=0.0)
    again = built(name, "cuda", worker)
    again.load_state_dict(on_cpu.state_dict())
    for algorithm in (first, again):
        algorithm.update(algorithm.collect(worker, Key(1, 2)))
    torch.testing.assert_close(first.state_dict(), again.state_dict(), rtol=0.0, atol=0.0)


@pytest.mark.parametrize("name", EPISODIC)
def test_an_agent_adapts_on_the_gpu_as_on_the_cpu(name: str) -> None:
    plan = EvaluationPlan("validation", episodes=2, adaptation_steps=2)
    worker, returns = worker_of(), []
    tasks = plan.tasks(worker.task_distribution)
    saved = built(name, "cpu", worker).state_dict()
    for device in ("cpu", "cuda"):
        algorithm = built(name, device, worker)
        algorithm.load_state_dict(saved)
        agent = algorithm.agent("stochastic", Key(0, evaluation=True))
        returns.append(evaluate(agent, worker.env(2 * len(tasks)), tasks, plan).returns)
    np.testing.assert_allclose(returns[1], returns[0], rtol=1e-3, atol=1e-3)
