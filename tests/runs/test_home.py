"""``~`` is the user's home in every path that he gives."""

from __future__ import annotations

from pathlib import Path

import pytest

import metarl
from metarl.cli.command_line import parse_evaluate_arguments, parse_references_arguments
from metarl.cli.main import main
from metarl.measuring.comparing import open_groups
from metarl.measuring.options import EvaluationOptions
from tests.programs import write_config


def test_home_is_known_in_every_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    home = tmp_path / "home"
    home.mkdir()
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.chdir(tmp_path)
    write_config(home, iterations=1)
    assert main(["train", "--config=~/config.yaml", "--run-dir=~/a"]) == 0
    assert main(["train", "--run-dir=~/a", "--resume", "--iterations", "2"]) == 0
    fields = {"run_dir": "~/b", "init_from": "~/a", "seed": 2}
    assert metarl.train("~/config.yaml", **fields).folder == home / "b"  # type: ignore[arg-type]
    assert metarl.load_run("~/a").folder == home / "a"
    assert len(open_groups(["~/a", "~/b"], EvaluationOptions())) == 2
    words = ["~/a", "--tasks", "~/tasks.csv", "--output=~/out"]
    arguments = parse_evaluate_arguments(words)
    assert arguments.run == (str(home / "a"),)
    assert (arguments.tasks, arguments.output) == (str(home / "tasks.csv"), str(home / "out"))
    references, _ = parse_references_arguments(["~/config.yaml", "--folder", "~/references"])
    assert references.folder == str(home / "references")
    assert not (tmp_path / "~").exists()
