"""The wheel: what is in it, and that it works where nothing of the repository is in reach."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml

import metarl
from tests.programs import ROOT

SOURCES = ("pyproject.toml", "README.md", "LICENSE", "metarl", "envs", "configs", "references")
SHORT = (
    "--validation.enabled false --tracking.wandb disabled "
    "--algorithm.tasks 2 --algorithm.episodes 5 --evaluation.episodes 2"
)

Run = Callable[..., str]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel, built from a copy of its sources, since a build leaves files beside them."""
    folder = tmp_path_factory.mktemp("wheel")
    for name in SOURCES:
        copy = shutil.copytree if (ROOT / name).is_dir() else shutil.copy2
        copy(ROOT / name, folder / name)
    build = "from setuptools import build_meta; print(build_meta.build_wheel('dist'))"
    output = subprocess.run(
        [sys.executable, "-c", build], cwd=folder, capture_output=True, text=True, check=True
    ).stdout
    return folder / "dist" / output.splitlines()[-1]


@pytest.fixture(scope="module")
def run(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Run:
    """Runs a command of a new environment with the wheel, in a folder that was empty."""
    venv, folder = tmp_path_factory.mktemp("venv"), tmp_path_factory.mktemp("empty")
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", venv], check=True)
    pip = [sys.executable, "-m", "pip", "-q", "--python", venv / "bin/python", "install"]
    subprocess.run([*pip, "--no-deps", "--no-index", wheel], check=True)
    (site,) = venv.glob("lib/*/site-packages")
    # The dependencies are those of the environment that runs the tests; its own metarl is not
    # among them, since a .pth file that is reached through another one is not read.
    shared = [entry for entry in sys.path if entry.endswith(("site-packages", "dist-packages"))]
    (site / "dependencies.pth").write_text("\n".join(shared) + "\n")
    path = os.pathsep.join([str(venv / "bin"), os.environ["PATH"]])
    environment = os.environ | {"PATH": path, "OMP_NUM_THREADS": "1"}
    environment = {k: v for k, v in environment.items() if not k.startswith("PYTHON")}

    def call(*words: str) -> str:
        result = subprocess.run(
            words, cwd=folder, env=environment, capture_output=True, text=True, check=False
        )
        assert result.returncode == 0, result.stdout + result.stderr
        return result.stdout

    where = "import metarl.envs.registry as r; print(r.__file__)"
    assert call("python", "-c", where).strip() == str(site / "metarl/envs/registry.py")
    return call


def test_every_module_and_file_is_in_the_wheel_and_nothing_else(wheel: Path) -> None:
    files = set(zipfile.ZipFile(wheel).namelist())
    assert {name.partition("/")[0] for name in files} == {
        "metarl",
        f"metarl_lab-{metarl.__version__}.dist-info",
    }
    expected = {"metarl/py.typed"}
    for folder, place, pattern in (
        ("metarl", "metarl", "*.py"),
        ("metarl/templates", "metarl/templates", "*.*"),
        ("envs", "metarl/envs", "*.py"),
        ("configs", "metarl/configs", "[!s]*.yaml"),
        ("references", "metarl/shipped_references", "*/reference.json"),
        ("references", "metarl/shipped_references", "*/weights.pt"),
    ):
        found = (path for path in (ROOT / folder).rglob(pattern) if "__pycache__" not in str(path))
        expected |= {f"{place}/{path.relative_to(ROOT / folder).as_posix()}" for path in found}
    assert expected - files == set()
    assert not [name for name in files if re.search(r"sweep_|test|training\.pt|__pycache__", name)]


def test_it_trains_and_evaluates_from_an_empty_folder(run: Run) -> None:
    assert "quickstart" in run("metarl", "list")
    output = run("metarl", "train", "quickstart", "--iterations", "2", *SHORT.split())
    assert "optimum" in output
    assert "oracle" in output, "the references that come with metarl are found"


@pytest.mark.slow  # that the templates are there is tested above, what they are elsewhere
def test_a_new_environment_runs_by_the_command_that_is_printed(run: Run) -> None:
    output = run("metarl", "new", "environment", "my_env.py")
    (command,) = re.findall(r"metarl train .*", output)
    run(*command.split(), "--iterations", "1", *SHORT.split(), "--evaluation.at_end", "false")


def test_gymnasium_knows_its_environments(run: Run) -> None:
    code = (
        "import gymnasium, metarl; env = gymnasium.make('metarl/PointNavigation-v0'); "
        "print(env.reset(seed=0)[0], metarl.__version__)"
    )
    assert run("python", "-c", code) == f"[0. 0.] {metarl.__version__}\n"


def test_one_version_and_the_linters_of_ci_before_a_commit() -> None:
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    assert citation["version"] == metarl.__version__
    released = f"## {metarl.__version__} ({citation['date-released']})"
    assert released in (ROOT / "CHANGELOG.md").read_text().splitlines()
    hooks = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text())["repos"][0]["hooks"]
    assert {hook["entry"] for hook in hooks} <= set((ROOT / ".ci/run").read_text().splitlines())
