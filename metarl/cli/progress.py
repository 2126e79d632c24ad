"""How far a training of a reference is: a bar on a terminal, plain lines elsewhere."""

from __future__ import annotations

import sys
import time
from types import TracebackType

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeRemainingColumn,
)

from metarl.cli.process import optional_output

_PLAIN_INTERVAL_S = 10.0


class ProgressBar:
    """Counts to a total; used as a context.

    Args:
        name: What is trained.
        total: Env steps, or rounds.
        unit: Of the total.
    """

    def __init__(self, name: str, total: int, unit: str = "env steps") -> None:
        self._name, self._total, self._unit = name, total, unit
        self._began = time.monotonic()
        self._printed_at = float("-inf")
        self._first: int | None = None  # where an interrupted training was
        # Asked of the stream itself: CI services set FORCE_COLOR, which rich takes for a terminal.
        console = Console(force_terminal=sys.stdout.isatty())
        self._bar: Progress | None = None
        if console.is_terminal and not console.is_dumb_terminal:
            self._bar = Progress(
                TextColumn("{task.description}", markup=False),
                BarColumn(bar_width=24),
                MofNCompleteColumn(),
                TextColumn(unit),
                TimeRemainingColumn(),
                TextColumn("{task.fields[details]}", markup=False),
                console=console,
                refresh_per_second=2,  # a faster display takes time from the physics threads
            )
            self._task = self._bar.add_task(name, total=total, details="")

    def __enter__(self) -> ProgressBar:
        if self._bar is not None:
            self._bar.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._bar is not None:
            self._bar.stop()

    def update(self, count: int, mean_return: float | None = None) -> None:
        """Show that so much of the total is behind, and the return of late."""
        now = time.monotonic()
        if self._first is None:
            self._first, self._began = count, now
        elapsed = now - self._began
        parts = [] if mean_return is None else [f"return {mean_return:.2f}"]
        if elapsed > 0 and self._total > 100:  # a few rounds have no pace worth telling
            parts.append(f"{(count - self._first) / elapsed:,.0f} {self._unit}/s")
        details = "  ".join(parts)
        if self._bar is not None:
            self._bar.update(self._task, completed=min(count, self._total), details=details)
        elif now - self._printed_at >= _PLAIN_INTERVAL_S or count >= self._total:
            self._printed_at = now
            with optional_output():
                print(f"{self._name}  {count:,}/{self._total:,} {self._unit}  {details}")
