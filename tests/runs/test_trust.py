"""A stranger's run folder: what its config names is not executed unasked, whatever the door."""

from __future__ import annotations

import contextlib
import importlib
import json
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

import metarl
from metarl.cli.main import main
from metarl.config.trust import Trust, named_code
from metarl.envs import importing
from metarl.envs.importing import import_class, run_folder_of
from metarl.errors import UserError
from metarl.runs import trained_run
from tests.programs import write_config
from tests.runs.strangers import STATES, TRAP, reseal, rewrite_manifest, stranger

NAMED: dict[str, dict[str, Any]] = {
    "environment": {"env": {"name": "trap:Env"}},
    "further": {"further_envs": {"more": {"name": "trap:Env"}}},
    "algorithm": {"algorithm": {"name": "trap:Algorithm"}},
    "section": {"algorithm": "trap:Algorithm"},
    "tasks": {"env": {"tasks": "trap:Tasks"}},
    "parameter": {"env": {"wrappers": ["trap:Env"]}},
    "setting": {"algorithm": {"outer": {"name": "trap:Env"}}},
}
Door = Callable[[Path, Path], Any]
COMMANDS: dict[str, Door] = {
    "evaluate": lambda run, new: main(["evaluate", str(run)]),
    "inside": lambda run, new: main(["evaluate", "."]),
    "compare": lambda run, new: main(["evaluate", str(run), str(run.parent / "honest")]),
    "agent": lambda run, new: main(
        ["evaluate", "--agent", "tests.user_agents:Scout", "--config", str(run / "config.yaml")]
    ),
    "resume": lambda run, new: main(["train", "--run-dir", str(run), "--resume"]),
    "its config": lambda run, new: main(
        ["train", str(run / "config.yaml"), "--run-dir", str(run), "--resume"]
    ),
    "again": lambda run, new: main(["train", str(run / "config.yaml"), "--run-dir", str(new)]),
    "copied": lambda run, new: main(["train", f"{run}/mine/config.yaml", "--run-dir", str(new)]),
    "linked": lambda run, new: main(["train", f"{run}.yaml", "--run-dir", str(new)]),
    "help": lambda run, new: main(["train", "--config", str(run / "config.yaml"), "--help"]),
    "references": lambda run, new: main(["references", str(run / "config.yaml")]),
}
PYTHON: dict[str, Door] = {
    "load_run": lambda run, new: metarl.load_run(run),
    "evaluate": lambda run, new: metarl.evaluate(run),
    "compare": lambda run, new: metarl.compare([run.parent / "honest", run]),
    "train": lambda run, new: metarl.train(run / "config.yaml", run_dir=str(new)),
    "agent": lambda run, new: metarl.evaluate(
        "tests.user_agents:Scout", config=run / "config.yaml"
    ),
}


