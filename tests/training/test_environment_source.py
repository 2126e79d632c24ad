"""A run that goes on with, or is evaluated in, a changed environment says so."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

import train
from metarl.runs.trained_run import load_run
from tests.programs import write_config

LINE = {"name": "tests.toy_envs:Line", "horizon": 3}


def test_a_changed_environment_is_told(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    run = tmp_path / "run"
    words = ["--config", str(write_config(tmp_path, env=LINE, iterations=1)), "--run-dir", str(run)]
    assert train.main(words) == 0
    source = json.loads((run / "meta.json").read_text())["environment_source"]
    assert len(source) == 64
    load_run(run, trust_code=True).worker.close()
    assert "has changed" not in capsys.readouterr().err
    monkeypatch.setattr("metarl.runs.build.source_hash", lambda name, tasks: "0" * 64)
    load_run(run, trust_code=True).worker.close()
    warning = f"tests.toy_envs:Line has changed since the checkpoint in {run} was written"
    assert warning in capsys.readouterr().err
    assert train.main([*words, "--resume", "--iterations", "2"]) == 0
    assert warning in capsys.readouterr().err
    assert train.main([*words, "--resume", "--iterations", "3"]) == 0
    assert "has changed" not in capsys.readouterr().err, "the checkpoint is of this one now"
