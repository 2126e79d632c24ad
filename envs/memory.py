"""What the instances of a user's environment take, measured before all of them are built."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple


class Memory(NamedTuple):
    """Of a worker process: its instances, its resident bytes, and by how much they grew.

    `growth` is that of an instance, the mean over those that were built last, without the process's
    first one, which brings imports with it; None where no other was built.
    """

    instances: int
    resident: int | None
    growth: float | None


def resident_bytes() -> int | None:
    """Resident memory of this process; None on systems without /proc."""
    try:
        pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1])
        return pages * os.sysconf("SC_PAGE_SIZE")
    except (OSError, ValueError, IndexError, AttributeError):
        return None


def costs_in_words(name: str, num_envs: int, measured: Sequence[Memory]) -> str:
    """How many instances there will be and what they take, judged by those that there are.

    Args:
        name: Of the environment.
        num_envs: Instances that there will be.
        measured: Every worker process, with a few of its instances.
    """
    count = "1 worker process" if len(measured) == 1 else f"{len(measured)} worker processes"
    words = f"{name}: one instance a lane, {num_envs} in {count}"
    resident = [memory.resident for memory in measured if memory.resident is not None]
    if len(resident) < len(measured):
        return words
    built = sum(memory.instances for memory in measured)
    growths = [memory.growth for memory in measured if memory.growth is not None]
    if growths:
        each = max(0.0, sum(growths) / len(growths))
        total = sum(resident) + each * (num_envs - built)
        return (
            f"{words}, about {_size(total)}: {_size(each)} each, beside what a process takes "
            f"(resident memory, measured on {built})"
        )
    return f"{words}, {_size(sum(resident))} (resident memory)" if built >= num_envs else words


def _size(size: float) -> str:
    """Bytes as 12.3 MB, 4.5 GB; less than a page cannot be measured."""
    if size < 1e5:
        return "under 0.1 MB"
    return f"{size / 1e6:.1f} MB" if size < 1e9 else f"{size / 1e9:.1f} GB"
