"""How long iterations take: what a signal waits for, and whether another one ends in time."""

from __future__ import annotations

import time
from collections import deque

RECENT = 5
_CAUTION = 1.2  # the next iteration may be longer than the longest of the recent ones


class Pace:
    """Times iterations, each with the checkpoint and the validation that follow it.

    Args:
        deadline: Of :func:`time.monotonic`, by which all is to be saved; None for no limit.
    """

    def __init__(self, deadline: float | None = None) -> None:
        self._deadline = deadline
        self._recent: deque[float] = deque(maxlen=RECENT)  # seconds
        self._began: float | None = None
        self._iteration = 0

    def begin(self, iteration: int) -> None:
        """An iteration begins."""
        self._iteration, self._began = iteration, time.monotonic()

    def end(self) -> None:
        """It is over, and saved where it was to be."""
        assert self._began is not None
        self._recent.append(time.monotonic() - self._began)
        self._began = None

    def fits(self) -> bool:
        """Whether another iteration would end by the deadline; of the first nobody knows."""
        if self._deadline is None or not self._recent:
            return True
        return time.monotonic() + _CAUTION * max(self._recent) < self._deadline

    def under_way(self) -> str:
        """What an interrupt would wait for."""
        if self._began is None:
            return "what is under way to end"
        if not self._recent:
            return f"iteration {self._iteration} to end"
        left = max(self._recent) - (time.monotonic() - self._began)
        about = f"about {left:.0f} s" if left >= 1 else "about a second"
        return f"iteration {self._iteration} to end, {about if left > 0 else 'any moment now'}"
