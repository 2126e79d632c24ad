"""Whole runs of RL²: exact after kills, the same for any number of threads and workers."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml

import evaluate
import train
from metarl.config.loading import load_config
from tests.programs import ROOT, Forks, assert_same_state, lines, write_config
from tests.training.test_training import kill_ten_times

RL2: dict[str, Any] = {
    "name": "rl2",
    "tasks": 4,
    "lanes": 1,
    "episodes": 2,
    "width": 8,
    "minibatches": 2,
}


def rl2_config(folder: Path, **changes: Any) -> Path:
    """The tiny config with RL² for its algorithm."""
    path = write_config(folder, **changes)
    config = yaml.safe_load(path.read_text())
    config["algorithm"] = RL2 | changes.get("algorithm", {})
    path.write_text(yaml.safe_dump(config))
    return path


def trained(folder: Path, **changes: Any) -> Path:
    folder.mkdir()
    run = folder / "run"
    words = ["--config", str(rl2_config(folder, **changes)), "--run-dir", str(run)]
    assert train.main(words) == 0
    return run


def test_a_run_in_parts_is_the_run_in_one(tmp_path: Path) -> None:
    alone, parts = trained(tmp_path / "alone", iterations=3), trained(tmp_path / "a", iterations=2)
    assert train.main(["--run-dir", str(parts), "--resume", "--iterations", "3"]) == 0
    assert_same_state(alone, parts)


@pytest.mark.slow
def test_ten_kills_leave_no_trace(
    forks: Forks, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tests.training.test_training.write_config", rl2_config)
    kill_ten_times(forks, tmp_path, 30)
    assert_same_state(tmp_path / "alone", tmp_path / "killed")


@pytest.mark.slow
def test_ten_kills_leave_no_trace_with_a_transformer(
    forks: Forks, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tests.training.test_training.write_config", rl2_config)
    kill_ten_times(forks, tmp_path, 30, algorithm={"core": {"name": "transformer", "context": 5}})
    assert_same_state(tmp_path / "alone", tmp_path / "killed")


@pytest.mark.slow
def test_ten_kills_leave_no_trace_on_half_cheetah(
    forks: Forks, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tests.training.test_training.write_config", rl2_config)
    env = {"name": "half_cheetah_vel", "horizon": 10}
    kill_ten_times(forks, tmp_path, 30, env=env, algorithm={"width": 32})
    assert_same_state(tmp_path / "alone", tmp_path / "killed")


@pytest.mark.parametrize(("lr", "warnings"), [(0.3, 1), (0.001, 0)])
def test_an_update_that_goes_very_far_is_told_once(
    lr: float, warnings: int, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    env = {"name": "tests.toy_envs:Line", "horizon": 5}
    algorithm = {"lr": lr, "target_kl": None, "initial_std": 0.1}
    run = trained(tmp_path / "a", env=env, algorithm=algorithm, iterations=4)
    far = [row["iteration"] for row in lines(run) if row["kl/update"] > 1.0]
    output = capsys.readouterr().out
    assert output.count("warning: ") == warnings == min(len(far), 1)
    if far:
        assert len(far) > 1
        assert f"warning: The update of iteration {far[0]} moved the policy by" in output
        assert "set algorithm.target_kl" in output


def test_physics_threads_change_nothing(tmp_path: Path) -> None:
    env = {"name": "half_cheetah_vel", "horizon": 6}
    runs = [
        trained(tmp_path / str(n), env=env, rollout={"physics_threads": n}, iterations=2)
        for n in (1, 2)
    ]
    assert_same_state(*runs)


@pytest.mark.parametrize("name", ["Chooser", "Reach"])
def test_worker_processes_change_nothing(tmp_path: Path, name: str) -> None:
    """Also where lanes end early and start again alone; discrete and continuous."""
    runs = []
    for workers in (1, 3):
        folder = tmp_path / str(workers)
        folder.mkdir()
        config = rl2_config(folder, iterations=2, rollout={"workers": workers})
        text = config.read_text().replace("  horizon: 10\n", "")  # the environment's own
        config.write_text(text.replace("point_navigation", f"tests.envs.user_envs:{name}"))
        run = folder / "run"
        assert train.main(["--config", str(config), "--run-dir", str(run)]) == 0
        runs.append(run)
    assert_same_state(*runs)


def test_validation_changes_nothing_and_names_episodes(tmp_path: Path) -> None:
    on = {"enabled": True, "interval": 1, "episodes": 3, "adaptation_steps": 2}
    runs = [
        trained(tmp_path / str(i), validation=v) for i, v in enumerate([{"enabled": False}, on])
    ]
    assert_same_state(*runs)
    record = lines(runs[1], "validation.jsonl")[0]
    assert [name for name in record if name.startswith("return/")] == [
        f"return/episode_{k}" for k in (1, 2, 3)
    ]


def test_the_report_speaks_of_episodes(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = trained(tmp_path / "a", env={"name": "point_navigation", "terminate": False})
    words = ["--run", str(run), "--adaptation-steps", "4", "--episodes", "2"]
    assert evaluate.main(words) == 0
    folder = run / "evaluation" / "held_out"
    result = json.loads((folder / "evaluation.json").read_text())
    assert result["x"] == "episode"
    assert result["action_mode"] == "deterministic"
    assert result["other_mode"]["action_mode"] == "stochastic"
    assert result["episodes_used"] == [0, 1, 2, 3, 4]
    assert result["env_steps_used"] == [0, 10, 20, 30, 40]
    assert len(result["settling_step"]) == 5
    assert result["forgets"] is False
    report = (folder / "report.md").read_text()
    assert "episode 5" in report
    assert "How fast within an episode" in report
    assert "gradient step" not in report
    assert (folder / "adaptation_picture.png").exists()

    assert evaluate.main([*words, "--forget", "true", "--mode", "deterministic"]) == 0
    forgetful = json.loads((run / "evaluation/held_out_forget/evaluation.json").read_text())
    assert forgetful["forgets"] is True
    assert forgetful["episodes_used"] == forgetful["env_steps_used"] == [0] * 5
    assert forgetful["returns"][0] == result["returns"][0]
    assert forgetful["returns"][4] == forgetful["returns"][0]  # no memory, no noise, one start
    assert forgetful["returns"][4] != result["returns"][4]
    assert "ABLATION" in (run / "evaluation/held_out_forget/report.md").read_text()


@pytest.mark.parametrize(
    "path", sorted((ROOT / "configs").glob("rl2_*.yaml")), ids=lambda p: p.stem
)
def test_the_configs_are_sound(path: Path, tmp_path: Path) -> None:
    """They load, and one small iteration runs."""
    config = load_config(path, [])
    assert config.algorithm.name == "rl2"
    if config.env.name == "meta_world":
        pytest.importorskip("metaworld", reason="an optional part")
    words = ["--config", str(path), "--run-dir", str(tmp_path / "run"), "--iterations", "1"]
    length = "--env.pulls" if config.env.name == "bandit" else "--env.horizon"
    words += [length, "5", "--algorithm.tasks", "4", "--algorithm.lanes", "1"]
    words += ["--algorithm.minibatches", "4"]
    words += ["--tracking.wandb", "disabled", "--evaluation.at_end", "false"]
    assert train.main([*words, "--validation.enabled", "false"]) == 0


def test_the_sparse_task_pays_exploring() -> None:
    """Credit must reach the first episode of a trial: γ^horizon >= 0.3."""
    config = load_config(ROOT / "configs/rl2_navigation_sparse.yaml", [])
    assert config.algorithm.discount**config.env.horizon >= 0.3
    assert config.env.reward == "sparse"
    assert (config.env.region, config.env.radius, config.env.horizon) == ("semicircle", 1.0, 100)
