"""A new run that begins with what another has learned."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import torch

import metarl
from metarl.cli.main import main
from metarl.measuring.comparing import open_groups
from metarl.measuring.options import EvaluationOptions
from metarl.storage.checkpoint import load_checkpoint
from tests.programs import Nested, tiny, write_config
from tests.runs.strangers import stranger


@pytest.fixture(scope="module")
def first(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run whose optimiser has a memory."""
    folder = tmp_path_factory.mktemp("first")
    config = write_config(
        folder, iterations=2, algorithm={"outer": "adam", "normalize_observations": True}
    )
    assert main(["train", str(config), "--run-dir", str(folder / "run")]) == 0
    return folder / "run"


@pytest.fixture
def config(tmp_path: Path) -> str:
    """Other settings, another environment of the same spaces."""
    env = {"name": "point_navigation", "horizon": 8, "radius": 1.0}
    algorithm = {"outer": "adam", "inner_lr": [0.05], "normalize_observations": True}
    return str(write_config(tmp_path, iterations=1, seed=5, env=env, algorithm=algorithm))


def begun(run: Path) -> Nested:
    state: Nested = load_checkpoint(run, 0).state["algorithm"]
    return state


def test_a_new_run_begins_with_what_another_has_learned(
    first: Path, config: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = tmp_path / "run"
    argv = ["train", config, "--run-dir", str(run)]
    assert main([*argv, "--init-from", str(first)]) == 0
    assert f"Begins with params, observation_moments of {first} at" in capsys.readouterr().out
    source = load_checkpoint(first)
    learned = source.state["algorithm"]
    for part in ("params", "observation_moments"):
        torch.testing.assert_close(begun(run)[part], learned[part], rtol=0.0, atol=0.0)
    assert learned["adam_step"] == 2
    assert begun(run)["adam_step"] == 0
    assert not begun(run)["adam"]["mean"].any()
    start: Nested = {"run": str(first), "iteration": 2, "sha256": source.manifest["sha256"]}
    start["taken"] = ["params", "observation_moments"]
    assert json.loads((run / "meta.json").read_text())["init_from"] == start
    # It is remembered, and the run is no second seed of one that began with nothing.
    assert main(["train", "--run-dir", str(run), "--resume", "--iterations", "2"]) == 0
    assert json.loads((run / "meta.json").read_text())["init_from"] == start
    cold = tmp_path / "cold"
    assert main(["train", config, "--run-dir", str(cold), "--iterations", "2"]) == 0
    assert "init_from" not in json.loads((cold / "meta.json").read_text())
    assert len(open_groups([run, cold], EvaluationOptions())) == 2


def test_a_run_killed_before_its_first_checkpoint_begins_so_again(
    first: Path, config: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    copy, run = tmp_path / "copy", tmp_path / "run"
    shutil.copytree(first, copy)
    assert metarl.train(config, init_from=copy, run_dir=str(run)).iteration == 1
    params = begun(run)["params"]
    shutil.rmtree(run / "checkpoints")
    (run / "metrics.jsonl").unlink()
    again = ["train", "--run-dir", str(run), "--resume"]
    assert main(again) == 0
    torch.testing.assert_close(begun(run)["params"], params, rtol=0.0, atol=0.0)
    shutil.rmtree(run / "checkpoints")
    (run / "metrics.jsonl").unlink()
    assert main(["train", "--run-dir", str(copy), "--resume", "--iterations", "3"]) == 0
    capsys.readouterr()
    assert main(again) == 2
    assert f"iteration 2 of {copy}, which has another" in capsys.readouterr().err


def test_what_cannot_be_begun_with_is_a_sentence(
    first: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = str(write_config(tmp_path, algorithm={"outer": "adam"}))
    argv = ["train", config, "--run-dir", str(tmp_path / "run"), "--init-from"]
    for words, said in {
        (str(first), "--env.name", "half_cheetah_dir"): "belong",
        (str(first), "--algorithm.hidden_sizes", "8,8"): "params has",
        (str(first), "--algorithm.hidden_sizes", "9"): "belong",
        (str(first), "--resume"): "leave --resume out",
        ("",): "is empty",
        (str(tmp_path / "none"),): "there is no",
    }.items():
        capsys.readouterr()
        assert main([*argv, *words]) == 2
        error = capsys.readouterr().err
        assert error.startswith("error: ")
        assert error.count("\n") == 1
        assert said in error
    assert not (tmp_path / "run/config.yaml").exists()


def test_nothing_that_the_other_run_names_is_imported(
    first: Path, config: str, tmp_path: Path, marker: Path
) -> None:
    other = stranger(first, tmp_path / "other", env={"name": "trap:Env"})
    argv = ["train", config, "--run-dir", str(tmp_path / "run"), "--init-from", str(other)]
    assert main(argv) == 0
    assert not marker.exists()


def test_memories_begin_with_their_normalisers(tmp_path: Path) -> None:
    rl2 = {"name": "rl2", "width": 4, "minibatches": 1, "tasks": 2, "episodes": 2}
    whole = tiny(iterations=1) | {"algorithm": rl2}
    runs = [str(tmp_path / name) for name in ("a", "b")]
    metarl.train(whole, run_dir=runs[0])
    metarl.train(whole, run_dir=runs[1], init_from=runs[0], seed=2)
    source, state = load_checkpoint(Path(runs[0])).state["algorithm"], begun(Path(runs[1]))
    for part in ("params", "input_moments", "return_moments"):
        torch.testing.assert_close(state[part], source[part], rtol=0.0, atol=0.0)
    assert state["input_moments"]["count"] > 0
    assert state["adam_step"] == 0 < source["adam_step"]
