"""Whole runs of PEARL: exact after kills, buffers and all; evaluated without them."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

import train
from metarl import load_run
from metarl.cli.main import main
from metarl.config.loading import load_config
from metarl.storage import segments
from tests.programs import ROOT, Forks, Whole, assert_same_state, lines, write_config
from tests.training.test_training import kill_ten_times

PEARL: dict[str, Any] = {
    "name": "pearl",
    "training_tasks": 5,
    "tasks": 2,
    "initial_episodes": 1,
    "posterior_episodes": 1,
    "updates": 2,
    "batch_tasks": 2,
    "transitions": 4,
    "context": 4,
    "replay_capacity": 40,
    "context_capacity": 20,
    "encoder_sizes": [8],
    "hidden_sizes": [8],
}


def words(folder: Path, run: Path, **changes: Any) -> list[str]:
    folder.mkdir(exist_ok=True)
    algorithm = Whole(PEARL | changes.pop("algorithm", {}))
    config = write_config(folder, algorithm=algorithm, **changes)
    return ["--config", str(config), "--run-dir", str(run)]


@pytest.mark.slow
def test_ten_kills_leave_no_trace(
    forks: Forks, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Rings go round several times between them, and two checkpoints are kept."""
    few = {"interval": 3, "keep": 2}
    kill_ten_times(forks, tmp_path, 30, algorithm=Whole(PEARL), checkpoint=few)
    assert_same_state(tmp_path / "alone", tmp_path / "killed")


def test_a_run_in_parts_is_the_run_in_one(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    straight, parts = tmp_path / "straight", tmp_path / "parts"
    assert train.main(words(tmp_path, straight, iterations=7)) == 0
    assert "The replay buffers take up to" in capsys.readouterr().out
    for iterations in (2, 5, 7):
        resume = ["--resume"] if iterations > 2 else []
        assert train.main([*words(tmp_path, parts, iterations=iterations), *resume]) == 0
    assert_same_state(straight, parts)
    manifests = [
        json.loads((r / "checkpoints/7/manifest.json").read_text()) for r in (straight, parts)
    ]
    for manifest, run in zip(manifests, (straight, parts), strict=True):
        assert manifest["buffers"].keys() == {"replay", "context"}
        named = {s["file"] for told in manifest["buffers"].values() for s in told}
        assert named <= {path.name for path in (run / "buffers").iterdir()}


def test_without_its_buffers_a_run_is_evaluated_and_not_resumed(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = tmp_path / "run"
    assert train.main(words(tmp_path, run, iterations=2)) == 0
    shutil.rmtree(run / "buffers")
    assert load_run(run).iteration == 2
    assert main(["evaluate", str(run), "--split", "validation", "--episodes", "2"]) == 0
    capsys.readouterr()
    assert train.main([*words(tmp_path, run, iterations=3), "--resume"]) == 2
    said = capsys.readouterr().err
    assert said.count("\n") == 1
    assert "can be evaluated and not resumed: buffers/replay-" in said
    assert "only a new run could begin" in said
    assert len(lines(run)) == 2


def test_buffers_that_do_not_fit_are_refused_before_anything_is_trained(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    run = tmp_path / "run"
    monkeypatch.setattr(segments, "_free_memory", lambda: 10_000)
    large = {"replay_capacity": 1000}
    assert train.main(words(tmp_path, run, algorithm=large)) == 2
    said = capsys.readouterr().err
    assert said.count("\n") == 1
    assert said.startswith("error: algorithm.replay_capacity is 1,000, with which")
    assert "where 10.0 kB are free" in said
    assert not (run / "metrics.jsonl").exists()


def test_physics_threads_change_nothing(tmp_path: Path) -> None:
    for threads in (1, 2):
        rollout = {"physics_threads": threads}
        run = tmp_path / f"run_{threads}"
        assert train.main(words(tmp_path, run, iterations=2, rollout=rollout)) == 0
    assert_same_state(tmp_path / "run_1", tmp_path / "run_2")


@pytest.mark.parametrize(
    "path", sorted((ROOT / "configs").glob("pearl_*.yaml")), ids=lambda p: p.stem
)
def test_the_configs_are_sound(path: Path, tmp_path: Path) -> None:
    """They load, and one small iteration runs."""
    assert load_config(path, []).algorithm.name == "pearl"
    small = ["--iterations", "1", "--env.horizon", "5", "--algorithm.training_tasks", "20"]
    small += ["--algorithm.updates", "1", "--tracking.wandb", "disabled"]
    small += ["--evaluation.at_end", "false", "--validation.enabled", "false"]
    assert train.main(["--config", str(path), "--run-dir", str(tmp_path / "run"), *small]) == 0
