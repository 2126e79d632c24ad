"""How far the jobs of a suite are, as their folders tell, and the table of it."""

from __future__ import annotations

import functools
import sys
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any, Self

from rich.console import Console
from rich.live import Live
from rich.markup import escape
from rich.table import Table

from metarl.config.yaml_text import read_yaml
from metarl.errors import UserError
from metarl.evaluation.measures import RETURN, measured_by
from metarl.storage.json_lines import last_json_lines
from metarl.suites.jobs import Job, read_record
from metarl.suites.scheduler import INTERRUPTED, at_work, how_it_failed, is_done

STATES = ("running", "failed", "stopped", "waiting", "finished")
"""In the order of the table."""
REFRESH_S = 2.0
COLUMNS = ("iteration", "steps/s", "last return", "left", "state")


@dataclass(frozen=True)
class Progress:
    """How far a run is.

    Attributes:
        iteration: The last one.
        iterations: When it ends.
        speed: Env steps per second.
        last: Its last return, or whatever it is measured by, with its name.
        left_s: Seconds to the end; None where that cannot be told.
    """

    iteration: int
    iterations: int
    speed: float | None
    last: str
    left_s: float | None


@dataclass(frozen=True)
class JobStatus:
    """A job, its state (one of STATES), why it failed, and how far it is if it trains."""

    job: Job
    state: str
    why: str
    progress: Progress | None

    def cells(self) -> list[str]:
        """The row of the table, without the name."""
        state = f"{self.state}: {self.why}" if self.why else self.state
        if self.progress is None:
            return ["", "", "", "", state]
        p = self.progress
        left = "" if p.left_s is None else str(timedelta(seconds=round(p.left_s)))
        speed = "" if p.speed is None else f"{p.speed:,.0f}"
        running = self.state in ("running", "stopped")
        return [f"{p.iteration}/{p.iterations}", speed, p.last, left if running else "", state]


def suite_status(jobs: Sequence[Job]) -> list[JobStatus]:
    """The state of every job, read from the folders alone."""
    tokens: dict[str, str | None] = {}
    found = []
    for job in jobs:
        record, progress = read_record(job), _progress(job)
        why = ""
        if at_work(job, record):
            state = "running"
        elif is_done(job, record, tokens):
            assert record is not None
            tokens[job.name] = record.process.token
            state = "finished"
        elif record is not None and record.exit_code not in (None, 0, INTERRUPTED):
            state, why = "failed", how_it_failed(job, record.exit_code or 0)
        elif progress is not None and progress.iteration >= progress.iterations:
            state = "finished"  # by hand, or behind a suite's back
        else:
            state = "waiting" if progress is None and record is None else "stopped"
        found.append(JobStatus(job, state, why, progress))
    return found


def _progress(job: Job) -> Progress | None:
    """Of a run that has finished an iteration."""
    try:
        config, metrics = (job.folder / name for name in ("config.yaml", "metrics.jsonl"))
        changed = (config.stat().st_mtime_ns, metrics.stat().st_mtime_ns, metrics.stat().st_size)
        return _read_progress(config, metrics, changed)
    except OSError:
        return None


@functools.lru_cache(maxsize=4096)
def _read_progress(config: Path, metrics: Path, changed: tuple[int, ...]) -> Progress | None:
    rows = last_json_lines(metrics)[-20:]
    try:
        budget, _ = read_yaml(config)
        first, last = rows[0], rows[-1]
        iterations, most = int(budget["iterations"]), budget.get("max_env_steps")
        iteration, steps = int(last["iteration"]), int(last["env_steps"])
        share = iteration / iterations  # of the budget that ends first
        if most is not None and steps / most > share:
            iterations = round(iteration * most / steps)
        made, took = iteration - first["iteration"], last["wall_time_s"] - first["wall_time_s"]
        left = (iterations - iteration) * took / made if made else None
        return Progress(iteration, iterations, last.get("env_steps_per_s"), _last(last), left)
    except (UserError, LookupError, TypeError, ValueError, ZeroDivisionError):
        return None  # a record for people


def _last(row: dict[str, Any]) -> str:
    """The last of a row's returns: after all adaptation."""
    by = measured_by(row) or RETURN
    names = [name for name in row if name.startswith(f"{by.name}/")]
    value = row[names[-1]] if names else None
    return "" if value is None else f"{value:.{by.decimals}f}"


def summary(found: Sequence[JobStatus]) -> str:
    """How many jobs are in which state."""
    counts = Counter(status.state for status in found)
    return ", ".join(f"{counts[state]} {state}" for state in STATES if counts[state])


def print_status(found: Sequence[JobStatus]) -> None:
    """All jobs, a line each, in columns."""
    rows = [("", *COLUMNS), *((status.job.name, *status.cells()) for status in found)]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for name, *cells, state in rows:
        middle = [f"{cell:>{width}}" for cell, width in zip(cells, widths[1:], strict=False)]
        print("  ".join([f"{name:<{widths[0]}}", *middle, state]))
    print(summary(found))


class LiveStatus:
    """A table of all jobs that stays at the bottom of a terminal; elsewhere only lines.

    Args:
        jobs: Of the suite.
        clock: Tells the time in seconds.
    """

    def __init__(self, jobs: Sequence[Job], clock: Callable[[], float]) -> None:
        console = Console(force_terminal=sys.stdout.isatty())
        self._jobs, self._clock, self._shown_at = jobs, clock, float("-inf")
        live = console.is_terminal and not console.is_dumb_terminal
        self._live = Live(console=console, auto_refresh=False, transient=True) if live else None

    def __enter__(self) -> Self:
        if self._live is not None:
            self._live.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._live is not None:
            self._live.stop()

    def say(self, line: str) -> None:
        """A line above the table."""
        if self._live is not None:
            self._live.console.print(line, markup=False, highlight=False, soft_wrap=True)
        else:
            print(line, flush=True)

    def watch(self) -> None:
        """Show how far all jobs are, every few seconds."""
        if self._live is not None and self._clock() - self._shown_at >= REFRESH_S:
            shown = table(suite_status(self._jobs), self._live.console.height)
            self._live.update(shown, refresh=True)
            self._shown_at = self._clock()


def table(found: Sequence[JobStatus], height: int) -> Table:
    """What of the jobs fits a terminal: those at work first."""
    rows = sorted(found, key=lambda status: STATES.index(status.state))[: max(1, height - 5)]
    shown = Table(caption=summary(found), box=None, pad_edge=False)
    for name in ("", *COLUMNS):
        left = name in ("", COLUMNS[-1])
        shown.add_column(name, justify="left" if left else "right", no_wrap=True)
    for status in rows:
        shown.add_row(status.job.name, *map(escape, status.cells()))
    return shown
