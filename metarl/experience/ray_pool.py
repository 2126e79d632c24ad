"""Processes of a Ray cluster that do jobs; what is lost with one of them, another does again.

Nothing here imports Ray before it is asked for.
"""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import threading
import time
from collections import Counter, deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from metarl.envs.cores import num_cores
from metarl.errors import EnvironmentFailure, UserError, message_of, warn
from metarl.experience.ray_worker import CPU, RayWorker, Setup, circumstances

_PATIENCE_S = 1.0
"""After which waiting looks up: at workers that do not start."""
QUIETLY = {
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
    "RAY_worker_niceness": "0",  # else 15: beside any other program workers would starve
}
"""What Ray reads where it is started."""
ABSENT = "rollout.backend is ray, and Ray is not installed: pip install 'metarl-lab[ray]'."


class RaySettings(NamedTuple):
    """How Ray is used.

    Attributes:
        address: Of a cluster, "auto" or host:port; None: Ray is started on this machine alone.
        workers: How many processes; 0: as many as the cluster has room for, also when it grows.
        cores: Of each.
        timeout: Seconds within which the cluster must answer, and a first worker start.
        retries: How often a job is done again that was lost with its worker.
    """

    address: str | None = None
    workers: int = 0
    cores: int = 1
    timeout: float = 120.0
    retries: int = 5


class Job(NamedTuple):
    """A call of a method of :class:`RayWorker`."""

    method: str
    arguments: tuple[Any, ...]


class Work(NamedTuple):
    """What jobs are of, in the words of a sentence about one that is given up.

    Attributes:
        job: The subject of that sentence.
        smaller: What to take where memory is short.
    """

    job: str
    smaller: str


SHARDS = Work("A shard of the rollout", "a smaller rollout.shard_tasks")
"""Those of a meta-batch."""


@dataclass(eq=False)
class _Worker:
    """A process, the reply that it owes, and the number of the job that the reply is of."""

    handle: Any
    reply: Any
    job: int | None = None  # none: it starts, or is idle


