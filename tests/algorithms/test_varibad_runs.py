"""Whole runs of VariBAD: exact after kills, with the recent trials that it learns from."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

import evaluate
import train
from metarl.config.loading import load_config
from tests.programs import ROOT, Forks, assert_same_state, write_config
from tests.training.test_training import kill_ten_times

VARIBAD: dict[str, Any] = {
    "name": "varibad",
    "tasks": 4,
    "lanes": 1,
    "episodes": 2,
    "width": 8,
    "head_sizes": [8],
    "minibatches": 2,
    "model_updates": 2,
    "model_trials": 4,
    "elbo_terms": 5,
    "decoded_steps": 5,
    "recent_trials": 10,
}


def varibad_config(folder: Path, **changes: Any) -> Path:
    """The tiny config with VariBAD for its algorithm."""
    path = write_config(folder, **changes)
    config = yaml.safe_load(path.read_text())
    config["algorithm"] = VARIBAD | changes.get("algorithm", {})
    path.write_text(yaml.safe_dump(config))
    return path


@pytest.mark.slow
def test_ten_kills_leave_no_trace(
    forks: Forks, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The buffer is full by the third iteration, and turns over."""
    monkeypatch.setattr("tests.training.test_training.write_config", varibad_config)
    kill_ten_times(forks, tmp_path, 15)
    assert_same_state(tmp_path / "alone", tmp_path / "killed")


def test_a_run_is_evaluated(tmp_path: Path) -> None:
    run = tmp_path / "run"
    words = ["--config", str(varibad_config(tmp_path, iterations=1)), "--run-dir", str(run)]
    assert train.main(words) == 0
    assert evaluate.main(["--run", str(run), "--adaptation-steps", "2", "--episodes", "2"]) == 0
    report = (run / "evaluation/held_out/report.md").read_text()
    assert "episode 3" in report
    assert "beliefs.png" in report
    assert (run / "evaluation/held_out/beliefs.png").exists()


@pytest.mark.parametrize(
    "path", sorted((ROOT / "configs").glob("varibad_*.yaml")), ids=lambda p: p.stem
)
def test_the_configs_are_sound(path: Path, tmp_path: Path) -> None:
    """They load, and one small iteration runs."""
    config = load_config(path, [])
    assert config.algorithm.name == "varibad"
    small = {"tasks": 4, "lanes": 1, "minibatches": 4, "model_updates": 1, "model_trials": 2}
    options = [x for n, v in small.items() for x in (f"--algorithm.{n}", str(v))]
    words = ["--config", str(path), "--run-dir", str(tmp_path / "run"), "--iterations", "1"]
    words += ["--env.horizon", "5", *options, "--validation.enabled", "false"]
    words += ["--tracking.wandb", "disabled", "--evaluation.at_end", "false"]
    assert train.main(words) == 0
