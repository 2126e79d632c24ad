"""Where trained references lie, and how they are written and read.

``references/<environment>-<8 hex digits>/<kind>/`` holds ``weights.pt`` (tensors and plain values:
the policy, the critic, the normaliser's statistics) and ``reference.json`` (how it was made, and
the SHA-256 of ``weights.pt``). The digits name the environment's definition: its name and all
parameters of its constructor, whichever preset or config they came from. A reference is written
beside its place and renamed, so it is whole or absent. ``<kind>.training.pt`` beside it is what an
interrupted training goes on from.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import metarl
from metarl.errors import UserError
from metarl.storage.files import replace_file, replace_folder, writing
from metarl.storage.places import shipped_references
from metarl.storage.tensors import read_plain, write_plain

FORMAT = 1
DEFAULT_FOLDER = Path("references")

Definition = Mapping[str, Any]


def definition_of(env_config: Mapping[str, Any]) -> dict[str, Any]:
    """What an environment is, from the section ``env`` of a resolved config.

    The preset goes, since its parameters stand in the section themselves; threads and workers are
    no part of it.
    """
    fields = {name: value for name, value in env_config.items() if name != "preset"}
    return dict(json.loads(json.dumps(fields)))  # tuples as JSON has them


def folder_name(definition: Definition) -> str:
    """The folder of an environment's references, e.g. ``half_cheetah_vel-1f0a2b3c``."""
    text = json.dumps(dict(definition), sort_keys=True)
    digits = hashlib.sha256(text.encode()).hexdigest()[:8]
    name = re.sub(r"[^\w.-]+", "_", str(definition["name"])).lstrip(".-")
    return f"{name}-{digits}"


def search_path(folder: Path | None) -> list[Path]:
    """Where references are looked for: the folder given or ``references``, then those shipped."""
    first, shipped = folder or DEFAULT_FOLDER, shipped_references()
    return [first] if first.resolve() == shipped else [first, shipped]


def find(kind: str, definition: Definition, folders: Sequence[Path]) -> Path | None:
    """The folder of a trained reference, the first there is; None if there is none."""
    places = (folder / folder_name(definition) / kind for folder in folders)
    return next((place for place in places if (place / "reference.json").is_file()), None)


@dataclass(frozen=True)
class StoredReference:
    """A trained reference as it was read.

    Attributes:
        state: ``policy`` (tensors), ``normaliser``, ``architecture``.
        metadata: ``reference.json``.
    """

    state: dict[str, Any]
    metadata: dict[str, Any]

    @property
    def sha256(self) -> str:
        """Of the weights."""
        return str(self.metadata["sha256"])


def save(place: Path, state: Mapping[str, Any], metadata: Mapping[str, Any]) -> None:
    """Write a reference whole or not at all, in place of one that is there.

    Args:
        place: Its folder, ``.../<kind>``.
        state: ``policy`` (stable-baselines3's state_dict), ``normaliser``, ``architecture``.
        metadata: JSON; has ``kind`` and ``env``, the environment's definition.

    Raises:
        EnvironmentFailure: the folder cannot be written.
    """
    data = write_plain(state)
    digest = hashlib.sha256(data).hexdigest()
    text = json.dumps({"format": FORMAT, **metadata, "sha256": digest}, indent=1, allow_nan=False)
    with writing(place):
        replace_folder(place, {"weights.pt": data, "reference.json": f"{text}\n".encode()})


def load(place: Path, kind: str, definition: Definition) -> StoredReference:
    """Read a reference; nothing in it is ever executed.

    Raises:
        UserError: it is damaged, of another format, kind or environment, or holds anything but
            tensors and plain values.
    """
    metadata = read_json(place / "reference.json", "reference")
    if metadata.get("format") != FORMAT:
        raise UserError(
            f"The reference {place} has format {str(metadata.get('format'))[:40]}; this metarl "
            f"{metarl.__version__} reads format {FORMAT}."
        )
    _check_definition(metadata, place, kind, definition)
    try:
        data = (place / "weights.pt").read_bytes()
    except OSError as error:
        raise UserError(
            f"The reference {place} cannot be read: weights.pt: {error.strerror or error}."
        ) from None
    if hashlib.sha256(data).hexdigest() != metadata.get("sha256"):
        raise UserError(
            f"The reference {place} is damaged or tampered with: weights.pt does not match the "
            f"SHA-256 in reference.json."
        )
    return StoredReference(read_plain(data, f"reference {place}"), metadata)


def read_json(path: Path, what: str) -> dict[str, Any]:
    """A JSON object of a file.

    Raises:
        UserError: it cannot be read or is none.
    """
    try:
        data = json.loads(path.read_bytes())
    except (OSError, ValueError, RecursionError) as error:
        reason = (error.strerror or error) if isinstance(error, OSError) else "it is not JSON"
        raise UserError(f"The {what} {path} cannot be read: {reason}.") from None
    if not isinstance(data, dict):
        raise UserError(f"The {what} {path} is no JSON object.")
    return data


def _check_definition(
    metadata: Mapping[str, Any], place: Path, kind: str, definition: Definition
) -> None:
    if metadata.get("kind") != kind:
        raise UserError(f"The reference {place} is of kind {metadata.get('kind')!r}, not {kind!r}.")
    made_for = metadata.get("env")
    if not isinstance(made_for, dict):
        raise UserError(f"The reference {place} does not say for which environment it is.")
    wanted = dict(definition)
    for name in sorted({*made_for, *wanted}):
        if made_for.get(name, "absent") != wanted.get(name, "absent"):
            was = json.dumps(made_for.get(name, "absent"))
            now = json.dumps(wanted.get(name, "absent"))
            raise UserError(
                f"The reference {place} belongs to another environment: env.{name} was {was} and "
                f"is {now} here."
            )


# ---------------------------------------------------------------------------------------------
# Interrupted training


def training_file(place: Path) -> Path:
    """What an interrupted training of this reference goes on from."""
    return place.with_name(f"{place.name}.training.pt")


def save_training(place: Path, state: Mapping[str, Any]) -> None:
    """Keep what a training goes on from, whole or not at all.

    Raises:
        EnvironmentFailure: it cannot be written.
    """
    with writing(training_file(place)):
        place.parent.mkdir(parents=True, exist_ok=True)
        replace_file(training_file(place), write_plain(state))


def load_training(place: Path) -> dict[str, Any] | None:
    """What an interrupted training left, None if there is nothing.

    Raises:
        UserError: it is damaged.
    """
    path = training_file(place)
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        return None
    except OSError as error:
        raise UserError(f"{path} cannot be read: {error.strerror or error}.") from None
    return read_plain(data, f"interrupted training {path}")
