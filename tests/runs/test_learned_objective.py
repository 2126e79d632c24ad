"""A learned objective in a loop of one's own: the one of the run, and what is refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import metarl
from metarl.algorithms.metagenrl import MetaGenRL
from metarl.errors import UserError
from metarl.networks.objective import ObjectiveNetwork, Steps
from metarl.runs.learned_objective import LearnedObjective
from tests.programs import Whole, write_config

NETWORK = ObjectiveNetwork(4)


def batch(n: int = 5, t: int = 3, a: int = 2) -> dict[str, torch.Tensor]:
    draw = torch.Generator().manual_seed(0)
    shapes = {"actions": (n, t, a), "policy_actions": (n, t, a)}
    shapes |= dict.fromkeys(("rewards", "values", "next_values"), (n, t))  # type: ignore[arg-type]
    parts = {name: torch.randn(shape, generator=draw) for name, shape in shapes.items()}
    parts["terminated"] = torch.zeros(n, t, dtype=torch.bool)
    parts["terminated"][1, -1] = True
    return parts


def objective() -> LearnedObjective:
    return LearnedObjective(NETWORK, NETWORK.init(np.random.default_rng(0)), 0.9, 3)


def test_it_is_the_objective_of_meta_training() -> None:
    parts = batch()
    valid = torch.ones(5, 3, dtype=torch.bool)
    valid[0, 1:] = False
    found = objective()(**parts, valid=valid)
    after = torch.where(parts["terminated"], 0.0, parts["next_values"])
    names = ("actions", "policy_actions", "rewards", "values")
    rows = [x.transpose(0, 1).unsqueeze(0) for x in (*(parts[n] for n in names), after, valid)]
    steps = Steps(*rows, 0.9)  # type: ignore[arg-type, call-arg, misc]
    (losses,) = NETWORK(NETWORK.init(np.random.default_rng(0)), [steps])
    torch.testing.assert_close(found, losses[steps.valid].mean())


def test_it_is_differentiated_through_the_policy_alone() -> None:
    parts = batch()
    for name in ("policy_actions", "values", "next_values"):
        parts[name].requires_grad_()
    objective()(**parts).backward()
    gradient = parts["policy_actions"].grad
    assert gradient is not None
    assert gradient.abs().sum() > 0
    assert parts["values"].grad is None
    assert parts["next_values"].grad is None


@pytest.mark.parametrize("name", ["rewards", "terminated", "policy_actions"])
def test_shapes_that_do_not_go_together_are_refused(name: str) -> None:
    parts = batch()
    parts[name] = parts[name][:, :2]
    with pytest.raises(ValueError, match=name):
        objective()(**parts)


def test_it_comes_out_of_a_run_whatever_else_that_names(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    small: dict[str, Any] = {
        "name": "metagenrl",
        "population": 1,
        "objective_width": 4,
        "discount": 0.8,
    }
    fast = {"discount": 0.8, "random_steps": 0, "sequence": 3, "batch": 4, "hidden_sizes": [4]}
    config = write_config(tmp_path, iterations=1, algorithm=Whole(small | fast))
    run = metarl.train(config, run_dir=str(tmp_path / "run"))
    assert isinstance(run.algorithm, MetaGenRL)
    path = tmp_path / "run/config.yaml"
    path.write_text(path.read_text().replace("name: point_navigation", "name: trap:Env"))
    found = metarl.load_objective(tmp_path / "run")
    assert (found.discount, found.sequence) == (0.8, 3)
    same = LearnedObjective(run.algorithm.network, run.algorithm.objective.params, 0.8, 3)
    assert torch.equal(found(**batch()), same(**batch()))
    with pytest.raises(UserError, match="is no run"):
        metarl.load_objective(tmp_path / "nowhere")
    path.write_text(path.read_text().replace("objective_width: 4", "objective_width: 5"))
    with pytest.raises(UserError, match="holds no objective of metagenrl: objective\\['head0"):
        metarl.load_objective(tmp_path / "run")
    path.write_text("algorithm: {name: maml}")
    with pytest.raises(UserError, match="is a run of maml: only metagenrl learns an objective"):
        metarl.load_objective(tmp_path / "run")
