"""Checkpoints: written whole or not at all, and safe to load from a stranger.

A checkpoint is the folder ``checkpoints/<iteration>/`` with ``state.pt`` (tensors and builtins) and
``manifest.json`` (format, version, iteration, env steps, the config's fingerprint, the SHA-256 of
``state.pt``). It is written beside its place, flushed to the disk and renamed; ``latest`` names the
newest. That of iteration ``i`` holds the state after the iteration whose ``metrics.jsonl`` line
says ``i``.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import json
import os
import shutil
import sys
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch

from metarl import __version__
from metarl.errors import EnvironmentFailure, UserError
from metarl.storage.run_folder import PENDING, replace_file, sync_folder, write_through

FORMAT = 1
_MANIFEST_TYPES = {
    "format": int,
    "metarl_version": str,
    "iteration": int,
    "env_steps": int,
    "config_fingerprint": dict,
    "sha256": str,
}


@dataclass(frozen=True)
class Checkpoint:
    """A loaded checkpoint.

    Attributes:
        iteration: Iterations finished when it was written.
        state: What was saved, tensors on the CPU.
        manifest: The manifest, see the module's docstring.
    """

    iteration: int
    state: dict[str, Any]
    manifest: dict[str, Any]


class _Damaged(UserError):
    """This checkpoint is not whole; another one may be."""


# ---------------------------------------------------------------------------------------------
# Writing


def plain_state(value: Any, key: str = "state") -> Any:
    """A copy of tensors and builtins that ``torch.load(weights_only=True)`` takes back.

    Tensors are detached and copied to the CPU; NumPy scalars become builtins.

    Raises:
        TypeError: Anything else, NumPy arrays too; names its place, e.g. ``state['policy']['w']``.
    """
    if isinstance(value, torch.Tensor):
        # A copy, since of a view the whole storage behind it would be saved.
        return value.detach().to("cpu", copy=True)
    if isinstance(value, np.generic):  # before float: np.float64 is one
        return plain_state(value.item(), key)
    if isinstance(value, Mapping):
        for name in value:
            if type(name) not in (str, int):
                raise TypeError(f"{key} has the key {name!r}; a checkpoint's keys are str or int.")
        return {name: plain_state(child, f"{key}[{name!r}]") for name, child in value.items()}
    if isinstance(value, list | tuple):
        items = [plain_state(child, f"{key}[{i}]") for i, child in enumerate(value)]
        return items if isinstance(value, list) else tuple(items)
    if value is None or type(value) in (bool, int, float, str, bytes):
        return value
    hint = "; use torch.from_numpy" if isinstance(value, np.ndarray) else ""
    raise TypeError(f"{key} is a {type(value).__name__}, which a checkpoint cannot hold{hint}.")


def save_checkpoint(
    run_dir: Path,
    iteration: int,
    state: Mapping[str, Any],
    *,
    env_steps: int,
    fingerprint: Mapping[str, Any],
    keep: int,
) -> Path:
    """Writes the checkpoint of an iteration, points ``latest`` at it and deletes the oldest.

    A whole checkpoint of the same iteration is left as it is: config and seed decide its content.

    Args:
        run_dir: The run folder.
        iteration: Iterations finished.
        state: Nested dict of tensors and builtins.
        env_steps: Valid env steps so far.
        fingerprint: Of the config, see :func:`metarl.config.fingerprint`.
        keep: How many to keep, the newest.

    Raises:
        TypeError: The state holds what a checkpoint cannot.
        EnvironmentFailure: The folder cannot be written; the last good checkpoint is intact.
    """
    data = write_plain(state)
    manifest = {
        "format": FORMAT,
        "metarl_version": __version__,
        "iteration": int(iteration),
        "env_steps": int(env_steps),
        "config_fingerprint": dict(fingerprint),
        "sha256": hashlib.sha256(data).hexdigest(),
    }
    folder = run_dir / "checkpoints"
    target = folder / str(iteration)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        _delete_leftovers(folder)
        if not _is_whole(target):
            pending = folder / f"{PENDING}{iteration}-{os.getpid()}"
            try:
                pending.mkdir()
                write_through(pending / "state.pt", data)
                write_through(pending / "manifest.json", json.dumps(manifest, indent=1).encode())
                sync_folder(pending)
                if target.exists():  # a damaged one
                    _delete(target)
                os.rename(pending, target)
                sync_folder(folder)
            except OSError:
                shutil.rmtree(pending, ignore_errors=True)  # gives its space back
                raise
        replace_file(folder / "latest", f"{iteration}\n".encode())
    except OSError as error:
        try:
            good = newest_checkpoint(run_dir)
        except UserError:  # the folder cannot even be read
            good = None
        last = (
            "there is no other" if good is None else f"the newest good one is of iteration {good}"
        )
        raise EnvironmentFailure(
            f"The checkpoint of iteration {iteration} cannot be written to {folder}: "
            f"{error.strerror or error}; {last}."
        ) from error
    _prune(folder, iteration, keep)
    return target


def _delete(checkpoint: Path) -> None:
    """Deletes a checkpoint; renamed first, so that a kill leaves no half of one under its name."""
    doomed = checkpoint.with_name(f"{PENDING}{checkpoint.name}-deleted-{os.getpid()}")
    os.rename(checkpoint, doomed)
    shutil.rmtree(doomed, ignore_errors=True)


def _delete_leftovers(folder: Path) -> None:
    """Removes what killed processes were writing or deleting."""
    for leftover in folder.glob(f"{PENDING}*"):
        if leftover.is_dir():
            shutil.rmtree(leftover, ignore_errors=True)
        else:
            leftover.unlink(missing_ok=True)


def _prune(folder: Path, iteration: int, keep: int) -> None:
    """Keeps the newest ``keep`` up to ``iteration``.

    Later ones are of a future that was given up when the run fell back to an earlier checkpoint;
    counted as the newest they would push out the one just written.
    """
    there = _iterations(folder)
    past = [i for i in there if i <= iteration]
    for old in [*past[:-keep], *(i for i in there if i > iteration)]:
        with contextlib.suppress(OSError):  # never stop a run for what it could not delete
            _delete(folder / str(old))


# ---------------------------------------------------------------------------------------------
# Reading


def newest_checkpoint(run_dir: Path) -> int | None:
    """The iteration of the newest whole checkpoint; None when there is none yet."""
    folder = run_dir / "checkpoints"
    return next((i for i in reversed(_iterations(folder)) if _is_whole(folder / str(i))), None)


def load_checkpoint(
    run_dir: Path,
    which: int | Literal["latest"] = "latest",
    expected_fingerprint: Mapping[str, Any] | None = None,
    *,
    fall_back: bool = False,
) -> Checkpoint:
    """Reads a checkpoint; nothing in it is ever executed.

    Args:
        run_dir: The run folder.
        which: An iteration, or the one that ``latest`` names.
        expected_fingerprint: Of the config in use. Fields that only one side has are not compared:
            a run made before a field existed stays readable.
        fall_back: Where the latest is damaged take the newest good one, with a line on stderr. For
            resuming, which computes the lost iterations again; an evaluation should rather know.

    Raises:
        UserError: It is missing, damaged, tampered with, of another format or another config, or
            holds anything but tensors and plain values.
    """
    folder = run_dir / "checkpoints"
    there = _iterations(folder)
    if not there:
        place = f"{run_dir} holds no checkpoint" if run_dir.is_dir() else f"there is no {run_dir}"
        raise UserError(f"No checkpoint to load: {place}.")
    if which != "latest" and which not in there:
        listed = ", ".join(map(str, there))
        raise UserError(f"{run_dir} has no checkpoint of iteration {which}; there are: {listed}.")
    try:
        wanted = _latest(folder) if which == "latest" else which
        return _read(folder / str(wanted), expected_fingerprint)
    except _Damaged as error:
        good = newest_checkpoint(run_dir)
        if good is None:
            raise UserError(f"{error} There is no other good checkpoint in {folder}.") from None
        if which != "latest" or not fall_back:
            raise UserError(f"{error} The newest good one is that of iteration {good}.") from None
        print(f"warning: {error} Going on from iteration {good}.", file=sys.stderr)
        return _read(folder / str(good), expected_fingerprint)


def _iterations(folder: Path) -> list[int]:
    """Iterations that have a checkpoint folder, whole or not, ascending.

    Raises:
        UserError: The folder cannot be read.
    """
    try:
        names = [path.name for path in folder.iterdir() if path.is_dir()]
    except (FileNotFoundError, NotADirectoryError):
        return []
    except OSError as error:
        raise UserError(f"{folder} cannot be read: {error.strerror or error}.") from None
    return sorted(int(name) for name in names if name.isascii() and name.isdigit())


def _latest(folder: Path) -> int:
    try:
        text = (folder / "latest").read_text()
        iteration = int(text)
    except FileNotFoundError:
        raise _Damaged(f"{folder / 'latest'} is missing.") from None
    except (OSError, ValueError):
        raise _Damaged(f"{folder / 'latest'} names no iteration.") from None
    if not (folder / str(iteration)).is_dir():
        raise _Damaged(f"{folder / 'latest'} names iteration {iteration}, which is not there.")
    return iteration


def _read_whole(path: Path) -> tuple[dict[str, Any], bytes]:
    """Manifest and the bytes of the state, checked against each other; nothing is unpickled."""
    try:
        manifest = json.loads((path / "manifest.json").read_bytes())
        data = (path / "state.pt").read_bytes()
    except FileNotFoundError as error:
        raise _Damaged(
            f"The checkpoint {path} is incomplete: no {Path(error.filename).name}."
        ) from None
    except (OSError, ValueError, RecursionError) as error:
        reason = error.strerror if isinstance(error, OSError) else "its manifest is not JSON"
        raise _Damaged(f"The checkpoint {path} cannot be read: {reason}.") from None
    if not isinstance(manifest, dict):
        raise _Damaged(f"The checkpoint {path} has a manifest that is no JSON object.")
    if manifest.get("format", FORMAT) != FORMAT:
        raise UserError(
            f"The checkpoint {path} has format {str(manifest['format'])[:40]}; this metarl "
            f"{__version__} reads format {FORMAT}."
        )
    for key, kind in _MANIFEST_TYPES.items():
        if type(manifest.get(key)) is not kind:
            raise _Damaged(f"The checkpoint {path} has a manifest without a valid {key!r}.")
    if str(manifest["iteration"]) != path.name:
        raise _Damaged(f"The checkpoint {path} says it is of iteration {manifest['iteration']}.")
    if hashlib.sha256(data).hexdigest() != manifest["sha256"]:
        raise _Damaged(
            f"The checkpoint {path} is damaged or tampered with: state.pt does not match the "
            f"SHA-256 in its manifest."
        )
    return manifest, data


def _is_whole(path: Path) -> bool:
    try:
        _read_whole(path)
    except UserError:
        return False
    return True


def _read(path: Path, expected_fingerprint: Mapping[str, Any] | None) -> Checkpoint:
    manifest, data = _read_whole(path)
    if expected_fingerprint is not None:
        made_with = manifest["config_fingerprint"]
        expected = json.loads(json.dumps(dict(expected_fingerprint)))  # tuples as JSON has them
        other = [k for k in made_with if k in expected and made_with[k] != expected[k]]
        if other:
            field = other[0]
            raise UserError(
                f"The checkpoint {path} belongs to another config: {field} was "
                f"{json.dumps(made_with[field])} and is {json.dumps(expected[field])} now."
            )
    return Checkpoint(manifest["iteration"], read_plain(data, f"checkpoint {path}"), manifest)


def write_plain(state: Mapping[str, Any]) -> bytes:
    """A nested dict of tensors and builtins as bytes; TypeError as in :func:`plain_state`."""
    buffer = io.BytesIO()
    torch.save(plain_state(state), buffer)
    return buffer.getvalue()


def read_plain(data: bytes, name: str) -> dict[str, Any]:
    """What :func:`write_plain` wrote, tensors on the CPU; nothing in it is ever executed.

    Args:
        data: The bytes of the file: those that were hashed, where it has a hash.
        name: What they are, for the error's sentence.

    Raises:
        UserError: They hold anything but a dict of tensors and plain values.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # torch's advice to set weights_only=False
            state = torch.load(io.BytesIO(data), map_location="cpu", weights_only=True)
    except Exception as error:  # pickle, zip and torch each have their own
        raise UserError(
            f"The {name} is refused: its state holds something other than tensors and "
            f"plain values ({type(error).__name__}), and nothing in it was executed."
        ) from None
    if not isinstance(state, dict):
        raise UserError(
            f"The {name} is refused: its state is a {type(state).__name__}, not a dict."
        )
    return state
