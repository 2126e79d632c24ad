"""Run folders as somebody crafted them, at every door that reads one: a sentence, and no code."""

from __future__ import annotations

import contextlib
import hashlib
import io
import json
import os
import pickle
import random
import re
import shutil
import signal
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from matplotlib.figure import Figure
from PIL import Image

import metarl
from metarl.cli.main import main
from metarl.errors import UserError
from tests.programs import write_config
from tests.runs.strangers import STATES, TRAP, reseal, rewrite_config, rewrite_manifest

pytestmark = pytest.mark.slow

CONFIG, STATE, MANIFEST = "config.yaml", "checkpoints/1/state.pt", "checkpoints/1/manifest.json"
LATEST, METRICS, META, LOCK = "checkpoints/latest", "metrics.jsonl", "meta.json", "lock.json"
DEEP = "[" * 20_000

Craft = Callable[[Path], object]
Door = Callable[[Path, Path], object]


def _load(run: Path, honest: Path) -> int:
    loaded = metarl.load_run(run)
    loaded.worker.close()
    assert "<table" in loaded._repr_html_()
    return 0


def _compare(run: Path, honest: Path) -> object:
    return main(["evaluate", str(honest), str(run), "--output", str(run.parent / "comparison")])


def _init(run: Path, honest: Path) -> object:
    words = ["--config", str(honest / CONFIG), "--run-dir", str(run.parent / "new")]
    return main(["train", *words, "--init-from", str(run)])


DOORS: dict[str, Door] = {
    "load": _load,
    "init": _init,
    "compare": _compare,
    "evaluate": lambda run, honest: main(["evaluate", str(run)]),
    "resume": lambda run, honest: main(
        ["train", "--run-dir", str(run), "--resume", "--iterations", "2"]
    ),
}
"""What reads a run folder; the last ones also write into it."""
ALL, NONE = frozenset(DOORS), frozenset[str]()
CONFIGS = ALL - {"init"}  # a warm start reads no config
DAMAGED = ALL - {"resume"}  # which goes on from the checkpoint before
LINED = ALL - {"init"}  # what reads the metrics
RESUME = frozenset({"resume"})


# --- what is crafted ---------------------------------------------------------------------------


def text(name: str, content: str | bytes) -> Craft:
    data = content if isinstance(content, bytes) else content.encode()
    return lambda run: (run / name).write_bytes(data)


def config(**changes: Any) -> Craft:
    return lambda run: rewrite_config(run, **changes)


def manifest(**changes: Any) -> Craft:
    return lambda run: rewrite_manifest(run, **changes)


def made_by(**changes: Any) -> Craft:
    """A manifest whose fingerprint of the config says something else."""

    def craft(run: Path) -> None:
        fingerprint = json.loads((run / MANIFEST).read_text())["config_fingerprint"]
        rewrite_manifest(run, config_fingerprint=fingerprint | changes)

    return craft


def metrics(**changes: Any) -> Craft:
    def craft(run: Path) -> None:
        line = json.loads((run / METRICS).read_text())
        (run / METRICS).write_text(json.dumps(line | changes) + "\n")

    return craft


def gone(name: str) -> Craft:
    return lambda run: (run / name).unlink()


def pipe(name: str) -> Craft:
    """A file that has no end, and whose beginning is waited for."""

    def craft(run: Path) -> None:
        (run / name).unlink(missing_ok=True)
        os.mkfifo(run / name)

    return craft


def folder(name: str) -> Craft:
    def craft(run: Path) -> None:
        (run / name).unlink(missing_ok=True)
        (run / name).mkdir()

    return craft


def sealed(data: bytes) -> Craft:
    """A state of these bytes, with the hash that belongs to them."""

    def craft(run: Path) -> None:
        (run / STATE).write_bytes(data)
        rewrite_manifest(run, sha256=hashlib.sha256(data).hexdigest())

    return craft


