"""Calls into an environment that do not return are told of, and may be given up."""

from __future__ import annotations

import contextlib
import mmap
import os
import struct
import sys
import threading
import time
import weakref
from collections.abc import Hashable
from typing import Protocol

PATIENCE_S = 60.0
"""Until the first line about a call; until the next one it is twice as long, and so on."""
TICK_S = 1.0
_PLACE = struct.Struct("qq")


class Watched(Protocol):
    """An environment that can say what it is at."""

    def under_way(self, what: str) -> tuple[Hashable, str]:
        """What changes while the call gets on; where it is, in words."""
        ...

    def give_up(self, seconds: float) -> None:
        """Let the call fail, which has not got on for so long."""
        ...


class Watch:
    """Watches the calls of one environment, on a thread of its own.

    Args:
        owner: The environment; nothing here keeps it alive.
        limit_s: Seconds without getting on after which it is told to give up; None for never.
    """

    def __init__(self, owner: Watched, limit_s: float | None = None) -> None:
        self._owner = weakref.ref(owner)
        self._limit_s = limit_s
        self._calls = 0
        self._call: tuple[int, str, bool] | None = None  # its number, what it is, whether limited
        self._seen: tuple[int, Hashable] | None = None
        self._since, self._due, self._gave_up = 0.0, 0.0, False
        self._thread: threading.Thread | None = None

    def begin(self, what: str, limited: bool = True) -> None:
        """A call of this method begins, which may have no limit."""
        self._calls += 1
        self._call = (self._calls, what, limited)
        if self._thread is None:
            self._thread = threading.Thread(
                target=_run, args=(weakref.ref(self),), name="metarl-watch", daemon=True
            )
            self._thread.start()

    def end(self) -> None:
        """It has returned."""
        self._call = None

    def look(self) -> None:
        """Compare with the last look."""
        call, owner, now = self._call, self._owner(), time.monotonic()
        if call is None or owner is None:
            return
        number, what, limited = call
        place, words = owner.under_way(what)
        limit_s = self._limit_s if limited else None
        if self._seen != (number, place):
            self._seen = (number, place)
            self._since, self._due, self._gave_up = now, PATIENCE_S, False
            return
        waited = now - self._since
        if waited >= self._due and call is self._call:
            self._due *= 2
            limit = f"; it fails after {limit_s:g} s" if limit_s else ""
            with contextlib.suppress(OSError, ValueError):  # nobody may read
                print(f"{words} has not returned for {waited:.0f} s{limit}", file=sys.stderr)
        if limit_s and waited >= limit_s and not self._gave_up and call is self._call:
            self._gave_up = True
            owner.give_up(limit_s)


def _run(watch: weakref.ref[Watch]) -> None:
    while (there := watch()) is not None:
        there.look()
        del there
        time.sleep(TICK_S)


class Place:
    """The lane that a worker process is at, in memory that its parent reads.

    Where the system has none without a file (memfd), nothing is known of it.

    Args:
        descriptor: Of the memory; None to make it.
    """

    def __init__(self, descriptor: int | None = None) -> None:
        self.descriptor = descriptor
        if descriptor is None and hasattr(os, "memfd_create"):
            self.descriptor = os.memfd_create("metarl-lane")
            os.ftruncate(self.descriptor, _PLACE.size)
        self._memory = None
        if self.descriptor is not None:
            self._memory = mmap.mmap(self.descriptor, _PLACE.size)
            if descriptor is None:
                self.at(-1)

    def at(self, lane: int) -> None:
        """The worker begins with a lane, or is at none: -1."""
        if self._memory is not None:
            _PLACE.pack_into(self._memory, 0, lane, self.calls + 1)

    @property
    def lane(self) -> int | None:
        """Of the worker's own; None if it is at none, or not known."""
        lane = -1 if self._memory is None else int(_PLACE.unpack_from(self._memory)[0])
        return None if lane < 0 else lane

    @property
    def calls(self) -> int:
        """How often it began with one."""
        return 0 if self._memory is None else int(_PLACE.unpack_from(self._memory)[1])

    def hand_over(self) -> None:
        """Close the descriptor, which the other process has; the memory stays."""
        if self.descriptor is not None:
            os.close(self.descriptor)
            self.descriptor = None
