"""Where the configs and references that come with metarl lie.

In the wheel inside the package; in the repository, also when installed editable, at its top level.
"""

from __future__ import annotations

import difflib
import os
from pathlib import Path

import metarl
from metarl.errors import UserError

_PACKAGE = Path(metarl.__file__).resolve().parent


def shipped_configs() -> Path:
    """The folder of the configs that can be given by name."""
    return _shipped("configs", "configs")


def shipped_references() -> Path:
    """The folder of the trained references that come with metarl.

    Those that a user trains lie in ``references`` in the working folder.
    """
    return _shipped("shipped_references", "references")


def config_names() -> list[str]:
    """The names of the shipped configs, without those of W&B's sweeps."""
    files = shipped_configs().glob("*.yaml")
    return sorted(file.stem for file in files if not file.stem.startswith("sweep_"))


def find_config(name_or_path: str | Path) -> Path:
    """The config that a user means: a file, else the shipped config of that name.

    Raises:
        UserError: there is neither; the sentence names the nearest.
    """
    path, names = Path(os.path.expanduser(name_or_path)), config_names()
    if os.path.isfile(path):  # False, not an error, for an impossible path
        return path
    if str(path) in names:
        return shipped_configs() / f"{path}.yaml"
    nearest = difflib.get_close_matches(path.stem, names, n=1)
    guess = f"did you mean {nearest[0]!r}? " if nearest else ""
    raise UserError(
        f"There is no config {str(path)!r}: {guess}it must be a YAML file or one of those that "
        "metarl list configs shows."
    )


def find_suite(name_or_path: str | Path) -> Path:
    """The suite that a user means: a file, else the shipped suite of that name.

    Raises:
        UserError: there is neither; the sentence names the nearest.
    """
    path, folder = Path(os.path.expanduser(name_or_path)), shipped_configs() / "suites"
    if os.path.isfile(path):
        return path
    names = sorted(file.stem for file in folder.glob("*.yaml"))
    if str(path) in names:
        return folder / f"{path}.yaml"
    nearest = difflib.get_close_matches(path.stem, names, n=1)
    guess = f"did you mean {nearest[0]!r}? " if nearest else ""
    raise UserError(
        f"There is no suite {str(path)!r}: {guess}it must be a YAML file or one of "
        f"{', '.join(names)}."
    )


def _shipped(in_wheel: str, in_repository: str) -> Path:
    inside = _PACKAGE / in_wheel
    return inside if inside.is_dir() else _PACKAGE.parent / in_repository
