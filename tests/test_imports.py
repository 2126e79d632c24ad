"""Imports point down only, so that a part can be read, tested and replaced alone."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
MODULES = sorted(
    path.relative_to(ROOT)
    for path in [*(ROOT / "metarl").rglob("*.py"), *(ROOT / "envs").rglob("*.py")]
)
MATHS = (
    "params",
    "random",
    "distributions",
    "returns",
    "losses",
    "solvers",
    "networks",
    "recurrent",
    "recurrent_actor",
    "running_moments",
    "types",
    "value",
    "inner_loop",
    "meta_objective",
    "outer",
)


def imports(path: Path) -> set[str]:
    """Modules that a module imports anywhere, names of a package as `package.name`."""
    found = set()
    for node in ast.walk(ast.parse((ROOT / path).read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path} has a relative import"
            assert node.module is not None
            found |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
    return found


def within(module: str, packages: str) -> bool:
    return any(module == p or module.startswith(f"{p}.") for p in packages.split())


def offences(paths: list[Path], forbidden: str) -> list[str]:
    assert paths
    return [f"{p}: {m}" for p in paths for m in sorted(imports(p)) if within(m, forbidden)]


def under(*parts: str) -> list[Path]:
    return [path for path in MODULES if path.parts[: len(parts)] == parts]


def test_the_walk_sees_what_there_is() -> None:
    """Of a package by name, inside functions, and under TYPE_CHECKING."""
    assert "metarl.algorithms.algorithm_class" in imports(Path("metarl/runs.py"))
    assert "metarl.config.Config" in imports(Path("metarl/runs.py"))
    assert "wandb" in imports(Path("metarl/tracking/wandb_run.py"))


def test_environments_know_neither_torch_nor_metarl() -> None:
    assert offences(under("envs"), "torch metarl wandb pydantic stable_baselines3") == []


@pytest.mark.parametrize("name", MATHS)
def test_maths_knows_no_environment_config_or_logger(name: str) -> None:
    forbidden = (
        "envs mujoco wandb rich yaml metarl.config metarl.tracking metarl.checkpoint "
        "metarl.run_folder metarl.runs metarl.rollout metarl.trainer metarl.evaluation "
        "metarl.algorithms"
    )
    assert offences([Path(f"metarl/{name}.py")], forbidden) == []


def test_algorithms_know_neither_each_other_nor_the_programs() -> None:
    forbidden = (
        "metarl.tracking metarl.checkpoint metarl.config metarl.run_folder metarl.runs "
        "metarl.trainer metarl.evaluation wandb rich"
    )
    paths = under("metarl", "algorithms")
    assert offences(paths, forbidden) == []
    assert offences([p for p in paths if p.stem != "__init__"], "metarl.algorithms") == []


def test_evaluation_never_asks_whom_it_drives() -> None:
    agents = (
        "metarl.algorithms metarl.gradient_learner metarl.context_learner metarl.inner_loop "
        "metarl.recurrent metarl.trainer"
    )
    programs = "metarl.config metarl.runs metarl.tracking"
    everything = under("metarl", "evaluation")
    references = under("metarl", "evaluation", "references")
    assert offences(everything, agents) == []
    assert offences([p for p in everything if p not in references], "metarl.checkpoint") == []
    # The command that trains references is a program of its own.
    command = [p for p in references if p.stem in ("__main__", "command_line")]
    assert offences([p for p in everything if p not in command], programs) == []


def test_measuring_references_needs_no_stable_baselines3() -> None:
    training = ("vec_env", "training", "per_task")
    references = under("metarl", "evaluation", "references")
    others = [path for path in MODULES if path not in references or path.stem not in training]
    assert offences(others, "stable_baselines3") == []


def test_rollouts_know_no_algorithm() -> None:
    forbidden = "metarl.algorithms metarl.config metarl.tracking metarl.checkpoint metarl.networks"
    forbidden += " metarl.recurrent metarl.recurrent_actor"
    assert offences([Path("metarl/rollout.py")], forbidden) == []


def test_only_tracking_imports_wandb() -> None:
    others = [path for path in MODULES if path.parts[:2] != ("metarl", "tracking")]
    assert offences(others, "wandb") == []


def test_programs_are_thin() -> None:
    for name in ("train.py", "evaluate.py"):
        assert len((ROOT / name).read_text().splitlines()) <= 150