@pytest.mark.parametrize("named", NAMED)
def test_no_door_executes_what_a_strangers_config_names(
    named: str,
    honest: Path,
    marker: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    run = stranger(honest, tmp_path / "run", **NAMED[named])
    (tmp_path / "honest").symlink_to(honest)
    (tmp_path / "run.yaml").symlink_to(run / "config.yaml")
    (run / "mine").mkdir()
    shutil.copy(run / "config.yaml", run / "mine")
    monkeypatch.chdir(run)
    for name, command in COMMANDS.items():
        capsys.readouterr()
        try:
            code = command(run, tmp_path / "new")
        except SystemExit as error:
            code = error.code
        said = capsys.readouterr().err
        assert not marker.exists(), name
        assert code == 2, name
        assert said.startswith("error: "), name
        assert said.count("\n") == 1, name
        assert "'trap:" in said, name
        assert "config.yaml, line" in said or "run.yaml, line" in said, name
        assert "--trust-code" in said, name
    for name, call in PYTHON.items():
        with pytest.raises(UserError, match="trust_code=True"):
            call(run, tmp_path / "new")
        assert not marker.exists(), name
    assert not (tmp_path / "new").exists()


def test_with_the_users_word_it_is_imported(honest: Path, marker: Path, tmp_path: Path) -> None:
    run = stranger(honest, tmp_path / "run", algorithm={"name": "trap:Algorithm"})
    with pytest.raises(UserError, match=r"another config: algorithm\.name was 'maml'"):
        metarl.load_run(run, trust_code=True)
    assert marker.exists()


def test_a_damaged_checkpoint_is_refused_before_anything_is_imported(
    honest: Path, marker: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = stranger(honest, tmp_path / "run", env={"name": "trap:Env"})
    with open(run / "checkpoints/1/state.pt", "ab") as state:
        state.write(b"x")
    with open(run / "checkpoints/0/state.pt", "ab") as state:
        state.write(b"x")
    for argv in (["evaluate", str(run)], ["train", "--run-dir", str(run), "--resume"]):
        assert main([*argv, "--trust-code"]) == 2
        assert "tampered with" in capsys.readouterr().err
    for call in (metarl.load_run, lambda r, **o: metarl.compare([r, honest], **o)):
        with pytest.raises(UserError, match="tampered with"):
            call(run, trust_code=True)
    assert not marker.exists()


@pytest.mark.parametrize("wrong", STATES)
def test_a_state_of_another_kind_is_a_sentence(
    wrong: str, honest: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = stranger(honest, tmp_path / "run")
    change, words = STATES[wrong]
    reseal(run, change)
    for argv in (["evaluate", str(run)], ["train", "--run-dir", str(run), "--resume"]):
        capsys.readouterr()
        assert main(argv) == 2
        said = capsys.readouterr().err
        assert said.startswith(f"error: The checkpoint in {run} does not fit its config: ")
        assert words in said
        assert said.count("\n") == 1


def test_a_checkpoint_that_names_code_is_another_configs(
    honest: Path, marker: Path, tmp_path: Path
) -> None:
    run = stranger(honest, tmp_path / "run")
    manifest = json.loads((run / "checkpoints/1/manifest.json").read_text())
    named = manifest["config_fingerprint"] | {"env.name": "trap:Env"}
    rewrite_manifest(run, config_fingerprint=named)
    with pytest.raises(UserError, match=r"env\.name was 'trap:Env' and is 'point_nav"):
        metarl.load_run(run)
    assert not marker.exists()


# --- never from inside a run folder -----------------------------------------------------------


def _here(run: Path, patch: pytest.MonkeyPatch) -> str:
    patch.chdir(run)
    return "evil:Env"


def _empty_entry(run: Path, patch: pytest.MonkeyPatch) -> str:
    patch.syspath_prepend("")
    return _here(run, patch)


def _on_the_path(run: Path, patch: pytest.MonkeyPatch) -> str:
    patch.syspath_prepend(str(run))
    return "evil:Env"


def _namespace(run: Path, patch: pytest.MonkeyPatch) -> str:
    patch.chdir(run.parent)
    return "run.evil:Env"


def _package(run: Path, patch: pytest.MonkeyPatch) -> str:
    shutil.copy(run / "evil.py", run / "__init__.py")
    return _namespace(run, patch)


def _linked(run: Path, patch: pytest.MonkeyPatch) -> str:
    (run.parent / "beside").mkdir()
    (run.parent / "beside/evil.py").symlink_to(run / "evil.py")
    patch.chdir(run.parent / "beside")
    return "evil:Env"


def _through_another(run: Path, patch: pytest.MonkeyPatch) -> str:
    (run.parent / "innocent.py").write_text("import run.evil\nEnv = run.evil.Env\n")
    patch.chdir(run.parent)
    return "innocent:Env"


NOT_FOUND = r"lies in the run folder|No module named"


@pytest.mark.parametrize(
    "trick",
    [_here, _empty_entry, _on_the_path, _namespace, _package, _linked, _through_another],
)
def test_nothing_is_imported_from_a_run_folder_even_when_trusted(
    trick: Callable[..., str], honest: Path, marker: Path, tmp_path: Path
) -> None:
    run = stranger(honest, tmp_path / "run")
    (run / "evil.py").write_text(TRAP.format(marker=str(marker)))
    with pytest.MonkeyPatch.context() as patch:
        path = trick(run, patch)
        for name in ("evil", "run", "run.evil", "innocent"):
            patch.delitem(sys.modules, name, raising=False)
        before = list(sys.path)
        config = yaml.safe_load((run / "config.yaml").read_text())
        config["env"]["name"] = path
        (run / "config.yaml").write_text(yaml.safe_dump(config))
        with pytest.raises(UserError, match=NOT_FOUND):
            metarl.load_run(run, trust_code=True)
        with pytest.raises(ValueError, match=NOT_FOUND):
            import_class("environment", path, ())
        assert set(before) <= set(sys.path)
    assert not marker.exists()


def test_modules_of_a_run_folder_hide_none(
    honest: Path, marker: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neither of the standard library nor what metarl imports late."""
    run = stranger(honest, tmp_path / "run")
    names = ("colorsys", "metarl_imports_me_late")
    for name in names:
        (run / f"{name}.py").write_text(TRAP.format(marker=str(marker)))
    monkeypatch.chdir(run)
    monkeypatch.syspath_prepend("")
    found = []

    def imports(*args: Any, **options: Any) -> Any:
        for name in names:
            monkeypatch.delitem(sys.modules, name, raising=False)
            with contextlib.suppress(ImportError):
                found.append(importlib.import_module(name).__name__)
        return load_run(*args, **options)

    load_run = trained_run.load_run
    monkeypatch.setattr(trained_run, "load_run", imports)
    assert metarl.load_run(".").iteration == 1
    assert main(["evaluate", ".", "--checkpoint", "7"]) == 2
    assert found == ["colorsys"] * 2
    assert not marker.exists()
    imports(".")  # the trap works
    assert marker.exists()


def test_what_a_run_folder_is(
    honest: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    inside = honest / "checkpoints" / "1" / "no" / "such.py"
    assert run_folder_of(inside) == honest
    (tmp_path / "config.yaml").touch()
    assert run_folder_of(tmp_path / "config.yaml") is None  # a project's, not a run's
    (tmp_path / "mine.yaml").symlink_to(honest / "config.yaml")
    assert run_folder_of(tmp_path / "mine.yaml") == honest.resolve()
    assert run_folder_of("\0") is None
    (tmp_path / "metrics.jsonl").touch()
    assert run_folder_of(tmp_path / "config.yaml") == tmp_path
    monkeypatch.setattr(importing, "_INSTALLED", {str(tmp_path / "venv")})  # of a whole project
    assert run_folder_of(tmp_path / "venv/lib/numpy.py") is None


# --- whose word counts -------------------------------------------------------------------------


def test_a_config_that_the_user_names_is_his_word(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    env = {"name": "tests.toy_envs:Line", "horizon": 5}
    config = write_config(tmp_path, iterations=1, env=env)
    config.rename(tmp_path / "mine.yaml")
    run = str(tmp_path / "run")
    argv = ["train", str(tmp_path / "mine.yaml"), "--run-dir", run]
    assert main(argv) == 0
    go_on = ["train", "--run-dir", run, "--resume", "--iterations", "2"]
    assert main(go_on) == 2
    assert "tests.toy_envs:Line" in capsys.readouterr().err
    assert main([*argv, "--resume", "--iterations", "2"]) == 0
    assert main([*go_on, "--trust-code"]) == 0
    assert "is finished" in capsys.readouterr().out
    assert main([*go_on, "--env.name", "tests.toy_envs:Line"]) == 0  # on the command line: his too
    with pytest.raises(UserError, match="trust_code"):
        metarl.train(f"{run}/config.yaml", run_dir=str(tmp_path / "new"))
    named = {"run_dir": str(tmp_path / "new"), "env": {"name": "tests.toy_envs:Line"}}
    assert metarl.train(f"{run}/config.yaml", **named).iteration == 2


def test_what_a_config_names() -> None:
    assert named_code({}) == {}
    ours = {
        "env": {"name": "metarl.envs.locomotion.half_cheetah:HalfCheetahVel", "preset": "promp"},
        "algorithm": {"name": "metarl.algorithms.rl2:RL2", "hidden_sizes": [8]},
        "tracking": {"tags": ["a:b"]},
    }
    assert named_code(ours) == {}
    Trust().check(ours, {})
    theirs = {"env": {"name": "Ant-v5", "tasks": "a:B"}, "algorithm": {"x": [{"y": "c.d:E"}]}}
    assert list(named_code(theirs).values()) == ["Ant-v5", "a:B", "c.d:E"]
    assert list(named_code(theirs))[-1] == ("algorithm", "x", 0, "y")
    near = {"env": {"name": "metarl.__main__:main"}, "algorithm": {"name": "metarl.cli.main:main"}}
    assert len(named_code(near)) == 2


def test_a_manifest_with_a_wrong_config_says_whose(honest: Path, tmp_path: Path) -> None:
    run = stranger(honest, tmp_path / "run")
    manifest = json.loads((run / "checkpoints/1/manifest.json").read_text())
    made = manifest["config_fingerprint"] | {"env.horizon": 10**400}
    rewrite_manifest(run, config_fingerprint=made)
    said = r"checkpoints/1 has a wrong config in its manifest: env\.horizon is"
    with pytest.raises(UserError, match=said):
        metarl.load_run(run)
