"""Whole runs of recurrent SAC and DQN: exact after kills, replay and all; refusals; configs."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

import train
from metarl.config.loading import load_config
from tests.programs import ROOT, Forks, Whole, assert_same_state, write_config
from tests.training.test_training import kill_ten_times

SMALL: dict[str, Any] = {
    "tasks": 2,
    "episodes": 2,
    "initial_trials": 3,
    "capacity": 8,
    "updates": 1,
    "batch_trials": 3,
    "width": 4,
    "head_sizes": [4],
}
SAC = SMALL | {"name": "recurrent_sac"}
DQN = SMALL | {"name": "recurrent_dqn"}
GRID = Whole({"name": "grid_world"})


def words(folder: Path, run: Path, **changes: Any) -> list[str]:
    folder.mkdir(exist_ok=True)
    config = write_config(folder, **changes)
    return ["--config", str(config), "--run-dir", str(run)]


@pytest.mark.slow
@pytest.mark.parametrize("name", ["recurrent_sac", "recurrent_dqn"])
def test_ten_kills_leave_no_trace(name: str, forks: Forks, tmp_path: Path) -> None:
    """The ring goes round several times between them, and two checkpoints are kept."""
    changes: dict[str, Any] = {"algorithm": Whole(SAC if name == "recurrent_sac" else DQN)}
    changes |= {} if name == "recurrent_sac" else {"env": GRID}
    kill_ten_times(forks, tmp_path, 30, checkpoint={"interval": 3, "keep": 2}, **changes)
    assert_same_state(tmp_path / "alone", tmp_path / "killed")


@pytest.mark.parametrize("name", ["recurrent_sac", "recurrent_dqn"])
def test_a_run_in_parts_is_the_run_in_one(
    name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    changes: dict[str, Any] = {"algorithm": Whole(SAC if name == "recurrent_sac" else DQN)}
    changes |= {} if name == "recurrent_sac" else {"env": GRID}
    straight, parts = tmp_path / "straight", tmp_path / "parts"
    assert train.main(words(tmp_path, straight, iterations=6, **changes)) == 0
    assert "The replay buffers take up to" in capsys.readouterr().out
    for iterations in (2, 6):
        resume = ["--resume"] if iterations > 2 else []
        assert train.main([*words(tmp_path, parts, iterations=iterations, **changes), *resume]) == 0
    assert_same_state(straight, parts)
    manifest = json.loads((parts / "checkpoints/6/manifest.json").read_text())
    assert manifest["buffers"]["replay"]


GRID_YAML = "env: {name: grid_world}\n"
POINT_YAML = "env: {name: point_navigation}\n"
REFUSED = {
    f"{GRID_YAML}algorithm: {{name: recurrent_sac}}": (
        "its actions are numbers, a flat Box, and not Discrete(5), for which there is recurrent_dqn"
    ),
    f"{POINT_YAML}algorithm: {{name: recurrent_dqn}}": (
        "its actions are one choice, Discrete, and not Box(-1.0, 1.0, (2,), float32), for which "
        "there is recurrent_sac"
    ),
    "env: {name: 'tests.spaces_envs:SpacedLanes', observations: image, actions: discrete}\n"
    "algorithm: {name: recurrent_dqn}": "its observations are numbers, and not images",
    "env: {name: 'tests.spaces_envs:SpacedLanes', observations: dict, actions: multi_discrete}\n"
    "algorithm: {name: recurrent_dqn}": "for which there is rl2",
    f"{POINT_YAML}algorithm: {{name: recurrent_sac, width: 6, core: {{name: transformer}}}}": (
        "width must be a multiple of"
    ),
}


@pytest.mark.parametrize("text", REFUSED)
def test_what_cannot_be_is_refused_in_a_sentence(
    text: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = tmp_path / "refused.yaml"
    config.write_text(text)
    assert train.main(["--config", str(config), "--run-dir", str(tmp_path / "run")]) == 2
    said = capsys.readouterr().err
    assert said.startswith("error: ")
    assert said.count("\n") == 1
    assert REFUSED[text] in said


@pytest.mark.parametrize(
    "path", sorted((ROOT / "configs").glob("recurrent_*.yaml")), ids=lambda p: p.stem
)
def test_the_configs_are_sound(path: Path, tmp_path: Path) -> None:
    """They load, and one small iteration runs."""
    assert path.stem.startswith(load_config(path, []).algorithm.name)
    small = ["--iterations", "1", "--env.horizon", "5", "--algorithm.tasks", "2"]
    small += ["--algorithm.initial_trials", "2", "--algorithm.updates", "1"]
    small += ["--tracking.wandb", "disabled", "--evaluation.at_end", "false"]
    small += ["--validation.enabled", "false"]
    assert train.main(["--config", str(path), "--run-dir", str(tmp_path / "run"), *small]) == 0
