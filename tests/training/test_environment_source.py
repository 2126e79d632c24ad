"""A run that goes on with, or is evaluated in, a changed environment says so."""

from __future__ import annotations

import json
import textwrap
from pathlib import Path

import pytest

import train
from metarl.envs.source import source_hash
from metarl.runs.trained_run import load_run
from metarl.storage.checkpoint import load_checkpoint
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


def test_an_environment_that_is_edited_meanwhile_is_the_one_that_was_trained_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    edits_itself = """
        from pathlib import Path
        from tests.toy_envs import Line

        class Edited(Line):
            def _advance(self, *args):
                with open(__file__, "a") as file:
                    file.write("edited = True\\n")
                return super()._advance(*args)
    """
    (tmp_path / "edited_meanwhile.py").write_text(textwrap.dedent(edits_itself))
    monkeypatch.syspath_prepend(tmp_path)
    name = "edited_meanwhile:Edited"
    before, run = source_hash(name), tmp_path / "run"
    config = write_config(tmp_path, env={"name": name, "horizon": 3}, iterations=1)
    assert train.main(["--config", str(config), "--run-dir", str(run)]) == 0
    assert source_hash(name) != before
    assert load_checkpoint(run).state["environment_source"] == before
    assert json.loads((run / "meta.json").read_text())["environment_source"] == before