class _Bomb:
    def __reduce__(self) -> Any:
        return exec, ("import trap",)


def _saved(state: Any, **options: Any) -> bytes:
    buffer = io.BytesIO()
    torch.save(state, buffer, **options)
    return buffer.getvalue()


def parameters(make: Callable[[torch.Tensor], Any]) -> Craft:
    def craft(run: Path) -> None:
        state = torch.load(run / STATE, weights_only=True)
        params = state["algorithm"]["params"]
        params |= {name: make(value) for name, value in params.items()}
        sealed(_saved(state))(run)

    return craft


def lock(content: str) -> Craft:
    """A lock that is old enough to be taken over."""

    def craft(run: Path) -> None:
        (run / LOCK).write_text(content)
        os.utime(run / LOCK, (1.0, 1.0))

    return craft


Case = tuple[Craft, frozenset[str]]
CASES: dict[str, Case] = {
    # The config.
    "code: environment": (config(env={"name": "trap:Env"}), CONFIGS),
    "code: environment in the folder": (config(env={"name": "evil:Env"}), CONFIGS),
    "code: environment by path": (config(env={"name": "../run/evil:Env"}), CONFIGS),
    "code: gymnasium's import": (config(env={"name": "trap:Ant-v5"}), CONFIGS),
    "code: tasks": (config(env={"tasks": "trap:Tasks"}), CONFIGS),
    "code: wrapper": (config(env={"wrappers": ["trap:Env"]}), CONFIGS),
    "code: algorithm": (config(algorithm={"name": "trap:Algorithm"}), CONFIGS),
    "code: setting": (config(algorithm={"outer": {"name": "trap:Env"}}), CONFIGS),
    "code: standard library": (config(env={"name": "antigravity:x"}), CONFIGS),
    "code: a part of metarl that is none": (config(env={"name": "metarl.cli.main:main"}), CONFIGS),
    "code: tag of YAML": (text(CONFIG, "a: !!python/object/apply:os.system [ls]"), CONFIGS),
    "config: gone": (gone(CONFIG), CONFIGS),
    "config: pipe": (pipe(CONFIG), CONFIGS),
    "config: folder": (folder(CONFIG), CONFIGS),
    "config: empty": (text(CONFIG, ""), CONFIGS),
    "config: text": (text(CONFIG, "hello"), CONFIGS),
    "config: list": (text(CONFIG, "[1, 2]"), CONFIGS),
    "config: binary": (text(CONFIG, bytes(range(256))), CONFIGS),
    "config: deep": (text(CONFIG, "a: " + DEEP), CONFIGS),
    "config: endless": (text(CONFIG, "a: &a [*a]"), CONFIGS),
    "config: aliases of aliases": (
        text(
            CONFIG,
            "a0: &a0 x\n" + "".join(f"a{i}: &a{i} [{f'*a{i - 1}, ' * 9}]\n" for i in range(1, 9)),
        ),
        CONFIGS,
    ),
    "config: unknown field": (config(env={"horizn": 3}), CONFIGS),
    "config: unknown section": (config(**{"\x1b[31m\n": 3}), CONFIGS),
    "config: huge number": (config(env={"horizon": 10**400}), CONFIGS),
    "config: another horizon": (config(env={"horizon": 11}), CONFIGS),
    "config: another network": (config(algorithm={"hidden_sizes": [9]}), CONFIGS),
    "config: another algorithm": (config(algorithm="rl2"), CONFIGS),
    "config: no such environment": (config(env="walker"), CONFIGS),
    "config: another name": (config(name="<script>alert(1)</script>"), CONFIGS),
    "config: a name with control letters": (config(name="a\x1b[2Jb"), CONFIGS),
    "config: another device": (config(device="cuda:99"), frozenset({"compare", "resume"})),
    # The manifest.
    "manifest: gone": (gone(MANIFEST), DAMAGED),
    "manifest: pipe": (pipe(MANIFEST), DAMAGED),
    "manifest: folder": (folder(MANIFEST), DAMAGED),
    "manifest: empty": (text(MANIFEST, ""), DAMAGED),
    "manifest: list": (text(MANIFEST, "[]"), DAMAGED),
    "manifest: deep": (text(MANIFEST, DEEP), DAMAGED),
    "manifest: binary": (text(MANIFEST, bytes(range(256))), DAMAGED),
    "manifest: wrong hash of its own": (manifest(manifest_sha256="0" * 64), DAMAGED),
    "manifest: wrong hash": (manifest(sha256="0" * 64), DAMAGED),
    "manifest: hash of a number": (manifest(sha256=1), DAMAGED),
    "manifest: another format": (manifest(format=[99]), ALL),
    "manifest: another version": (manifest(metarl_version="99"), NONE),
    "manifest: iteration of another": (manifest(iteration=7), DAMAGED),
    "manifest: true iteration": (manifest(iteration=True), DAMAGED),
    "manifest: steps below zero": (manifest(env_steps=-1), DAMAGED),
    "manifest: huge steps": (manifest(env_steps=10**40), DAMAGED),
    "manifest: steps of text": (manifest(env_steps="1"), DAMAGED),
    "manifest: config of a list": (manifest(config_fingerprint=[1]), DAMAGED),
    "manifest: config of nothing": (manifest(config_fingerprint={}), CONFIGS),
    "manifest: config names code": (made_by(**{"env.name": "trap:Env"}), CONFIGS),
    "manifest: endless config": (made_by(**{"env.x": json.loads("[" * 80 + "]" * 80)}), CONFIGS),
    "manifest: huge number in config": (made_by(**{"env.horizon": 10**400}), CONFIGS),
    "manifest: files elsewhere": (manifest(files={"../../config.yaml": {"bytes": 1}}), DAMAGED),
    "manifest: files of numbers": (manifest(files={"state.pt": 3}), DAMAGED),
    # The state.
    "state: gone": (gone(STATE), DAMAGED),
    "state: pipe": (pipe(STATE), DAMAGED),
    "state: changed": (text(STATE, b"x"), DAMAGED),
    "state: no archive": (sealed(b"x"), ALL),
    "state: nothing": (sealed(b""), ALL),
    "state: pickled code": (sealed(pickle.dumps(_Bomb())), ALL),
    "state: pickled code in an archive": (sealed(_saved({"algorithm": _Bomb()})), ALL),
    "state: pickled code in an old archive": (
        sealed(_saved({"algorithm": _Bomb()}, _use_new_zipfile_serialization=False)),
        ALL,
    ),
    "state: list": (sealed(_saved([1])), ALL),
    "state: parameters of no memory": (parameters(lambda x: x.to("meta")), ALL),
    "state: parameters that are no numbers": (parameters(lambda x: x * torch.nan), NONE),
    "state: expanded parameters": (
        parameters(lambda x: torch.zeros(1).expand(10**12)),
        ALL,
    ),
    # Which checkpoint.
    "latest: gone": (gone(LATEST), DAMAGED),
    "latest: pipe": (pipe(LATEST), DAMAGED),
    "latest: empty": (text(LATEST, ""), DAMAGED),
    "latest: huge": (text(LATEST, "9" * 5000), DAMAGED),
    "latest: elsewhere": (text(LATEST, "../../run/checkpoints/1"), DAMAGED),
    "latest: a number of another alphabet": (text(LATEST, "\N{ARABIC-INDIC DIGIT ONE}"), DAMAGED),
    "latest: not there": (text(LATEST, "12"), DAMAGED),
    # The lines of training.
    "metrics: gone": (gone(METRICS), NONE),
    "metrics: empty": (text(METRICS, ""), NONE),
    "metrics: pipe": (pipe(METRICS), NONE),
    "metrics: deep": (text(METRICS, DEEP + "\n{}\n"), LINED),
    "metrics: list": (text(METRICS, "[1]\n{}\n"), LINED),
    "metrics: binary": (text(METRICS, bytes(range(256)) + b"\n{}\n"), LINED),
    "metrics: steps of text": (metrics(env_steps="x"), NONE),
    "metrics: time of a list": (metrics(wall_time_s=[1]), NONE),
    "metrics: huge return": (metrics(**{"return/step_0": 10**400}), NONE),
    "metrics: huge step": (metrics(**{f"return/step_{'9' * 5000}": 1.0}), NONE),
    "metrics: another iteration": (metrics(iteration=10**30), NONE),
    "metrics: one with others": (metrics(**{"<b>": {"a": [1]}}), NONE),
    # What is written for people, and by other programs.
    "meta: gone": (gone(META), NONE),
    "meta: pipe": (pipe(META), NONE),
    "meta: folder": (folder(META), NONE),
    "meta: deep": (text(META, DEEP), NONE),
    "meta: list": (text(META, "[1]"), NONE),
    "meta: begun from a number": (text(META, '{"init_from": 3, "command": 4}'), NONE),
    "meta: begun from numbers": (
        text(META, '{"init_from": {"run": 1, "sha256": 2, "iteration": "x"}}'),
        NONE,
    ),
    "lock: deep": (lock(DEEP), NONE),
    "lock: list": (lock("[1]"), NONE),
    "lock: numbers": (lock('{"host": 1, "pid": "x"}'), NONE),
    "wandb: deep": (text("wandb.json", DEEP), NONE),
    "validation: deep": (text("validation.jsonl", DEEP + "\n{}\n"), RESUME),
    "validation: list": (text("validation.jsonl", "[1]\n{}\n"), RESUME),
    "modules that hide others": (
        lambda run: [shutil.copy(run / "evil.py", run / f"{name}.py") for name in ("json", "yaml")],
        NONE,
    ),
}
CASES |= {
    f"state: {name}": (
        lambda run, change=change: reseal(run, change),
        ALL - {"init"} if "time" in name else ALL,  # a warm start begins with no time
    )
    for name, (change, _) in STATES.items()
}
FAILING: dict[str, dict[str, int]] = {
    "metrics: pipe": {"resume": 1},
    "meta: folder": {"resume": 1},
    "state: parameters that are no numbers": dict.fromkeys(ALL - {"load"}, 1),
}
"""Doors that blame the machine or the agent: the exit code is 1."""


