"""Where trained references lie, and how they are written and read.

``references/<environment>-<8 hex digits>/<kind>/`` holds ``weights.pt`` (tensors and plain values:
the policy, the critic, the normaliser's statistics) and ``reference.json`` (how it was made, and
the SHA-256 of ``weights.pt``). The digits name the environment's definition: its name and the
parameters that differ from their defaults, whichever preset or config they came from. A reference
is found by the definition in its JSON, so it may lie under a key of an earlier release. It is
written beside its place and renamed, so it is whole or absent.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import metarl
from metarl import envs
from metarl.config.validation import as_plain
from metarl.envs.source import source_hash
from metarl.errors import UserError, warn
from metarl.storage.files import replace_folder, writing
from metarl.storage.json_lines import parse_json
from metarl.storage.places import shipped_references
from metarl.storage.tensors import read_plain, write_plain

FORMAT = 1
DEFAULT_FOLDER = Path("references")
_SOURCE = "source sha256"  # among the fields; no parameter is called so


@dataclass(frozen=True)
class Definition:
    """An environment's name and the parameters of its constructor.

    A parameter at its default says nothing: neither the key nor a comparison has it, so a new
    parameter of an environment loses none of its references.

    Attributes:
        fields: The name and all parameters, as JSON has them, whatever preset they came from; of a
            user's environment also the hash of its source.
        defaults: Of the parameters that have one.
    """

    fields: dict[str, Any]
    defaults: dict[str, Any]

    @classmethod
    def of(cls, env_config: Mapping[str, Any]) -> Definition:
        """From the section ``env`` of a resolved config.

        Raises:
            ValueError: There is no such environment.
        """
        fields = {n: value for n, value in env_config.items() if n not in ("preset", "params")}
        apart = env_config.get("params", {})  # of names that the section has for itself
        parameters = envs.constructor_fields(envs.env_maker(fields["name"])).items()
        defaults = {
            f"params.{n}" if n in apart else n: as_plain(p.default)
            for n, p in parameters
            if p.default is not envs.REQUIRED
        }
        fields |= {f"params.{n}": value for n, value in apart.items()}
        if source := source_hash(fields["name"], fields.get("tasks")):
            fields[_SOURCE] = source
        return cls(as_json(fields), as_json({"tasks": None, **defaults}))

    @property
    def name(self) -> str:
        """Of the environment: a short one or an import path."""
        return str(self.fields["name"])

    @property
    def stem(self) -> str:
        """The name as a folder's may be: what every key of this environment begins with."""
        return re.sub(r"[^\w.-]+", "_", self.name).lstrip(".-")

    @property
    def key(self) -> str:
        """Names the environment's folder, e.g. ``half_cheetah_vel-1f0a2b3c``."""
        text = json.dumps(self._differing(self.fields), sort_keys=True)
        return f"{self.stem}-{hashlib.sha256(text.encode()).hexdigest()[:8]}"

    def describes(self, fields: Any) -> bool:
        """Whether stored fields mean this environment."""
        if not isinstance(fields, dict):
            return False
        own = self._differing(self.fields)
        if _SOURCE not in fields:  # written by an earlier metarl
            own.pop(_SOURCE, None)
        return self._differing(fields) == own

    def is_of_another_source(self, fields: Any) -> bool:
        """Whether stored fields mean this environment, before or after a change of its code."""
        return isinstance(fields, dict) and (
            fields.get(_SOURCE) != self.fields.get(_SOURCE)
            and self.describes(fields | {_SOURCE: self.fields.get(_SOURCE)})
        )

    def _differing(self, fields: Mapping[str, Any]) -> dict[str, Any]:
        known = self.defaults
        return {n: v for n, v in fields.items() if n not in known or v != known[n]}


def as_json(value: Any) -> Any:
    """A value as it is read back from JSON: tuples are lists."""
    return json.loads(json.dumps(value, default=str))


def search_path(folder: Path | None) -> list[Path]:
    """Where references are looked for: the folder given or ``references``, then those shipped."""
    first, shipped = folder or DEFAULT_FOLDER, shipped_references()
    return [first] if first.resolve() == shipped else [first, shipped]


