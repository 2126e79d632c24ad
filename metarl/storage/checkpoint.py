"""Checkpoints: written whole or not at all, and safe to load from a stranger.

A checkpoint is the folder ``checkpoints/<iteration>/`` with ``state.pt`` (tensors and builtins) and
``manifest.json`` (format, version, iteration, env steps, the config's fingerprint, the SHA-256 of
``state.pt`` and that of all these entries). It is written beside its place, flushed to the disk and
renamed; ``latest`` names the newest. That of iteration ``i`` holds the state after the iteration
whose ``metrics.jsonl`` line says ``i``. What is too big to be built in memory may lie beside
``state.pt`` as a file of its own: the manifest's ``files`` names each, with its ``bytes`` and
``sha256``. Replay buffers lie in the run folder, in segments that ``buffers`` names, see
:mod:`metarl.storage.segments`; they are needed to resume only.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, TypeVar

from metarl import __version__
from metarl.errors import EnvironmentFailure, UserError, warn
from metarl.storage.files import (
    delete_folder,
    delete_leftovers,
    read_regular,
    replace_file,
    replace_folder,
)
from metarl.storage.manifest import FORMAT, Damaged, digest, is_whole, read_whole, segments_of
from metarl.storage.segments import Buffer, delete_unused, write_segments
from metarl.storage.tensors import read_plain, write_plain

Changes = Callable[[Mapping[str, Any]], Sequence[str]]


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


def save_checkpoint(
    run_dir: Path,
    iteration: int,
    state: Mapping[str, Any],
    *,
    env_steps: int,
    fingerprint: Mapping[str, Any],
    keep: int,
    buffers: Mapping[str, Buffer] | None = None,
) -> Path:
    """Writes the checkpoint of an iteration, points ``latest`` at it and deletes the oldest.

    A whole checkpoint of the same iteration is left as it is: config and seed decide its content.

    Args:
        run_dir: The run folder.
        iteration: Iterations finished.
        state: Nested dict of tensors and builtins.
        env_steps: Valid env steps so far.
        fingerprint: Of the config, see :func:`metarl.config.loading.fingerprint`.
        keep: How many to keep, the newest.
        buffers: What is saved in segments; what is new in them goes to the disk first.

    Raises:
        TypeError: The state holds what a checkpoint cannot.
        EnvironmentFailure: The folder cannot be written; the last good checkpoint is intact.
    """
    data = write_plain(state)
    manifest: dict[str, Any] = {
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
        if buffers:
            manifest["buffers"] = write_segments(run_dir, iteration, buffers)
        manifest["manifest_sha256"] = digest(manifest)
        described = json.dumps(manifest, indent=1).encode()
        delete_leftovers(folder)
        if not is_whole(target, with_buffers=True):
            replace_folder(target, {"state.pt": data, "manifest.json": described})
        replace_file(folder / "latest", f"{iteration}\n".encode())
    except OSError as error:
        raise EnvironmentFailure(
            f"The checkpoint of iteration {iteration} cannot be written to {folder}: "
            f"{error.strerror or error}; {_last_good(run_dir)}."
        ) from error
    _prune(folder, iteration, keep)
    if buffers:  # one that was left as it was may name others than those in use
        delete_unused(run_dir, [manifest["buffers"], *map(segments_of, folder.glob("[0-9]*"))])
    return target


def _last_good(run_dir: Path) -> str:
    try:
        good = newest_checkpoint(run_dir)
    except UserError:  # the folder cannot even be read
        good = None
    return "there is no other" if good is None else f"the newest good one is of iteration {good}"


def _prune(folder: Path, iteration: int, keep: int) -> None:
    """Keeps the newest ``keep`` up to ``iteration``.

    Later ones are of a future that was given up when the run fell back to an earlier checkpoint;
    counted as the newest they would push out the one just written.
    """
    there = _iterations(folder)
    past = [i for i in there if i <= iteration]
    for old in [*past[:-keep], *(i for i in there if i > iteration)]:
        with contextlib.suppress(OSError):  # never stop a run for what it could not delete
            delete_folder(folder / str(old))


# ---------------------------------------------------------------------------------------------
# Reading


def newest_checkpoint(run_dir: Path, *, with_buffers: bool = False) -> int | None:
    """The iteration of the newest whole checkpoint; None when there is none yet.

    Args:
        run_dir: The run folder.
        with_buffers: Whole enough to be resumed, and not only to be evaluated.
    """
    folder = run_dir / "checkpoints"
    there = reversed(_iterations(folder))
    return next((i for i in there if is_whole(folder / str(i), with_buffers)), None)


def load_checkpoint(
    run_dir: Path,
    which: int | Literal["latest"] = "latest",
    changes: Changes | None = None,
    *,
    fall_back: bool = False,
) -> Checkpoint:
    """Reads a checkpoint; nothing in it is ever executed.

    Args:
        run_dir: The run folder.
        which: An iteration, or the one that ``latest`` names.
        changes: From the fingerprint of the config that made the checkpoint, what the config in
            use says otherwise: see :func:`metarl.config.loading.changes`.
        fall_back: Where the latest is damaged take the newest good one, with a line on stderr. For
            resuming, which computes the lost iterations again and needs the buffers; an evaluation
            should rather know.

    Raises:
        UserError: It is missing, damaged, tampered with, of another format or another config, or
            holds anything but tensors and plain values.
    """
    return _chosen(run_dir, which, lambda path: _read(path, changes, fall_back), fall_back)


def verify_checkpoint(
    run_dir: Path, which: int | Literal["latest"] = "latest", *, fall_back: bool = False
) -> None:
    """Compares a checkpoint with its hashes; nothing of it is unpickled.

    Raises:
        UserError: As :func:`load_checkpoint`, which takes the same arguments.
    """
    if not fall_back or newest_checkpoint(run_dir) is None:
        _chosen(run_dir, which, read_whole, fall_back)


_Read = TypeVar("_Read")


def _chosen(
    run_dir: Path,
    which: int | Literal["latest"],
    read: Callable[[Path], _Read],
    fall_back: bool,
) -> _Read:
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
        return read(folder / str(wanted))
    except Damaged as error:
        good = newest_checkpoint(run_dir, with_buffers=fall_back)
        if good is None:
            raise UserError(f"{error} There is no other good checkpoint in {folder}.") from None
        if good == 0 < (newest_checkpoint(run_dir) or 0):  # a whole run is not thrown away for that
            raise UserError(f"{error} Without it only a new run could begin.") from None
        if which != "latest" or not fall_back:
            raise UserError(f"{error} The newest good one is that of iteration {good}.") from None
        warn(f"{error} Going on from iteration {good}.")
        return read(folder / str(good))


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
        text = read_regular(folder / "latest").decode().strip()
    except FileNotFoundError:
        raise Damaged(f"{folder / 'latest'} is missing.") from None
    except (OSError, ValueError):
        text = ""
    if not re.fullmatch(r"[0-9]{1,18}", text):
        raise Damaged(f"{folder / 'latest'} names no iteration.")
    iteration = int(text)
    if not (folder / str(iteration)).is_dir():
        raise Damaged(f"{folder / 'latest'} names iteration {iteration}, which is not there.")
    return iteration


def _read(path: Path, changes: Changes | None, with_buffers: bool) -> Checkpoint:
    manifest, data = read_whole(path, with_buffers)
    try:
        clauses = changes(manifest["config_fingerprint"]) if changes else []
    except RecursionError:
        raise Damaged(f"The checkpoint {path} has an endless config in its manifest.") from None
    except UserError as error:
        wrong = f"The checkpoint {path} has a wrong config in its manifest"
        raise UserError(f"{wrong}: {error}") from None
    if clauses:
        raise UserError(f"The checkpoint {path} belongs to another config: {'; '.join(clauses)}.")
    return Checkpoint(manifest["iteration"], read_plain(data, f"checkpoint {path}"), manifest)
