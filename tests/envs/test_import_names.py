"""The name `envs` belongs to users, and the classes of their programs reach the workers."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from metarl.envs import importing, make
from metarl.envs.registry import env_maker
from tests.envs.user_envs import Chooser
from tests.programs import ENVIRONMENT, ROOT

MINE = """
import sys

from tests.envs.user_envs import Chooser


class Mine(Chooser):
    def step(self, action):
        assert sys.modules["envs"].__file__ == "{file}", sys.modules["envs"]
        return super().step(action)
"""
TINY = """
env: {name: envs.mine:Mine}
iterations: 1
algorithm: {name: maml, tasks: 2, episodes: 1, hidden_sizes: [4]}
rollout: {workers: 1, torch_threads: 1}
validation: {enabled: false}
evaluation: {at_end: false}
tracking: {wandb: disabled}
"""


def run(folder: Path, *words: str | Path) -> str:
    """What a program prints that is run in a folder, with a clone of metarl on its search path."""
    result = subprocess.run(
        [sys.executable, *map(str, words)],
        cwd=folder,
        env=ENVIRONMENT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 0, result.stdout + result.stderr
    return result.stdout


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A research project with a package `envs` of its own."""
    folder = tmp_path_factory.mktemp("project").resolve()
    (folder / "envs").mkdir()
    (folder / "envs/__init__.py").write_text("OF_THE_PROJECT = True\n")
    (folder / "envs/mine.py").write_text(MINE.replace("{file}", str(folder / "envs/__init__.py")))
    (folder / "tiny.yaml").write_text(TINY)
    return folder


@pytest.mark.slow
def test_a_project_trains_on_its_own_envs(project: Path) -> None:
    run(project, ROOT / "train.py", "--config", "tiny.yaml", "--run-dir", "run")
    assert (project / "run/metrics.jsonl").read_text().count("\n") == 1


@pytest.mark.slow  # found as above, by another program
def test_a_project_trains_references_on_its_own_envs(project: Path) -> None:
    options = ["--config", "tiny.yaml", "--kind", "oracle", "--env-steps", "64"]
    run(project, "-m", "metarl", "references", *options)
    assert list((project / "references").rglob("weights.pt"))


def test_what_is_imported_already_is_not_looked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importing, "run_folder_of", None)
    assert env_maker("tests.envs.user_envs:Chooser") is Chooser


def test_our_directory_is_never_a_module_envs() -> None:
    """Neither in the programs and what they import nor in workers."""
    code = (
        "import sys, train, evaluate\n"
        "train.main(['--help'])\n"
        "import metarl.training.trainer\n"
        "from metarl.envs import make\n"
        "env = make('tests.envs.test_import_names:Witness', 1, num_workers=1)\n"
        "env.reset(seed=0)\n"
        "env.step([0])\n"
        "assert 'envs' not in sys.modules\n"
    )
    run(ROOT, "-c", code)
    assert "envs" not in sys.modules


class Witness(Chooser):
    """Its worker has no module envs."""

    def step(self, action: int) -> tuple:
        assert "envs" not in sys.modules
        assert "metarl.envs" in sys.modules
        return super().step(action)


@pytest.mark.parametrize("path", ["envs:TaskEnv", "envs.navigation:PointNavigation"])
def test_the_former_import_path_gets_one_sentence(path: str) -> None:
    with pytest.raises(ValueError, match=rf"are in metarl\.envs: write 'metarl\.{path}'\.$"):
        env_maker(path)
    with pytest.raises(ValueError, match=r"are imported as metarl\.envs"):
        env_maker("envs.min:Mine")
    with pytest.raises(ImportError, match=r"are imported as metarl\.envs"):
        import envs  # noqa: F401


def test_a_module_that_imports_from_envs_is_told_where_they_are(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "of_old.py").write_text("from envs import UniformInterval\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setitem(sys.modules, "envs", None)  # as where only the wheel is
    with pytest.raises(ValueError, match=r"\(metarl's own environments are imported from"):
        env_maker("of_old:Mine")


MAIN = """
import numpy as np
from metarl.envs import FiniteTasks, make
from tests.envs.user_envs import Chooser


class Two(FiniteTasks):
    pass


class Mine(Chooser):
    task_distribution = Two([[5.0], [6.0]], ("best",), ("",))

env = make("__main__:Mine", 2, num_workers=2)
assert type(env.task_distribution) is Two
env.reset(seed=0)
print(env.step(np.array([0, 1]))[1])
"""


def test_a_class_of_the_main_program_is_sent_to_workers(tmp_path: Path) -> None:
    (tmp_path / "program.py").write_text(MAIN)
    assert run(tmp_path, "program.py") == "[1. 1.]\n"
    assert run(tmp_path, "-c", MAIN) == "[1. 1.]\n"


def test_a_local_class_is_sent_to_workers() -> None:
    from metarl.envs.process_vector import ProcessVectorEnv

    class Local(Chooser):
        horizon = 7

    env = ProcessVectorEnv(Local, 1, num_workers=1)
    assert env.horizon == 7
    env.close()


def test_a_name_of_metarl_reaches_the_same_class() -> None:
    assert make("metarl.envs.navigation:PointNavigation", 1).num_envs == 1
