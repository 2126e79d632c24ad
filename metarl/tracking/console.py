"""What a run shows while it goes: a live display on a terminal, plain lines elsewhere."""

from __future__ import annotations

import os
import sys
import time
from collections import deque
from collections.abc import Iterable, Mapping
from datetime import timedelta
from typing import IO, Any, cast

from rich.console import Console, RenderableType
from rich.progress import BarColumn, Progress, TextColumn
from rich.text import Text

from metarl.evaluation.measures import RETURN, measured_by

PLAIN_INTERVAL_S = 1.0
PACE_WINDOW = 20  # iterations over which the time left is estimated


class Display:
    """Shows the row of each meta-iteration, and notes beside them.

    A bar stays at the bottom of a terminal and notes scroll above it. On anything else an iteration
    is a line, at most one a second and the last one, without control characters.

    Args:
        name: Of the run.
        total_iterations: Where it ends.
        console: Where to show it; None for standard output.
    """

    def __init__(self, name: str, total_iterations: int, console: Console | None = None) -> None:
        # Asked of the stream itself: CI services set FORCE_COLOR, which rich takes for a terminal.
        console = console or Console(force_terminal=sys.stdout.isatty())
        self._file: Any = _Optional(console.file)
        console.file = cast(
            IO[str], self._file
        )  # which the thread of the live display writes to as well
        self._console = console
        self._total = total_iterations
        self._pace = _Pace(total_iterations)
        live = console.is_terminal and not console.is_dumb_terminal
        self._bar = _Bar(name, total_iterations, self._pace, console) if live else None
        self._printed_at = float("-inf")
        self._pending: str | None = None

    def start(self) -> None:
        """Begin to measure the pace, and show the bar."""
        self._pace.restart()
        if self._bar is not None:
            self._bar.start()

    def update(self, row: Mapping[str, Any]) -> None:
        """Show the row of an iteration that has finished."""
        self._pace.finished(row["iteration"])
        if self._bar is not None:
            self._bar.show(row)
            return
        parts = [
            f"iteration {row['iteration']}/{self._total}",
            f"{row['env_steps']:,} {_steps(row)}",
        ]
        parts += [_speed(row), _returns(row), f"{self._pace} left"]
        self._pending = "  ".join(filter(None, parts))
        now = time.monotonic()
        if now - self._printed_at >= PLAIN_INTERVAL_S:
            self._printed_at = now
            self._flush_pending()

    def print(self, text: str, style: str | None = None) -> None:
        """Show a note as it is."""
        if self._bar is not None:
            self._console.print(text, style=style, markup=False, highlight=False, soft_wrap=True)
        else:
            self._flush_pending()
            print(text, file=self._file, flush=True)

    def warn(self, text: str) -> None:
        """Show a warning."""
        self.print(f"warning: {text}", style="yellow")

    def stop(self) -> None:
        """Show what is not shown yet, and leave the terminal as it was."""
        self._flush_pending()
        if self._bar is not None:
            self._bar.stop()

    def _flush_pending(self) -> None:
        if self._pending is not None:
            print(self._pending, file=self._file, flush=True)
            self._pending = None


class _Optional:
    """A stream that nobody has to read.

    The reader may be gone (`| head`), the terminal, or the space of the log's disk: no reason to
    stop a run.
    """

    def __init__(self, stream: Any) -> None:
        self._stream = stream

    def write(self, text: str) -> int:
        try:
            self._stream.write(text)
        except OSError:
            self._stream = open(os.devnull, "w", encoding="utf-8")  # noqa: SIM115
        return len(text)

    def flush(self) -> None:
        try:
            self._stream.flush()
        except OSError:
            self._stream = open(os.devnull, "w", encoding="utf-8")  # noqa: SIM115

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


_AGES_S = 3e8


class _Pace:
    """The time left, from the mean duration of the last iterations, validations included.

    rich's own estimate forgets iterations of over 30 s.
    """

    def __init__(self, total_iterations: int) -> None:
        self._total = total_iterations
        self._iteration: int | None = None
        self._times: deque[float] = deque(maxlen=PACE_WINDOW + 1)
        self.restart()

    def restart(self) -> None:
        self._times.clear()
        self._times.append(time.monotonic())

    def finished(self, iteration: int) -> None:
        self._times.append(time.monotonic())
        self._iteration = iteration

    def __str__(self) -> str:
        """`h:mm:ss`, or `-:--:--` before the first iteration has finished."""
        if self._iteration is None:
            return "-:--:--"
        duration = (self._times[-1] - self._times[0]) / (len(self._times) - 1)
        since = time.monotonic() - self._times[-1]
        seconds = max(0.0, (self._total - self._iteration) * duration - since)
        return str(timedelta(seconds=round(seconds))) if seconds < _AGES_S else "years"


class _Bar(Progress):
    """Bar, iteration and time left on one line, returns and speed on the next: fits 80 columns."""

    def __init__(self, name: str, total: int, pace: _Pace, console: Console) -> None:
        self._details = ""  # set first: Progress renders once in its own constructor
        super().__init__(
            TextColumn("{task.description}", markup=False),
            BarColumn(bar_width=24),
            TextColumn("iteration {task.completed:.0f}/{task.total:.0f}  {task.fields[pace]} left"),
            console=console,
            refresh_per_second=2,  # a faster display takes time from the physics threads
        )
        self._task = self.add_task(name, total=total, pace=pace)

    def show(self, row: Mapping[str, Any]) -> None:
        """The row of an iteration."""
        parts = [_returns(row), _speed(row), f"{row['env_steps']:,} {_steps(row)}"]
        self._details = "  ".join(filter(None, parts))
        self.update(self._task, completed=row["iteration"], refresh=True)

    def get_renderables(self) -> Iterable[RenderableType]:
        yield self.make_tasks_table(self.tasks)
        yield Text(self._details, no_wrap=True, overflow="ellipsis")


def _returns(row: Mapping[str, Any]) -> str:
    """The first and the last `return/*` entry: before and after adaptation, in any algorithm.

    Or `accuracy/*`, or whatever the run is measured by.
    """
    by = measured_by(row)
    names = [name for name in row if by is not None and name.startswith(f"{by.name}/")]
    shown = names if len(names) < 2 else [names[0], names[-1]]
    decimals = f".{(by or RETURN).decimals}f"
    return "  ".join(f"{n} {'nan' if row[n] is None else format(row[n], decimals)}" for n in shown)


def _steps(row: Mapping[str, Any]) -> str:
    return (measured_by(row) or RETURN).steps


def _speed(row: Mapping[str, Any]) -> str:
    speed = row.get("env_steps_per_s")
    return "" if speed is None else f"{speed:,.0f} {_steps(row)}/s"
