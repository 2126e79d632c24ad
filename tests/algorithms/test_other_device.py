"""Every algorithm's update and agent stay on their device, and give there what the CPU gives."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from metarl import envs
from metarl.algorithms import ALGORITHMS, algorithm_class
from metarl.evaluation.evaluation_seeds import evaluate_all
from metarl.evaluation.plan import EvaluationPlan
from metarl.experience.few_shot import FewShotSource
from metarl.experience.rollout import RolloutWorker
from metarl.random import Key
from tests.few_shot_agents import Squares
from tests.other_device import THERE, OtherDevice

NAVIGATION: tuple[str, dict[str, Any]] = ("point_navigation", {"horizon": 3})
ROUNDS: dict[str, Any] = {"tasks": 2, "episodes": 2, "hidden_sizes": (4,)}
DAMPED = {"outer": {"name": "trpo", "cg_damping": 1.0}}  # else it amplifies what rounding leaves
FEW: dict[str, Any] = {"tasks": 2, "queries": 2, "network": {"name": "conv", "filters": 2}}
TRIALS: dict[str, Any] = {"tasks": 2, "lanes": 2, "episodes": 2, "width": 4, "head_sizes": (4,)}
OFF_POLICY = TRIALS | {"initial_trials": 2, "capacity": 9, "updates": 2, "batch_trials": 2}
SETTINGS: dict[str, dict[str, Any]] = {
    "rl2": TRIALS | {"epochs": 1},
    "varibad": TRIALS | {"model_updates": 2, "model_trials": 2, "decode_tasks": True},
    "recurrent_sac": OFF_POLICY,
    "recurrent_dqn": OFF_POLICY,
    "pearl": {
        **{"training_tasks": 3, "tasks": 2, "initial_episodes": 2, "updates": 2, "latent": 2},
        **{"batch_tasks": 2, "transitions": 4, "context": 4, "hidden_sizes": (4,)},
    },
}


def source_of(name: str) -> RolloutWorker | FewShotSource:
    if getattr(algorithm_class(name), "learns_from", "episodes") == "examples":
        return FewShotSource(Squares())
    env, size = ("bandit", {"pulls": 3}) if name == "recurrent_dqn" else NAVIGATION
    return RolloutWorker(lambda lanes: envs.make(env, lanes, **size))


def built(name: str, device: torch.device, source: Any) -> Any:
    cls: Any = algorithm_class(name)
    fields = cls.config_class.model_fields
    given = SETTINGS.get(name, FEW if "queries" in fields else ROUNDS)
    given = given | (DAMPED if "TRPO" in str(fields.get("outer")) else {})
    told = {"horizon": source.horizon} if getattr(cls, "takes_horizon", False) else {}
    return cls(cls.config_class(**given), *source.spaces, 1, device, **told)


def after_an_update(name: str, device: torch.device) -> tuple[dict[str, float], Any]:
    """Its metrics, and the state that it leaves, by way of a checkpoint's."""
    source = source_of(name)
    algorithm, again = (built(name, device, source) for _ in range(2))
    again.load_state_dict(algorithm.state_dict())
    metrics = again.update(again.collect(source, Key(1, 1)))
    return metrics, again.state_dict()


CHEAP = ("few_shot_fomaml", "maml", "rl2")


@pytest.mark.parametrize(
    "name", [pytest.param(n, marks=() if n in CHEAP else pytest.mark.slow) for n in ALGORITHMS]
)
def test_an_update_stays_on_its_device(name: str) -> None:
    expected = after_an_update(name, torch.device("cpu"))
    with OtherDevice() as other:
        found = after_an_update(name, THERE)
    assert other.calls > 100
    torch.testing.assert_close(found, expected, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("name", ["maml", "few_shot_maml"])
def test_an_agent_adapts_on_its_device(name: str) -> None:
    source, found = source_of(name), []
    plan = EvaluationPlan("validation", episodes=2, adaptation_steps=1)
    tasks = source.task_distribution.validation()[:2]
    for device in (torch.device("cpu"), THERE):
        with OtherDevice() as other:
            algorithm = built(name, device, source)
            agent = algorithm.agent("deterministic", Key(0, evaluation=True))
            measured = evaluate_all({"one": {0: agent}.get}, source, tasks, plan)
            found.append(measured["one"].returns)
        assert (other.calls > 0) == (device == THERE)
    np.testing.assert_allclose(*found, rtol=1e-5)