class RayPool:
    """Workers on a cluster, each at one job at a time.

    Args:
        setup: Told to every worker before its first job.
        settings: See there.

    Raises:
        UserError: Ray is not installed.
        EnvironmentFailure: the cluster cannot be reached in time.
    """

    def __init__(self, setup: Setup, settings: RaySettings) -> None:
        self._settings = settings
        self._ray, self._own = _connected(settings)
        self._setup = self._ray.put(setup)
        self._here = circumstances()
        self._warned: set[str] = set()
        options = {"num_cpus": settings.cores, "max_restarts": 0, "max_task_retries": 0}
        self._remote = self._ray.remote(**options)(RayWorker)
        self._workers: list[_Worker] = []
        self._failed_starts = 0

    def put(self, value: Any) -> Any:
        """A value in the cluster's memory, fetched once by every machine: a job's argument."""
        return self._ray.put(value)

    def run(
        self,
        jobs: Sequence[Job],
        work: Work = SHARDS,
        begins: Callable[[int], None] = lambda job: None,
    ) -> list[Any]:
        """The results of jobs, in their order.

        Args:
            jobs: Given out in their order.
            work: What they are of.
            begins: Told the number of a job that is given out, again if it was lost.

        Raises:
            EnvironmentFailure: a job was lost too often, or no worker starts.
            Exception: whatever a job raised.
        """
        self._work = work
        waiting, results = deque(range(len(jobs))), dict[int, Any]()
        losses: Counter[int] = Counter()
        since = time.monotonic()  # nobody has been at work
        while len(results) < len(jobs):
            self._employ()
            for worker in self._workers:
                if worker.reply is None and waiting:
                    worker.job = waiting.popleft()
                    job = jobs[worker.job]
                    begins(worker.job)
                    worker.reply = getattr(worker.handle, job.method).remote(*job.arguments)
            owed = {worker.reply: worker for worker in self._workers if worker.reply is not None}
            ready, _ = self._ray.wait(list(owed), timeout=_PATIENCE_S)
            for reply in ready:
                worker = owed[reply]
                if (lost := self._settle(worker, reply, results)) is None:
                    continue
                if worker.job is not None:  # first of all, and by another
                    losses[worker.job] += 1
                    waiting.appendleft(worker.job)
                    self._check(losses[worker.job], work.job, lost)
                else:
                    self._failed_starts += 1
                    self._check(self._failed_starts, "A Ray worker's start", lost)
            if any(worker.job is not None for worker in self._workers):
                since = time.monotonic()
            elif time.monotonic() - since > self._settings.timeout and not self._idle():
                raise EnvironmentFailure(self._no_room())
        return [results[i] for i in range(len(jobs))]

    def _idle(self) -> bool:
        return any(worker.reply is None for worker in self._workers)

    def _settle(self, worker: _Worker, reply: Any, results: dict[int, Any]) -> Exception | None:
        """Take what a worker replied; the error, if it was lost instead."""
        errors = self._ray.exceptions
        try:
            value = self._ray.get(reply)
        except errors.RayTaskError as error:
            raise _cause(error, self._work) from None
        except errors.RayError as error:
            self._workers.remove(worker)
            self._kill(worker)
            return error
        if worker.job is None:
            self._failed_starts = 0
            self._check_circumstances(value)
        else:
            results[worker.job] = value
        worker.reply = worker.job = None
        return None

    def _employ(self) -> None:
        """Have as many workers as are wanted, in place of those that were lost too."""
        cores, wanted = self._settings.cores, self._settings.workers
        if not wanted:
            wanted = max(1, int(self._ray.cluster_resources().get("CPU", 0) // cores))
        for _ in range(wanted - len(self._workers)):
            handle = self._remote.remote()
            self._workers.append(_Worker(handle, handle.start.remote(self._setup)))

    def _check(self, losses: int, what: str, error: Exception) -> None:
        """Give up on what was lost too often."""
        if losses <= self._settings.retries:
            return
        short = type(error).__name__ == "OutOfMemoryError" or "OUT_OF_MEMORY" in str(error)
        if short or "low on memory" in str(error):
            raise EnvironmentFailure(
                f"{what} ran out of memory on {losses} Ray workers, one after the other: take "
                f"{self._work.smaller}, or fewer workers a machine by a larger "
                "rollout.backend.cores."
            ) from error
        raise EnvironmentFailure(
            f"{what} was lost with {losses} Ray workers, one after the other, the last of "
            f"which ended so: {message_of(error)}"
        ) from error

    def _check_circumstances(self, theirs: dict[str, str | None]) -> None:
        said = differences(self._here, theirs)
        if said is not None:
            raise EnvironmentFailure(said)
        if theirs[CPU] != self._here[CPU] and CPU not in self._warned:
            self._warned.add(CPU)
            warn(
                f"a Ray worker computes with {theirs[CPU]}, this machine with {self._here[CPU]}: "
                "the last bits of results depend on which of them plays."
            )

    def _no_room(self) -> str:
        settings, there = self._settings, self._ray.cluster_resources().get("CPU", 0)
        return (
            f"No Ray worker has started within {settings.timeout:g} s, which is "
            f"rollout.backend.timeout: each needs {settings.cores} free core(s), and the cluster "
            f"has {there:g} in all, with others' jobs on them perhaps."
        )

    def _kill(self, worker: _Worker) -> None:
        with contextlib.suppress(Exception):  # it may be gone
            self._ray.kill(worker.handle)

    def close(self) -> None:
        """End the workers; and Ray, if it was started here."""
        for worker in self._workers:
            self._kill(worker)
        self._workers = []
        if self._own:
            with _signals_kept():
                self._ray.shutdown()


def differences(here: dict[str, str | None], theirs: dict[str, str | None]) -> str | None:
    """A sentence about versions that differ between the driver and a worker; None if none do."""
    clauses = [
        f"{name} {theirs.get(name)} there and {version} here"
        for name, version in here.items()
        if name != CPU and theirs.get(name) != version
    ]
    if not clauses:
        return None
    return (
        f"A Ray worker has other versions than this program, so that its numbers would differ: "
        f"{', '.join(clauses)}. Install the same on every machine of the cluster."
    )


def _cause(error: Any, work: Work) -> BaseException:
    """What a job raised, as if it had been raised here."""
    cause = getattr(error, "cause", None)
    if isinstance(cause, MemoryError):
        return EnvironmentFailure(
            f"A Ray worker needs more memory than its machine has: take {work.smaller}."
        )
    if isinstance(cause, Exception):
        return cause
    return EnvironmentFailure(f"A Ray worker failed: {message_of(error)}")


def _connected(settings: RaySettings) -> tuple[Any, bool]:
    """Ray, connected to its cluster, and whether that was done here."""
    for name, value in QUIETLY.items():
        os.environ.setdefault(name, value)
    with _signals_kept():
        try:
            import ray
        except ImportError as error:
            raise UserError(ABSENT) from error
        if ray.is_initialized():  # by the program that this is part of
            return ray, False
        options: dict[str, Any] = {"log_to_driver": False, "logging_level": "critical"}
        if settings.address is None:
            wanted = settings.workers or max(1, num_cores() // settings.cores)
            own = {"num_cpus": wanted * settings.cores, "include_dashboard": False}
            options |= {"address": "local", **own}
        else:
            options["address"] = _reached(settings)
        try:
            ray.init(**options)
        except Exception as error:
            raise EnvironmentFailure(
                f"Ray cannot be used at {settings.address or 'this machine'} "
                f"(rollout.backend.address): {message_of(error)}"
            ) from error
    return ray, True


def _reached(settings: RaySettings) -> str:
    """The address host:port of a cluster that answers there: Ray itself would wait, and abort."""
    from ray._private.services import canonicalize_bootstrap_address_or_die

    assert settings.address is not None
    lost = f"The Ray cluster {settings.address} (rollout.backend.address) cannot be reached"
    try:
        address: str = canonicalize_bootstrap_address_or_die(settings.address)
        host, _, port = address.rpartition(":")
        socket.create_connection((host.strip("[]"), int(port)), settings.timeout).close()
    except (ConnectionError, ValueError, OSError) as error:
        hint = "start one by `ray start --head`, or let address be null for this machine alone"
        raise EnvironmentFailure(f"{lost}: {message_of(error).rstrip('.')}; {hint}.") from error
    return address


@contextlib.contextmanager
def _signals_kept() -> Iterator[None]:
    """Ray takes SIGTERM for itself when it is started: the program's own handler comes back."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.getsignal(signal.SIGTERM)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
