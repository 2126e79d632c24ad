"""Whole runs of all algorithms that adapt by gradient steps: exact, evaluated, reported."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

import evaluate
import train
from metarl.config.loading import config_to_dict, load_config
from tests.programs import ROOT, Forks, assert_same_state
from tests.training.test_training import LINE, kill_ten_times, trained

SURROGATE = ("trpo", "ppo", "adam")
OUTERS = dict.fromkeys(("anil", "e_maml", "fomaml", "maml", "meta_sgd"), SURROGATE)
OUTERS |= dict.fromkeys(("cavia", "maesn"), ("trpo", "adam"))
OUTERS |= {"promp": ("ppo",), "reptile": ("sgd", "adam")}
UPRIGHT = ("cavia", "maesn")
OTHERS = sorted(OUTERS.keys() - {"maml"})


def changes(name: str, outer: str) -> dict[str, Any]:
    """Of the tiny config: two steps, so that there is a step between others."""
    return {"env": LINE["env"], "algorithm": {"name": name, "outer": outer, "adaptation_steps": 2}}


@pytest.mark.parametrize(
    ("name", "outer"), [(name, outer) for name, outers in OUTERS.items() for outer in outers]
)
def test_a_resume_leaves_no_trace(name: str, outer: str, tmp_path: Path) -> None:
    alone = trained(tmp_path / "alone", iterations=3, **changes(name, outer))
    run = trained(tmp_path / "resumed", iterations=2, **changes(name, outer))
    assert train.main(["--run-dir", str(run), "--resume", "--trust-code", "--iterations", "3"]) == 0
    assert_same_state(alone, run)


@pytest.mark.slow
def test_ten_kills_leave_no_trace_of_what_is_drawn_once_an_episode(
    forks: Forks, tmp_path: Path
) -> None:
    algorithm = {"name": "maesn", "adaptation_steps": 2, "action_noise": "episode"}
    kill_ten_times(forks, tmp_path, 15, algorithm=algorithm)
    assert_same_state(tmp_path / "alone", tmp_path / "killed")


@pytest.mark.slow
def test_ten_kills_leave_no_trace_of_adam_and_the_kl_coefficients(
    forks: Forks, tmp_path: Path
) -> None:
    algorithm = {"name": "promp", "adaptation_steps": 2, "outer": {"name": "ppo", "steps": 2}}
    kill_ten_times(forks, tmp_path, 15, algorithm=algorithm)
    assert_same_state(tmp_path / "alone", tmp_path / "killed")


@pytest.mark.usefixtures("without_plots")
@pytest.mark.parametrize("name", OUTERS)
def test_a_run_is_evaluated_and_reported(name: str, tmp_path: Path) -> None:
    run = trained(tmp_path / "a", iterations=1, **changes(name, OUTERS[name][-1]))
    words = ["--run", str(run), "--episodes", "2", "--adaptation-steps", "2", "--trust-code"]
    assert evaluate.main(words) == 0
    folder = run / "evaluation" / "held_out"
    result = json.loads((folder / "evaluation.json").read_text())
    assert result["algorithm"] == name
    assert result["x"] == "gradient_step"
    assert result["episodes_used"] == [0, 2, 4]
    before, after, _ = result["returns"]
    assert before != after
    assert "gradient step" in (folder / "report.md").read_text()


@pytest.mark.parametrize("task", ["navigation", "half_cheetah_vel"])
@pytest.mark.parametrize("name", OTHERS)
def test_the_configs_differ_from_mamls_in_the_method_alone(name: str, task: str) -> None:
    """Tasks, episodes, policy, validation, evaluation and budget are the same.

    On navigation each has step sizes of its own, chosen alike for all, and TRPO's curvature comes
    from every tenth step. On HalfCheetah the later ones begin with less noise and smaller steps.
    """
    own, mamls = (
        config_to_dict(load_config(ROOT / f"configs/{n}_{task}.yaml", [])) for n in (name, "maml")
    )
    assert own.pop("name") == f"{name}_{task}"
    mamls.pop("name")
    settings, mamls_settings = own.pop("algorithm"), mamls.pop("algorithm")
    assert own == mamls
    differing = {n for n in settings.keys() & mamls_settings if settings[n] != mamls_settings[n]}
    of_the_method = {"name", "first_order", "inner_estimator"}
    if name in UPRIGHT and task == "half_cheetah_vel":
        of_the_method |= {"initial_std", "inner_lr", "evaluation_inner_lr", "outer"}
    if settings["outer"]["name"] != "trpo":
        of_the_method |= {"outer"}
    if task == "navigation":
        of_the_method |= {"inner_lr", "outer"}
        if settings["outer"]["name"] == "trpo":
            tuned = {"max_kl": settings["outer"]["max_kl"], "curvature_every": 10}
            assert settings["outer"] == mamls_settings["outer"] | tuned
    assert differing <= of_the_method
