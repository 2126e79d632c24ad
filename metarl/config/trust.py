"""Which code a config may name: parts of metarl freely, anything else with the user's word.

A run folder may come from a stranger, and to import what its config names is to execute it. The
user gives his word by ``--trust-code`` or ``trust_code=True``, or by naming a config file that lies
in no run folder. Even then nothing is imported from inside a run folder, which
:mod:`metarl.envs.importing` sees to, and only after the checkpoint was verified.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path as FilePath
from typing import Any

from metarl import algorithms
from metarl.config.messages import Origins, Path, at, dotted, shown
from metarl.config.validation import Word
from metarl.envs.importing import run_folder_of
from metarl.envs.registry import NAMES
from metarl.errors import UserError

SWITCH = "--trust-code"


@dataclass(frozen=True)
class Trust:
    """The user's word for the code that a config names.

    Attributes:
        everything: Whatever it names may be imported.
        paths: So may these, which he named himself.
    """

    everything: bool = False
    paths: frozenset[str] = frozenset()

    def in_file(self, path: FilePath | None) -> Trust:
        """For a config that the user named, or gave without a file.

        It is his word, unless it lies in a run folder.
        """
        return self if path is not None and run_folder_of(path) else EVERYTHING

    def check(self, data: Mapping[str, Any], origins: Origins) -> None:
        """Refuses a config that names code without the user's word; nothing is imported.

        Raises:
            UserError: Says what would be imported, where it is named and how to allow it.
        """
        for path, name in named_code(data).items():
            if not (self.everything or name in self.paths):
                raise UserError(
                    f"{at(path, origins)}{dotted(path)} is {shown(name)}, which is no part of "
                    f"metarl: to import it is to execute code that this run names. If you trust "
                    f"it, say {SWITCH} (in Python trust_code=True)."
                )


EVERYTHING, NOTHING = Trust(everything=True), Trust()


def named_code(data: Mapping[str, Any]) -> dict[Path, str]:
    """What a config's data name that is imported from elsewhere than metarl: field ↦ name.

    The names of the environments, the algorithm and the tasks' distributions, if they are no parts
    of metarl, and every other text of these sections that could be an import path. The words of a
    command line are the user's own.
    """
    environments = {*NAMES, *NAMES.values()}
    known_algorithms = {
        *algorithms.ALGORITHMS,
        *(f"{algorithms.__name__}.{path}" for path, _ in algorithms.ALGORITHMS.values()),
    }
    sections: list[tuple[Path, Any, set[str]]] = [(("env",), data.get("env"), environments)]
    sections.append((("algorithm",), data.get("algorithm"), known_algorithms))
    if isinstance(further := data.get("further_envs"), Mapping):
        sections += [(("further_envs", name), one, environments) for name, one in further.items()]
    found: dict[Path, str] = {}
    for section, value, known in sections:
        for path, text in _texts({"name": value} if isinstance(value, str) else value, section):
            is_name = path[len(section) :] in (("name",), ("tasks",))
            if not isinstance(text, Word) and text not in known and (is_name or ":" in text):
                found[path] = text
    return found


def trusting(data: Mapping[str, Any]) -> list[str]:
    """The words of a command line that it needs for a config with these data in a run folder."""
    return [SWITCH] if named_code(data) else []


def _texts(value: object, path: Path) -> Iterator[tuple[Path, str]]:
    """Every text within a value, and where it stands."""
    if isinstance(value, str):
        yield path, value
    elif isinstance(value, Mapping):
        for key, child in value.items():
            yield from _texts(child, (*path, key))
    elif isinstance(value, list | tuple):
        for index, child in enumerate(value):
            yield from _texts(child, (*path, index))
