"""Classes by their import path, "package.module:Class": never from inside a run folder.

Run folders are handed around, and what lies in one is a record, no program: neither a module that
is asked for by name is found there, nor one that another module imports.
"""

from __future__ import annotations

import contextlib
import difflib
import functools
import importlib
import os
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import FunctionType, ModuleType
from typing import Any

import metarl
from metarl.envs.faults import in_words

_TRACES = ("config.yaml", "meta.json", "metrics.jsonl", "checkpoints")
_HERE = Path(__file__).resolve().parent
_ROOTS = (sys.prefix, sys.base_prefix, str(_HERE), os.path.dirname(str(metarl.__file__)))
_INSTALLED = {*_ROOTS, *map(os.path.realpath, _ROOTS)}
"""Where modules may lie even if it lies in a run folder, as it does if that is a whole project."""


def run_folder_of(path: str | Path) -> Path | None:
    """The run folder that a path is or lies in, also by way of a link; None if there is none.

    A run folder has two of `config.yaml`, `meta.json`, `metrics.jsonl` and `checkpoints`.
    """
    try:
        ways = dict.fromkeys((os.path.abspath(path), os.path.realpath(path)))
    except (OSError, ValueError):  # the working directory is gone; no path at all
        return None
    for way in ways:
        for folder in (Path(way), *Path(way).parents):
            if str(folder) in _INSTALLED:
                break
            if sum(os.path.lexists(folder / name) for name in _TRACES) > 1:
                return folder
    return None


def import_class(kind: str, path: str, names: Iterable[str]) -> type:
    """The class at "package.module:Class"; the working directory is searched too.

    Raises:
        ValueError: there is none, naming the nearest of its module or of `names`; or its module, or
            one that it imports, lies in a run folder.
    """
    found = _imported(kind, path, names, type)
    assert isinstance(found, type)
    return found


def import_maker(kind: str, path: str, names: Iterable[str]) -> Callable[..., Any]:
    """The class or the function at "package.module:Class", as `import_class`."""
    found: Callable[..., Any] = _imported(kind, path, names, type | FunctionType)
    return found


def import_module(kind: str, path: str) -> ModuleType:
    """The module of an import path; the working directory is searched too.

    Raises:
        ValueError: as `import_class`.
    """
    module_name = path.partition(":")[0]
    if (known := sys.modules.get(module_name)) is not None:  # nothing is looked for
        return known
    if module_name.partition(".")[0] != "metarl":
        _search_working_directory()
    try:
        with outside_run_folders():
            return importlib.import_module(module_name)
    except (Exception, SystemExit) as error:  # a user's module can fail in any way
        reason = in_words(error)
        if isinstance(error, _InRunFolder):
            reason = str(error)
        elif _was_ours(module_name, error):
            reason = f"metarl's own environments are in metarl.envs: write 'metarl.{path}'"
        elif isinstance(error, ImportError) and str(error.name).split(".")[0] == "envs":
            reason += " (metarl's own environments are imported from metarl.envs)"
        elif isinstance(error, SystemExit):
            reason += "; what is to run as a program belongs under if __name__ == '__main__'"
        raise ValueError(f"The {kind} {path!r} cannot be imported: {reason}.") from error


def _imported(kind: str, path: str, names: Iterable[str], kinds: Any) -> Any:
    """What stands at an import path, one of these kinds of things."""
    module_name, colon, name = path.partition(":")
    if not (colon and module_name and name):
        wanted = 'an import path "package.module:Class"'
        if names:
            there_are = unknown(kind, path, names, "there are").rstrip(".")
            raise ValueError(f"{there_are}; or {wanted}.")
        raise ValueError(f"The {kind} is {path!r}: it must be {wanted}.")
    module = import_module(kind, path)
    found = getattr(module, name, None)
    if not isinstance(found, kinds):
        own = [
            key
            for key, value in vars(module).items()
            if isinstance(value, kinds) and value.__module__ == module_name and key[0] != "_"
        ]
        sort = "class" if kinds is type else "class or function"
        raise ValueError(unknown(sort, name, own, f"the module {module_name} has"))
    return found


@contextlib.contextmanager
def outside_run_folders() -> Iterator[None]:
    """Within, imports find nothing that lies in a run folder, be it the working directory."""
    left_out = [(i, entry) for i, entry in enumerate(sys.path) if run_folder_of(entry)]
    for index, _ in reversed(left_out):
        del sys.path[index]
    guard = _Guard()
    sys.meta_path.insert(0, guard)
    try:
        yield
    finally:
        sys.meta_path.remove(guard)
        for index, entry in left_out:
            sys.path.insert(index, entry)


class _InRunFolder(ImportError):
    """A module is there, but in a run folder."""


class _Guard(MetaPathFinder):
    """Finds what the other finders find, and refuses what lies in a run folder."""

    def __init__(self) -> None:
        self._run_folder_of = functools.cache(run_folder_of)

    def find_spec(
        self, name: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        for finder in sys.meta_path:
            if isinstance(finder, _Guard) or not hasattr(finder, "find_spec"):
                continue
            if (spec := finder.find_spec(name, path, target)) is None:
                continue
            places = list(spec.submodule_search_locations or [])
            if spec.has_location and spec.origin:
                # Where it lies, and where it leads if it is a link.
                places += map(os.path.dirname, {spec.origin, os.path.realpath(spec.origin)})
            for place in places:
                if (folder := self._run_folder_of(place)) is not None:
                    raise _InRunFolder(
                        f"the module {name} lies in the run folder {folder}, from inside which "
                        "nothing is imported",
                        name=name,
                    )
            return spec
        return None


def _search_working_directory() -> None:
    """Let imports find the user's modules: after all others, but before those beside metarl.

    A clone of metarl, whose program is run from elsewhere, has a directory envs/ as the user may.
    """
    here, clone = os.getcwd(), str(_HERE.parent)
    if run_folder_of(here):
        return
    if clone in sys.path and clone != here:
        others = [entry for entry in sys.path if entry != clone]
        sys.path[:] = dict.fromkeys([*others, here, clone])
    elif here not in sys.path:
        sys.path.append(here)


def _was_ours(module_name: str, error: BaseException) -> bool:
    """Whether a module that cannot be imported is metarl's under its former name, envs."""
    package, _, module = module_name.partition(".")
    return (
        package == "envs"
        and isinstance(error, ImportError)
        and error.name in ("envs", module_name)
        and (not module or (_HERE / f"{module}.py").is_file())
    )


def unknown(kind: str, name: str, known: Iterable[str], owner: str) -> str:
    """One sentence for an unknown name: the nearest, and all that there are."""
    known = list(known)
    nearest = difflib.get_close_matches(name, known, n=1)
    guess = f"did you mean {nearest[0]!r}? " if nearest else ""
    return f"Unknown {kind} {name!r}: {guess}{owner} {', '.join(known) or 'none'}."
