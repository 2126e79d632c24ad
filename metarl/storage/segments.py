"""What grows from checkpoint to checkpoint, such as a replay buffer, as files that never change.

With each checkpoint what is new goes to a *segment*, a file in the run folder's ``buffers/``, which
is written once and named after its content. The checkpoint's manifest lists under ``buffers`` the
segments that its state needs, each with its ``bytes`` and ``sha256``. So nothing is written twice;
an older checkpoint stays as good as the newest; and what a killed process had written beyond the
last checkpoint is named nowhere, and goes with the next save.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import shutil
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from metarl.errors import UserError
from metarl.storage.files import delete_leftovers, is_as_told, replace_file

FOLDER = "buffers"
Segments = Mapping[str, list[dict[str, Any]]]
"""Of each buffer, in the order in which they were written: ``file``, ``bytes``, ``sha256``."""


class Buffer(Protocol):
    """What is saved in segments.

    Attributes:
        segments: Those that hold its content, but for what is new.
        capacity: Rows that it holds when it is full.
        setting: The field of the section algorithm that says so; None: not known.
        nbytes: Of memory that it takes when it is full; of disk hardly more.
    """

    segments: list[dict[str, Any]]
    capacity: int
    setting: str | None

    @property
    def nbytes(self) -> int:
        """See above."""

    def unsaved(self) -> list[np.ndarray]:
        """The parts of the next segment; [] if nothing is new."""

    def saved(self, segment: dict[str, Any]) -> None:
        """What was unsaved lies in this segment; those that hold nothing any more are dropped."""

    def load(self, segment: dict[str, Any], content: np.ndarray) -> None:
        """Take back a segment's bytes, a uint8 ``[bytes]``; ValueError if they do not fit."""


def check_room(buffers: Mapping[str, Buffer], run_dir: Path) -> str | None:
    """What buffers will take at most, in a sentence, before anything is trained; None of none.

    Raises:
        UserError: there is less, of memory or on the disk of the run folder.
    """
    if not buffers:
        return None
    need = sum(buffer.nbytes for buffer in buffers.values())
    there = {"of memory": _free_memory(), f"on the disk of {run_dir}": _free_disk(run_dir)}
    for place, free in there.items():
        if free is not None and need > free:
            largest = max(buffers.values(), key=lambda buffer: buffer.nbytes)
            setting = largest.setting
            which = "The capacity of replay" if setting is None else f"algorithm.{setting}"
            fitting = (free - need + largest.nbytes) * largest.capacity // largest.nbytes
            raise UserError(
                f"{which} is {largest.capacity:,}, with which the replay buffers may take "
                f"{in_units(need)} {place}, where {in_units(free)} are free: it must be at most "
                f"{max(fitting, 0):,} here."
            )
    return f"The replay buffers take up to {in_units(need)} of memory, and as much of the disk"


def write_segments(run_dir: Path, iteration: int, buffers: Mapping[str, Buffer]) -> Segments:
    """Writes what is new in every buffer, for the checkpoint of an iteration.

    Raises:
        OSError: It cannot be written.
    """
    folder = run_dir / FOLDER
    for name, buffer in buffers.items():
        if not (parts := [np.ascontiguousarray(part).data for part in buffer.unsaved()]):
            continue
        digest = hashlib.sha256()
        for part in parts:
            digest.update(part)
        sha256 = digest.hexdigest()
        file = f"{name}-{iteration}-{sha256[:16]}"
        folder.mkdir(parents=True, exist_ok=True)
        replace_file(folder / file, *parts)
        size = sum(part.nbytes for part in parts)
        buffer.saved({"file": file, "bytes": size, "sha256": sha256})
    return {name: list(buffer.segments) for name, buffer in buffers.items()}


def fault_of(run_dir: Path, told: Any) -> str | None:
    """What is wrong with what a manifest tells of segments, or with them; None: nothing."""
    try:
        named = {segment["file"]: segment for segments in told.values() for segment in segments}
    except (AttributeError, TypeError, KeyError):
        return "its manifest names no segments"
    for name, segment in named.items():
        if Path(str(name)).name != name or not is_as_told(run_dir / FOLDER / name, segment):
            return f"{FOLDER}/{name} is missing, or not what its manifest says"
    return None


def read_segments(run_dir: Path, told: Segments, buffers: Mapping[str, Buffer]) -> None:
    """Fills empty buffers with the segments of a checkpoint, whose hashes were compared.

    Raises:
        UserError: They are not of these buffers.
    """
    if told.keys() != buffers.keys():
        raise UserError(
            f"The checkpoint has the buffers {', '.join(told) or 'none'}, where "
            f"{', '.join(buffers) or 'none'} belong."
        )
    for name, segments in told.items():
        for segment in segments:
            path = run_dir / FOLDER / segment["file"]
            try:
                buffers[name].load(segment, np.memmap(path, dtype=np.uint8, mode="r"))
            except (OSError, ValueError) as error:
                raise UserError(f"{path} cannot be read as a part of {name}: {error}.") from None


def delete_unused(run_dir: Path, checkpoints: Iterable[Segments]) -> None:
    """Removes the segments that no checkpoint names."""
    folder = run_dir / FOLDER
    named = {s["file"] for told in checkpoints for segments in told.values() for s in segments}
    with contextlib.suppress(OSError):  # never stop a run for what it could not delete
        delete_leftovers(folder)
        for path in folder.glob("*"):
            if path.name not in named:
                path.unlink(missing_ok=True)


def in_units(size: int) -> str:
    """A number of bytes, as ``1.2 GB``."""
    for unit, bytes_of_it in (("TB", 10**12), ("GB", 10**9), ("MB", 10**6)):
        if size >= bytes_of_it:
            return f"{size / bytes_of_it:.1f} {unit}"
    return f"{size / 1000:.1f} kB"


def _free_memory() -> int | None:
    """Bytes that a process can have, as far as the system tells."""
    try:
        lines = Path("/proc/meminfo").read_text(encoding="utf-8").splitlines()
        free = {line.split(":")[0]: int(line.split()[1]) for line in lines}["MemAvailable"]
        return 1024 * free
    except (OSError, ValueError, KeyError, IndexError):
        pass
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, OSError, ValueError):  # Windows
        return None


def _free_disk(run_dir: Path) -> int | None:
    """Bytes that the run folder may grow by, with what its buffers take there already."""
    try:
        taken = sum(path.stat().st_size for path in (run_dir / FOLDER).glob("*"))
        return shutil.disk_usage(run_dir).free + taken
    except OSError:
        return None
