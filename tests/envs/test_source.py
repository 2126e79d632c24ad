"""A changed environment is noticed; a comment is no change."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from metarl.envs.source import source_hash

Hashed = Callable[..., str | None]
CODE = "from base import Base\n\n\nclass Mine(Base):\n    x = 1  # one\n"
BASE = "import gymnasium\n\n\nclass Base(gymnasium.Env):\n    def set_task(self, task): ...\n"
TASKS = "from metarl.envs import UniformInterval\n\n\nclass Far(UniformInterval): ...\n"


@pytest.fixture
def hashed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Hashed]:
    """The hash of Mine, of files with the given texts."""
    monkeypatch.setattr(sys, "path", [str(tmp_path), *sys.path])
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    names = ("mine", "base", "far")

    def forget() -> None:
        for name in names:
            sys.modules.pop(name, None)
        importlib.invalidate_caches()

    def hash_of(*texts: str, tasks: str | None = None) -> str | None:
        forget()
        for name, text in zip(names, texts, strict=False):
            (tmp_path / f"{name}.py").write_text(text)
        return source_hash("mine:Mine", tasks)

    yield hash_of
    forget()


def test_what_counts_as_a_change(hashed: Hashed) -> None:
    first = hashed(CODE, BASE, TASKS)
    assert first is not None
    assert hashed(CODE.replace("# one", "# first") + "\n\n", BASE) == first
    assert hashed(CODE.replace("x = 1", "x = 2"), BASE) != first
    assert hashed(CODE, BASE.replace("...", "self.task = task")) != first, "of a base"
    with_tasks = hashed(CODE, BASE, TASKS, tasks="far:Far")
    assert with_tasks != first
    changed = hashed(CODE, BASE, TASKS.replace("...", "low = 3"), tasks="far:Far")
    assert changed not in (with_tasks, first), "of its tasks"


def test_metarls_own_environments_go_by_its_version() -> None:
    assert source_hash("point_navigation") is None
