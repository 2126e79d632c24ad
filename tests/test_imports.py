"""Imports point down only, so that a part can be read, tested and replaced alone."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
MODULES = sorted([*(ROOT / "metarl").rglob("*.py"), *(ROOT / "envs").rglob("*.py")])

FLOORS = (
    ("errors", "random"),
    ("envs",),
    ("types", "process"),
    ("maths", "storage"),
    ("networks", "experience"),
    ("adaptation",),
    ("agents",),
    ("algorithms",),
    ("config", "evaluation"),
    ("tracking", "references", "report"),
    ("runs",),
    ("measuring",),
    ("training", "suites"),
    ("api", "cli", "templates"),
    ("__init__", "__main__"),
)
"""The rooms of metarl: each imports only from floors before its own."""
FLOOR = {room: number for number, rooms in enumerate(FLOORS) for room in rooms}

FORBIDDEN = {
    "envs": "torch wandb pydantic stable_baselines3 rich",
    "maths": "gymnasium mujoco wandb rich pydantic",
    "storage": "gymnasium mujoco wandb rich stable_baselines3",
    "networks": "mujoco wandb rich pydantic stable_baselines3",
    "experience": "wandb rich pydantic stable_baselines3",
    "adaptation": "gymnasium mujoco wandb rich stable_baselines3",
    "agents": "mujoco wandb rich stable_baselines3",
    "algorithms": "mujoco wandb rich stable_baselines3",
    "evaluation": "wandb rich stable_baselines3",
    "report": "wandb stable_baselines3",
}
"""What the modules of a room never import, besides what stands above them."""


def name_of(path: Path) -> str:
    """The dotted name under which a module is imported."""
    parts = path.relative_to(ROOT).with_suffix("").parts
    parts = ("metarl", *parts) if parts[0] == "envs" else parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" and len(parts) > 2 else parts)


NAMES = {name_of(path): path for path in MODULES}


def imports(path: Path, *, at_run_time: bool = False) -> set[str]:
    """Modules that a module imports anywhere, names of a package as `package.name`.

    Args:
        path: The module's file.
        at_run_time: Leave out what only a type checker reads, and what functions import late.
    """
    tree = ast.parse(path.read_text())
    found: set[str] = set()

    def visit(node: ast.AST) -> None:
        if isinstance(node, ast.Import):
            found.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path} has a relative import"
            assert node.module is not None
            found.update({node.module, *(f"{node.module}.{alias.name}" for alias in node.names)})
        late = isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) or (
            isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test)
        )
        if not (at_run_time and late):
            for child in ast.iter_child_nodes(node):
                visit(child)

    visit(tree)
    return found


def room_of(module: str) -> str | None:
    """The room in which a module of metarl stands; None for other packages."""
    first, _, rest = module.partition(".")
    if first != "metarl":
        return None
    if rest.endswith("__main__"):  # a door, wherever it stands
        return "__main__"
    room = rest.partition(".")[0]
    return room if room in FLOOR else "__init__"


def test_the_walk_sees_what_there_is() -> None:
    """Of a package by name, inside functions, and under TYPE_CHECKING."""
    trainer = imports(ROOT / "metarl/training/trainer.py")
    assert {"metarl.envs", "metarl.random.Key", "metarl.config.fields.Config"} <= trainer
    assert "metarl.config.fields.Config" not in imports(
        ROOT / "metarl/training/trainer.py", at_run_time=True
    )
    assert "wandb" in imports(ROOT / "metarl/tracking/wandb_run.py")


def test_every_room_has_a_floor() -> None:
    rooms = {
        path.relative_to(ROOT / "metarl").parts[0]
        for path in MODULES
        if path.is_relative_to(ROOT / "metarl")
    }
    assert {room.removesuffix(".py") for room in rooms} - set(FLOOR) == set()


def test_imports_point_down() -> None:
    upward = []
    for name, path in NAMES.items():
        room = room_of(name)
        assert room is not None
        for module in imports(path):
            other = room_of(module)
            if other is None or other == room or module in ("metarl", "metarl.__version__"):
                continue
            if other == "__init__" and module.count(".") == 1:  # `from metarl import envs`
                continue
            if FLOOR[other] >= FLOOR[room]:
                upward.append(f"{name} imports {module}")
    assert sorted(upward) == []


@pytest.mark.parametrize("room", FORBIDDEN)
def test_a_room_knows_no_more_than_it_needs(room: str) -> None:
    forbidden = FORBIDDEN[room].split()
    offences = [
        f"{name} imports {module}"
        for name, path in NAMES.items()
        if room_of(name) == room
        for module in imports(path)
        if module.partition(".")[0] in forbidden
    ]
    assert sorted(offences) == []


def test_no_module_imports_itself_by_a_detour() -> None:
    graph = {
        name: {
            known
            for module in imports(path, at_run_time=True)
            for known in (module, module.rpartition(".")[0])
            if known in NAMES
            and known != name
            # A module's own package is under way already when it takes another module from it.
            and not (module in NAMES and name.startswith(f"{known}."))
        }
        for name, path in NAMES.items()
    }
    done: set[str] = set()

    def visit(name: str, way: tuple[str, ...]) -> None:
        assert name not in way, " → ".join((*way[way.index(name) :], name))
        if name not in done:
            for other in sorted(graph[name]):
                visit(other, (*way, name))
            done.add(name)

    for name in graph:
        visit(name, ())


def test_a_variant_imports_only_what_it_varies() -> None:
    family = {"anil", "cavia", "e_maml", "meta_sgd", "promp", "reptile"}
    varied = {variant: {"maml"} for variant in family}
    varied |= {"maesn": {"maml", "meta_sgd"}, "varibad": {"rl2"}}
    varied |= {"few_shot": {"anil", "maml", "meta_sgd", "reptile"}}  # on supervised tasks
    varied |= {"amortized_bayes": {"few_shot", "maml"}}
    varied |= {name: {"prototypical_networks"} for name in ("matching_networks", "versa")}
    varied |= {name: {"recurrent_off_policy"} for name in ("recurrent_dqn", "recurrent_sac")}
    for path in (ROOT / "metarl/algorithms").glob("*.py"):
        others = {
            module.split(".")[2]
            for module in imports(path)
            if module.startswith("metarl.algorithms.") and module.split(".")[2] != path.stem
        }
        if path.stem != "__init__":
            assert others - {"settings"} <= varied.get(path.stem, set()), path.stem


def test_evaluation_never_asks_whom_it_drives() -> None:
    for name, path in NAMES.items():
        if room_of(name) == "evaluation":
            others = {room_of(module) for module in imports(path)}
            assert not others & {"algorithms", "agents", "adaptation", "networks", "config"}, name


def test_the_house_has_few_modules_outside_its_rooms() -> None:
    outside = {path.stem for path in (ROOT / "metarl").glob("*.py")} - {"__init__", "__main__"}
    assert len(outside) <= 5, sorted(outside)


def test_no_module_and_no_function_is_too_long() -> None:
    for path in MODULES:
        text = path.read_text()
        assert text.count("\n") <= 350, f"{path}: {text.count(chr(10))} lines"
        for node in ast.walk(ast.parse(text)):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                assert node.end_lineno is not None
                length = node.end_lineno - node.lineno + 1
                assert length <= 60, f"{path}: {node.name} has {length} lines"


def test_importing_metarl_loads_nothing_heavy() -> None:
    code = (
        "import sys, metarl\n"
        "heavy = {'torch', 'mujoco', 'wandb', 'matplotlib', 'stable_baselines3', 'scipy', 'ray'}\n"
        "print(sorted(heavy & set(sys.modules)))"
    )
    said = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    ).stdout
    assert said == "[]\n"
