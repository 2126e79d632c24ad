"""What a run shows while it goes: a live display on a terminal, plain lines elsewhere."""

from __future__ import annotations

import sys
import time
from collections import deque
from collections.abc import Iterable, Mapping
from datetime import timedelta
from typing import Any, Protocol

from rich.console import Console, RenderableType
from rich.progress import BarColumn, Progress, ProgressColumn, Task, TextColumn
from rich.text import Text

PLAIN_INTERVAL_S = 1.0
PACE_WINDOW = 20  # iterations over which the time left is estimated


class Display(Protocol):
    """Shows the row of each meta-iteration, and notes beside them."""

    def start(self) -> None: ...
    def update(self, row: Mapping[str, Any]) -> None: ...
    def print(self, text: str) -> None: ...
    def warn(self, text: str) -> None: ...
    def stop(self) -> None: ...


def open_display(name: str, total_iterations: int, console: Console | None = None) -> Display:
    """The display that suits the output: live on a terminal, plain lines on anything else."""
    if console is None:
        # Asked of the stream itself: CI services set FORCE_COLOR, which rich takes for a terminal.
        console = Console(force_terminal=sys.stdout.isatty())
    if console.is_terminal and not console.is_dumb_terminal:
        return LiveDisplay(name, total_iterations, console)
    return PlainDisplay(total_iterations, console)


class Pace:
    """The time left, from the mean duration of the last iterations (validations included)."""

    def __init__(self, total_iterations: int) -> None:
        self._total = total_iterations
        self._times: deque[float] = deque([time.monotonic()], maxlen=PACE_WINDOW + 1)
        self._iteration: int | None = None

    def restart(self) -> None:
        self._times.clear()
        self._times.append(time.monotonic())

    def finished(self, iteration: int) -> None:
        self._times.append(time.monotonic())
        self._iteration = iteration

    def left(self) -> str:
        """`h:mm:ss`, or `-:--:--` before the first iteration has finished."""
        if self._iteration is None:
            return "-:--:--"
        duration = (self._times[-1] - self._times[0]) / (len(self._times) - 1)
        since = time.monotonic() - self._times[-1]
        seconds = max(0.0, (self._total - self._iteration) * duration - since)
        return str(timedelta(seconds=round(seconds)))


def returns_text(row: Mapping[str, Any]) -> str:
    """The first and the last `return/*` entry: before and after adaptation, in any algorithm."""
    names = [name for name in row if name.startswith("return/")]
    shown = names if len(names) < 2 else [names[0], names[-1]]
    return "  ".join(f"{name} {_number(row[name])}" for name in shown)


def speed_text(row: Mapping[str, Any]) -> str:
    speed = row.get("env_steps_per_s")
    return "" if speed is None else f"{speed:,.0f} env steps/s"


def _number(value: float | None) -> str:
    return "nan" if value is None else f"{value:.2f}"


class PlainDisplay:
    """A line an iteration, at most one a second, and the last one; no control characters."""

    def __init__(self, total_iterations: int, console: Console) -> None:
        self._file = console.file
        self._total = total_iterations
        self._pace = Pace(total_iterations)
        self._printed_at = float("-inf")
        self._pending: str | None = None

    def start(self) -> None:
        self._pace.restart()

    def update(self, row: Mapping[str, Any]) -> None:
        self._pace.finished(row["iteration"])
        self._pending = "  ".join(
            part
            for part in (
                f"iteration {row['iteration']}/{self._total}",
                f"{row['env_steps']:,} env steps",
                speed_text(row),
                returns_text(row),
                f"{self._pace.left()} left",
            )
            if part
        )
        now = time.monotonic()
        if now - self._printed_at >= PLAIN_INTERVAL_S:
            self._printed_at = now
            self._flush_pending()

    def print(self, text: str) -> None:
        self._flush_pending()
        self._write(text)

    def _write(self, text: str) -> None:
        try:
            print(text, file=self._file, flush=True)
        except OSError:
            # Nobody reads any more (`| head`), or the log's disk is full: no reason to stop a run.
            self._file = _NOWHERE

    def warn(self, text: str) -> None:
        self.print(f"warning: {text}")

    def stop(self) -> None:
        self._flush_pending()

    def _flush_pending(self) -> None:
        if self._pending is not None:
            self._write(self._pending)
            self._pending = None


class _Nowhere:
    """A text stream that takes everything and keeps nothing."""

    def write(self, text: str) -> int:
        return len(text)

    def flush(self) -> None:
        pass


_NOWHERE: Any = _Nowhere()


class LiveDisplay:
    """A progress bar that stays at the bottom of the terminal; notes scroll above it."""

    def __init__(self, name: str, total_iterations: int, console: Console) -> None:
        self._console = console
        self._bar = _Bar(total_iterations, console)
        self._task = self._bar.add_task(name, total=total_iterations)

    def start(self) -> None:
        self._bar.pace.restart()
        self._bar.start()

    def update(self, row: Mapping[str, Any]) -> None:
        self._bar.pace.finished(row["iteration"])
        self._bar.details = "  ".join(
            part
            for part in (returns_text(row), speed_text(row), f"{row['env_steps']:,} env steps")
            if part
        )
        self._bar.update(self._task, completed=row["iteration"], refresh=True)

    def print(self, text: str) -> None:
        self._console.print(Text(text), soft_wrap=True)  # no markup, no emoji

    def warn(self, text: str) -> None:
        self._console.print(Text(f"warning: {text}", "yellow"), soft_wrap=True)

    def stop(self) -> None:
        self._bar.stop()


class _TimeLeft(ProgressColumn):
    """Time left by the run's own pace: rich's estimate forgets iterations of over 30 s."""

    def __init__(self, pace: Pace) -> None:
        super().__init__()
        self._pace = pace

    def render(self, task: Task) -> Text:
        return Text(f"{self._pace.left()} left")


class _Bar(Progress):
    """Bar, iteration and time left on one line, returns and speed on the next: fits 80 columns."""

    def __init__(self, total_iterations: int, console: Console) -> None:
        # Set first: Progress renders once in its own constructor.
        self.pace = Pace(total_iterations)
        self.details = ""
        super().__init__(
            TextColumn("{task.description}", markup=False),
            BarColumn(bar_width=24),
            TextColumn("iteration {task.completed:.0f}/{task.total:.0f}"),
            _TimeLeft(self.pace),
            console=console,
            refresh_per_second=2,  # a faster display takes time from the physics threads
        )

    def get_renderables(self) -> Iterable[RenderableType]:
        yield self.make_tasks_table(self.tasks)
        yield Text(self.details, no_wrap=True, overflow="ellipsis")
