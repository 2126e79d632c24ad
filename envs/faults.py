"""What goes wrong in a user's own code, in words: the error, and the place in that code."""

from __future__ import annotations

import contextlib
import inspect
import os
import sysconfig
import traceback
from bdb import BdbQuit
from collections.abc import Iterator
from typing import Any

import numpy as np

import metarl
from metarl.errors import message_of, one_line

_PATHS = (os.path.abspath, os.path.realpath)  # by any link
_LIBRARIES = {
    *map(sysconfig.get_path, ("stdlib", "platstdlib")),
    *map(os.path.dirname, (str(metarl.__file__), __file__)),
}
_NOT_THEIRS = tuple(f"{find(path)}{os.sep}" for path in _LIBRARIES for find in _PATHS)


class SimulationFailure(RuntimeError):
    """A simulation diverged, or an environment's own code or process failed.

    The message is one sentence that names the lane and its task.
    """


class BrokenContract(ValueError):
    """What a user's method returned is not what it must: one sentence that names the method."""


def in_words(error: BaseException, owner: object = None, method: str = "") -> str:
    """An error in one line, with the last line of the user's code that led to it.

    Where none of it is on the way, as when the arguments do not fit, it is the line of the method
    that was called, of the class `owner` or of the class of that object.
    """
    if isinstance(error, BrokenContract):  # which says where
        return message_of(error).rstrip(".")
    words = f"{type(error).__name__}: {message_of(error)}".rstrip(".: ")
    if isinstance(error, SystemExit):
        code = "" if error.code is None else one_line(repr(error.code))
        words = f"it called sys.exit({code})"
    elif isinstance(error, SyntaxError):  # which says where
        return words
    elif isinstance(error, BdbQuit) or words == "EOFError: EOF when reading a line":
        words = "it reads the standard input (input(), breakpoint()), where there is none"
    frames = [f for f in _frames(error) if _is_users(f.filename)]
    if frames:
        return f"{words} ({_shown(frames[-1].filename)}, line {frames[-1].lineno})"
    return f"{words}, in {defined(owner, method)}" if method else words


@contextlib.contextmanager
def users_code() -> Iterator[None]:
    """Within, what a user's own code raises is a failure of the simulation, in words.

    Raises:
        SimulationFailure: one sentence with the place in that code.
    """
    try:
        yield
    except (SimulationFailure, MemoryError):  # which others have words for
        raise
    except (Exception, SystemExit) as error:
        if not any(_is_users(frame.filename) for frame in _frames(error)):
            raise
        raise SimulationFailure(f"The environment failed: {in_words(error)}.") from error


def check_rows(owner: object, method: str, what: str, value: Any, shape: tuple[int, ...]) -> None:
    """Refuse an array of another shape, which would be broadcast in silence.

    Raises:
        SimulationFailure: names the method that returned it, its file and its line.
    """
    if np.shape(value) != shape:
        raise SimulationFailure(
            f"{defined(owner, method)} returned {value_in_words(value)} as {what}: it must be an "
            f"array of shape {list(shape)}."
        )


def _frames(error: BaseException) -> traceback.StackSummary:
    """Of the error, inside of what caught it."""
    return traceback.extract_tb(error.__traceback__)


def defined(owner: object, method: str) -> str:
    """A method and where it is written: ``Maze.step (maze.py, line 12)``."""
    cls = owner if isinstance(owner, type) else type(owner)
    function = inspect.unwrap(getattr(cls, method, None) or (lambda: None))
    name = f"{cls.__name__}.{method}"
    return f"{name}{written_at(function)}"


def written_at(function: Any) -> str:
    """Where a function or a class is written, `` (maze.py, line 12)``; "" if nobody knows."""
    try:
        if isinstance(function, type):
            file, line = inspect.getsourcefile(function), inspect.getsourcelines(function)[1]
        else:
            file, line = function.__code__.co_filename, function.__code__.co_firstlineno
    except (AttributeError, OSError, TypeError):
        return ""
    return f" ({_shown(str(file))}, line {line})"


def value_in_words(value: Any) -> str:
    """What a method returned, short enough for a sentence."""
    kind = type(value).__name__
    if value is None:
        return "None"
    if isinstance(value, dict):
        keys = one_line(", ".join(map(repr, value)))[:60]
        return f"a dict with the keys {keys}" if value else "an empty dict"
    if isinstance(value, tuple | list):
        return f"a {kind} of {len(value)}"
    if hasattr(value, "shape") and hasattr(value, "dtype"):
        of_type = "" if getattr(value.dtype, "kind", "f") in "biuf" else f" and type {value.dtype}"
        name = "an array" if kind == "ndarray" else f"a {kind}"
        graph = " that needs a gradient" if getattr(value, "requires_grad", False) else ""
        return f"{name} of shape {list(value.shape)}{of_type}{graph}"
    try:
        text = one_line(repr(value))
    except Exception:  # a user's class can fail in any way
        return f"a {kind}"
    return f"the {kind} {text if len(text) <= 40 else f'{text[:37]}...'}"


def numbers(value: Any) -> np.ndarray | None:
    """What a method returned as an array, whatever its shape; None if it is not of numbers."""
    try:
        values = np.asarray(value)
    except Exception:  # ragged lists, tensors that need a gradient
        return None
    return values if values.dtype.kind in "biuf" else None


def number(value: Any) -> Any:
    """The one number, or truth value, that a method returned; None if it is something else."""
    values = numbers(value)
    return values.item() if values is not None and values.size == 1 else None


def _is_users(file: str) -> bool:
    """Whether a file is neither Python's, nor a library's, nor metarl's."""
    installed = {"site-packages", "dist-packages"} & set(file.split(os.sep))
    return not (installed or file.startswith(("<frozen", *_NOT_THEIRS)))


def _shown(file: str) -> str:
    """A file as seen from the working directory."""
    try:
        relative = os.path.relpath(file)
    except (OSError, ValueError):  # no working directory; another drive
        return file
    return file if relative.startswith("..") or file.startswith("<") else relative