def stored(
    file: str, definition: Definition, folders: Sequence[Path]
) -> Iterator[tuple[Path, dict[str, Any]]]:
    """The JSON files of this environment, with what they say, under whatever key they lie.

    A line on stderr names what was made before the environment's source changed.

    Args:
        file: Below the environment's folder, e.g. ``oracle/reference.json``.
        definition: What the file's ``env`` must mean.
        folders: From :func:`search_path`.

    Raises:
        UserError: one that lies under this environment's key cannot be read.
    """
    for folder in folders:
        paths = folder.glob(f"{definition.stem}-*/{file}")
        for path in sorted(paths, key=lambda path: definition.key not in path.parts):
            try:
                data = read_json(path)
            except UserError:
                if definition.key in path.parts:
                    raise
                continue
            if definition.describes(data.get("env")):
                yield path, data
            elif definition.is_of_another_source(data.get("env")):
                warn(f"{path.parent} is not used: {definition.name} has changed since.")


class StoredReference(NamedTuple):
    """A trained reference as it was read: its folder, its state (see :func:`save`), its hash."""

    place: Path
    state: dict[str, Any]
    sha256: str


def find(kind: str, definition: Definition, folders: Sequence[Path]) -> StoredReference | None:
    """A trained reference, the first there is; None if there is none.

    Raises:
        UserError: it is damaged.
    """
    places = stored(f"{kind}/reference.json", definition, folders)
    return next((load(path.parent) for path, _ in places), None)


def save(place: Path, state: Mapping[str, Any], metadata: Mapping[str, Any]) -> None:
    """Write a reference whole or not at all, in place of one that is there.

    Args:
        place: Its folder, ``.../<kind>``.
        state: ``policy`` (stable-baselines3's state_dict), ``normaliser``, ``architecture``.
        metadata: JSON; has ``kind`` and ``env``, the fields of the environment's definition.

    Raises:
        EnvironmentFailure: the folder cannot be written.
    """
    data = write_plain(state)
    digest = hashlib.sha256(data).hexdigest()
    text = json.dumps({"format": FORMAT, **metadata, "sha256": digest}, indent=1, allow_nan=False)
    with writing(place):
        replace_folder(place, {"weights.pt": data, "reference.json": f"{text}\n".encode()})


def load(place: Path) -> StoredReference:
    """Read a reference; nothing in it is ever executed.

    Raises:
        UserError: it is damaged, of another format or kind, or holds anything but tensors and
            plain values.
    """
    metadata = read_json(place / "reference.json")
    if metadata.get("format") != FORMAT:
        raise UserError(
            f"The reference {place} has format {str(metadata.get('format'))[:40]}; this metarl "
            f"{metarl.__version__} reads format {FORMAT}."
        )
    if metadata.get("kind") != place.name:
        raise UserError(f"The reference {place} is of kind {metadata.get('kind')!r}.")
    data = read(place / "weights.pt")
    if hashlib.sha256(data).hexdigest() != metadata.get("sha256"):
        raise UserError(
            f"The reference {place} is damaged or tampered with: weights.pt does not match the "
            f"SHA-256 in reference.json."
        )
    return StoredReference(place, read_plain(data, f"reference {place}"), metadata["sha256"])


def read_json(path: Path) -> dict[str, Any]:
    """The JSON object of a reference's file.

    Raises:
        UserError: it cannot be read or is none.
    """
    try:
        data = parse_json(read(path))
    except ValueError:
        raise UserError(f"The reference {path} cannot be read: it is not JSON.") from None
    if not isinstance(data, dict):
        raise UserError(f"The reference {path} is no JSON object.")
    return data


def read(path: Path) -> bytes:
    """The bytes of a file.

    Raises:
        UserError: it cannot be read.
    """
    try:
        return path.read_bytes()
    except OSError as error:
        reason = error.strerror or error
        raise UserError(f"The reference {path} cannot be read: {reason}.") from None
