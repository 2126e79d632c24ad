"""Works off the jobs of a suite: each behind those that it needs, again after a failure."""

from __future__ import annotations

import contextlib
import os
import signal
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Protocol

from metarl.storage.lock import Holder, live_holder
from metarl.suites.jobs import Job, Record, last_words, read_record, write_record

POLL_S = 0.5
RETRY_AFTER_S = 10.0
"""Times the number of failures before."""
REFUSED, INTERRUPTED = 2, 130


class Task(Protocol):
    """A job at work."""

    def poll(self) -> int | None:
        """Its exit code; None while it runs."""

    def stop(self) -> None:
        """Let it save and end."""


class Place(Protocol):
    """Where jobs are at work."""

    @property
    def room(self) -> int:
        """How many more jobs can begin."""

    def take(self, job: Job) -> None:
        """A job that was begun before is at work here."""

    def release(self, job: Job) -> None:
        """A job has ended."""

    def start(self, job: Job, needs: Mapping[str, str]) -> Task:
        """Begin a job, for which there is room."""


class Orphan:
    """A job that somebody else has begun and that is at work yet: a suite that was killed, a user.

    Args:
        job: The job.
        ours: The process, if a suite began it on this machine.
    """

    def __init__(self, job: Job, ours: Holder | None) -> None:
        self._job, self._ours, self._left_alone = job, ours, False

    def poll(self) -> int | None:
        """None while it runs, then INTERRUPTED: how it ended is found out by going on with it."""
        return None if at_work(self._job) and not self._left_alone else INTERRUPTED

    def stop(self) -> None:
        """Let it save and end, if it is a suite's; a user's own is his."""
        if self._ours is not None and self._ours.alive():
            with contextlib.suppress(OSError):
                os.kill(self._ours.pid, signal.SIGTERM)
        else:
            self._left_alone = True


def at_work(job: Job, record: Record | None = None) -> bool:
    """Whether a process works at a job, as far as its folder tells."""
    record = record or read_record(job)
    ours = record is not None and record.exit_code is None and record.process.alive() is True
    return ours or live_holder(job.folder) is not None


def is_done(job: Job, record: Record | None, tokens: Mapping[str, str | None]) -> bool:
    """Whether a job has finished, by the same words and after those that it needs."""
    if record is None or record.exit_code != 0 or record.words != list(job.words):
        return False
    return record.needs == {name: tokens.get(name) for name in job.needs}


class Scheduler:
    """The jobs of a suite, and what has become of them.

    Args:
        jobs: Each behind those that it needs.
        place: Where they work.
        retries: Of a job that failed; one whose input is wrong is not tried again.
        say: Takes a line for the user.

    Attributes:
        failed: Why, by the job's name.
        done: The finished ones, with the token of their start.
    """

    def __init__(
        self, jobs: Sequence[Job], place: Place, retries: int, say: Callable[[str], None]
    ) -> None:
        self.jobs, self.failed, self.done = jobs, dict[str, str](), dict[str, str]()
        self._place, self._retries, self._say = place, retries, say
        self._tasks: dict[str, Task] = {}
        self._failures: Counter[str] = Counter()
        self._not_before: dict[str, float] = {}
        for job in jobs:
            record = read_record(job)
            if record is not None and is_done(job, record, self.done):
                self.done[job.name] = record.process.token

    @property
    def left(self) -> list[Job]:
        """The jobs that are to be done yet and can be."""
        lost = set(self.failed)
        for job in self.jobs:
            if lost.intersection(job.needs):
                lost.add(job.name)
        return [job for job in self.jobs if job.name not in lost and job.name not in self.done]

    def run(self, stop: Sequence[int], watch: Callable[[], None] = lambda: None) -> None:
        """Work until all is done, or nothing more can be, or a stop is requested.

        Args:
            stop: Signals received, which every job is told of; it ends when all have saved.
            watch: Called again and again.

        Raises:
            KeyboardInterrupt: a second signal came; all jobs have been told of it too.
        """
        told = False
        try:
            while self.left and not (stop and not self._tasks):
                if stop and not told:
                    told = True
                    self._stop()
                for job in self.jobs:
                    self._settle(job, bool(stop))
                if not stop:
                    self._begin()
                watch()
                time.sleep(POLL_S)
        except BaseException:
            self._stop()
            raise

    def _stop(self) -> None:
        for task in self._tasks.values():
            task.stop()

    def _begin(self) -> None:
        """Begin what is next, as long as there is room."""
        for job in self.left:
            if job.name in self._tasks or not set(job.needs) <= self.done.keys():
                continue
            record = read_record(job)
            if at_work(job, record):
                ours = None if record is None else record.process
                self._say(f"{job.name} is at work already; waiting for it")
                self._place.take(job)
                self._tasks[job.name] = Orphan(job, ours)
            elif self._place.room > 0 and time.monotonic() >= self._not_before.get(job.name, 0.0):
                needs = {name: self.done[name] for name in job.needs}
                self._tasks[job.name] = self._place.start(job, needs)
                self._say(f"{job.name} begins")

    def _settle(self, job: Job, stopping: bool) -> None:
        """See whether a job has ended, and how."""
        task = self._tasks.get(job.name)
        if task is None or (code := task.poll()) is None:
            return
        del self._tasks[job.name]
        self._place.release(job)
        record = read_record(job)
        if isinstance(task, Orphan):
            return
        if record is not None:
            write_record(job.folder, replace(record, exit_code=code))
        if code == 0:
            self.done[job.name] = "" if record is None else record.process.token
            self._say(f"{job.name} is finished")
        elif stopping and code != REFUSED:
            self._say(f"{job.name} is stopped")
        else:
            self._failed(job, code)

    def _failed(self, job: Job, code: int) -> None:
        """Try it again later, if that can help."""
        self._failures[job.name] += 1
        tries, why = self._failures[job.name], how_it_failed(job, code)
        if code == REFUSED or tries > self._retries:
            self.failed[job.name] = why
            self._say(f"{job.name} has failed, {why}")
            return
        pause = RETRY_AFTER_S * tries
        self._not_before[job.name] = time.monotonic() + pause
        self._say(f"{job.name} failed, {why}; retry {tries} of {self._retries} in {pause:g} s")


def how_it_failed(job: Job, code: int) -> str:
    """``exit 1: the last line of its log``."""
    how = f"exit {code}"
    if code < 0:
        with contextlib.suppress(ValueError):
            how = signal.Signals(-code).name
    said = last_words(job)
    return f"{how}: {said}" if said else how
