"""Whole runs of the supervised family: exact after a resume and after kills."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

import train
from tests.programs import Forks, Whole, assert_same_state
from tests.training.test_training import kill_ten_times, trained

NAMES = ("maml", "fomaml", "anil", "meta_sgd", "reptile")


def changes(name: str) -> dict[str, Any]:
    """Of the tiny config."""
    algorithm = {"name": f"few_shot_{name}", "tasks": 3, "queries": 4, "adaptation_steps": 2}
    network = {"name": "mlp", "hidden_sizes": [5]}
    outer = {"name": "adam", "lr_decay_iterations": 5}
    env = {"name": "sinusoid", "shots": 3}
    return {
        "env": Whole(env),
        "algorithm": Whole(algorithm | {"network": network, "outer": outer}),
    }


@pytest.mark.parametrize("name", NAMES)
def test_a_resume_leaves_no_trace(name: str, tmp_path: Path) -> None:
    alone = trained(tmp_path / "alone", iterations=3, **changes(name))
    run = trained(tmp_path / "resumed", iterations=2, **changes(name))
    assert train.main(["--run-dir", str(run), "--resume", "--iterations", "3"]) == 0
    assert_same_state(alone, run)


@pytest.mark.slow
def test_ten_kills_leave_no_trace_of_reptiles_minibatches(forks: Forks, tmp_path: Path) -> None:
    kill_ten_times(forks, tmp_path, 15, **changes("reptile"))
    assert_same_state(tmp_path / "alone", tmp_path / "killed")
