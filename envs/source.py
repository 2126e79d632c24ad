"""A hash of a user's environment: what was measured on another source of it does not count."""

from __future__ import annotations

import ast
import hashlib
import inspect
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from metarl.envs.importing import import_class
from metarl.envs.registry import NAMES, env_maker

_OURS = {"metarl", "gymnasium", "numpy", "builtins", *sys.stdlib_module_names} - {"__main__"}
"""Packages whose versions are recorded, or that an environment is not made of."""


def source_hash(name: str, tasks: str | None = None) -> str | None:
    """SHA-256 of the code of a user's environment; None for those of metarl, or without source.

    It is that of the files in which the environment's class, its bases and the class of its tasks
    stand, or the function that makes it, without comments and layout. What they import is not
    looked at.

    Args:
        name: The environment's, as in a config.
        tasks: The import path of its task distribution's class, where it is another's.

    Raises:
        ValueError: there is no such class or function.
    """
    makers: list[Any] = [] if name in NAMES else [env_maker(name)]
    makers += [] if tasks is None else [import_class("task distribution", tasks, ())]
    codes = sorted({code for maker in makers for code in _codes(maker)})
    return hashlib.sha256("\0".join(codes).encode()).hexdigest() if codes else None


def _codes(maker: Any) -> Iterator[str]:
    """The files of a class and its bases, or of a function."""
    maker = inspect.unwrap(getattr(maker, "creator", maker))  # of what Gymnasium has registered
    for part in getattr(maker, "__mro__", (maker,)):
        if str(part.__module__).partition(".")[0] in _OURS:
            continue
        try:
            file = inspect.getsourcefile(part)
            if file is not None and Path(file).is_file():
                text = Path(file).read_text(encoding="utf-8")
            else:
                text = inspect.getsource(part)  # of a notebook's cell
        except (OSError, TypeError, ValueError):
            continue
        try:
            yield ast.unparse(ast.parse(text))
        except (SyntaxError, ValueError, RecursionError):
            yield text