# --- the doors ---------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def twin(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The honest run with another seed, so that the two can be compared."""
    folder = tmp_path_factory.mktemp("twin")
    config = write_config(folder, iterations=1, seed=2)
    assert main(["train", "--config", str(config), "--run-dir", str(folder / "run")]) == 0
    return folder / "run"


@pytest.fixture
def crafted(
    twin: Path, marker: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Callable[[Craft], Path]:
    """Makes folders, with a module that must not be imported; the user stands in the last one.

    Pictures are drawn, but not as points: that takes ten times as long as all else.
    """

    def save(figure: Figure, file: io.BytesIO, **_: object) -> None:
        figure.draw_without_rendering()
        Image.new("RGB", (2, 2)).save(file, "PNG")

    def make(craft: Craft) -> Path:
        run = tmp_path / f"{len(list(tmp_path.iterdir()))}/run"
        shutil.copytree(twin, run)
        (run / "evil.py").write_text(TRAP.format(marker=str(marker)))
        craft(run)
        monkeypatch.chdir(run)
        return run

    monkeypatch.setattr(Figure, "savefig", save)
    return make


@contextlib.contextmanager
def at_most(seconds: int) -> Iterator[None]:
    """What waits for ever, for a pipe say, gets a TimeoutError."""

    def stop(*_: object) -> None:
        raise TimeoutError

    before = signal.signal(signal.SIGALRM, stop)
    signal.alarm(seconds)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


def answers(run: Path, honest: Path, marker: Path) -> dict[str, object]:
    """The exit code of every door; it said one sentence if it refused the folder."""
    codes: dict[str, object] = {}
    for door, enter in DOORS.items():
        said = io.StringIO()
        with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(said):
            try:
                with at_most(60):
                    codes[door] = enter(run, honest)
            except SystemExit as end:
                codes[door] = end.code
            except UserError as error:
                print(f"error: {error}", file=sys.stderr)
                codes[door] = 2
        text = said.getvalue()
        assert not marker.exists(), door
        assert codes[door] in (0, 1, 2), (door, text)
        assert "Traceback" not in text, door
        assert text.replace("\n", "").isprintable(), door
        if codes[door]:
            assert re.fullmatch(r"(warning: .*\n)*error: .{1,2000}[.\]]\n", text), (door, text)
    return codes


@pytest.mark.parametrize("name", CASES)
def test_a_crafted_folder_is_refused_in_a_sentence_where_it_matters(
    name: str, crafted: Callable[[Craft], Path], honest: Path, marker: Path
) -> None:
    craft, refusing = CASES[name]
    codes = answers(crafted(craft), honest, marker)
    expected = dict.fromkeys(DOORS, 0) | dict.fromkeys(refusing, 2) | FAILING.get(name, {})
    assert codes == expected


# --- from seeds --------------------------------------------------------------------------------

SEEDS, FOLDERS = (1, 2, 3), 20  # of each seed
VALUES = [None, True, -1, 0, 1.5, 10**30, "x", "", "trap:Env", [], [1, "x"], {}, {"a": {"b": 1}}]
FILES = (CONFIG, STATE, MANIFEST, LATEST, METRICS, META)


def places(tree: Any) -> list[tuple[Any, Any]]:
    """All containers in a tree, with their keys."""
    items = tree.items() if isinstance(tree, dict) else enumerate(tree)
    found = [(tree, key) for key, _ in items]
    return found + [
        place
        for container, key in found
        if isinstance(container[key], dict | list)
        for place in places(container[key])
    ]


def spoil_tree(rng: random.Random, tree: Any) -> Any:
    """Put one wrong value anywhere, or remove one."""
    container, key = rng.choice(places(tree))
    if rng.random() < 0.2:
        del container[key]
    else:
        container[key] = rng.choice(VALUES)
    return tree


def spoil(rng: random.Random) -> Craft:
    """A wrong value in a file that is otherwise right, or wrong bytes in it."""
    name = rng.choice(FILES)

    def values(run: Path) -> None:
        if name == STATE:
            reseal(run, lambda state: spoil_tree(rng, state))
        elif name == MANIFEST:
            rewrite_manifest(run, **spoil_tree(rng, json.loads((run / name).read_text())))
        elif name == CONFIG:
            tree = yaml.safe_load((run / name).read_text())
            (run / name).write_text(yaml.safe_dump(spoil_tree(rng, tree)))
        else:
            tree = [json.loads((run / name).read_text())]
            (run / name).write_text(json.dumps(spoil_tree(rng, tree)) + "\n")

    def some_bytes(run: Path) -> None:
        data = bytearray((run / name).read_bytes())
        for _ in range(rng.randint(1, 5)):
            data[rng.randrange(len(data))] = rng.randrange(256)
        (run / name).write_bytes(data[: rng.choice([None, rng.randrange(len(data))])])

    return rng.choice([values, values, some_bytes])


@pytest.mark.parametrize("seed", SEEDS)
def test_folders_from_seeds(
    seed: int, crafted: Callable[[Craft], Path], honest: Path, marker: Path
) -> None:
    rng, refused = random.Random(seed), 0
    for _ in range(FOLDERS):
        codes = answers(crafted(spoil(rng)), honest, marker)
        refused += any(codes.values())
    assert refused >= FOLDERS / 2  # most are wrong indeed


def test_there_are_enough() -> None:
    assert len(CASES) + len(SEEDS) * FOLDERS >= 160
