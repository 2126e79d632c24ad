"""A checkpoint's manifest: what it must hold, and that it and the files beside it are whole.

Nothing is unpickled here. See :mod:`metarl.storage.checkpoint`.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from metarl import __version__
from metarl.errors import UserError
from metarl.storage.files import is_as_told, read_regular
from metarl.storage.json_lines import read_json
from metarl.storage.segments import Segments, fault_of

FORMAT = 1
_MANIFEST_TYPES = {
    "format": int,
    "metarl_version": str,
    "iteration": int,
    "env_steps": int,
    "config_fingerprint": dict,
    "sha256": str,
    "files": dict,
    "buffers": dict,
}
_OPTIONAL = ("files", "buffers")


class Damaged(UserError):
    """This checkpoint is not whole; another one may be."""


def read_whole(path: Path, with_buffers: bool = False) -> tuple[dict[str, Any], bytes]:
    """Manifest and the bytes of the state, checked against each other.

    Args:
        path: Of the checkpoint.
        with_buffers: Whole enough to be resumed, and not only to be evaluated.

    Raises:
        Damaged: it is not whole.
        UserError: it has another format.
    """

    def damaged(how: str) -> Damaged:
        return Damaged(f"The checkpoint {path} {how}.")

    try:
        manifest = read_json(path / "manifest.json")
        data = read_regular(path / "state.pt")
    except FileNotFoundError as error:
        raise damaged(f"is incomplete: no {Path(error.filename).name}") from None
    except (OSError, ValueError) as error:
        reason = (
            error.strerror or error if isinstance(error, OSError) else "its manifest is not JSON"
        )
        raise damaged(f"cannot be read: {reason}") from None
    if not isinstance(manifest, dict):
        raise damaged("has a manifest that is no JSON object")
    if manifest.get("format", FORMAT) != FORMAT:
        raise UserError(
            f"The checkpoint {path} has format {str(manifest['format'])[:40]}; this metarl "
            f"{__version__} reads format {FORMAT}."
        )
    for key, kind in _MANIFEST_TYPES.items():
        if type(manifest.get(key, {} if key in _OPTIONAL else None)) is not kind:
            raise damaged(f"has a manifest without a valid {key!r}")
    if str(manifest["iteration"]) != path.name:
        raise damaged(f"says it is of iteration {manifest['iteration']}")
    if not 0 <= manifest["env_steps"] < 2**63:
        raise damaged("has a manifest without a valid 'env_steps'")
    # The first checkpoints had no such hash.
    if manifest.pop("manifest_sha256", None) not in (None, digest(manifest)):
        wrong = "manifest.json does not match its own SHA-256"
        raise damaged(f"is damaged or tampered with: {wrong}")
    for key in _OPTIONAL:
        manifest.setdefault(key, {})
    if hashlib.sha256(data).hexdigest() != manifest["sha256"]:
        wrong = "state.pt does not match the SHA-256 in its manifest"
        raise damaged(f"is damaged or tampered with: {wrong}")
    for name, told in manifest["files"].items():
        if Path(name).name != name or not is_as_told(path / name, told):
            wrong = f"{name} does not match the length and SHA-256 in its manifest"
            raise damaged(f"is damaged or tampered with: {wrong}")
    fault = fault_of(path.parents[1], manifest["buffers"]) if with_buffers else None
    if fault is not None:
        raise damaged(f"can be evaluated and not resumed: {fault}")
    return manifest, data


def segments_of(path: Path) -> Segments:
    """What the manifest of a checkpoint names of the buffers."""
    with contextlib.suppress(OSError, ValueError, AttributeError):
        segments: Segments = read_json(path / "manifest.json").get("buffers", {})
        return segments
    return {}


def digest(manifest: Mapping[str, Any]) -> str:
    """The SHA-256 of a manifest's entries, however they are laid out in its file."""
    return hashlib.sha256(json.dumps(manifest, sort_keys=True).encode()).hexdigest()


def is_whole(path: Path, with_buffers: bool = False) -> bool:
    """Whether :func:`read_whole` would read it."""
    try:
        read_whole(path, with_buffers)
    except UserError:
        return False
    return True
