"""Jobs on a Ray cluster: the same processes, each on a node that has room for it."""

from __future__ import annotations

import contextlib
import logging
import os
import socket
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from metarl.errors import UserError, message_of
from metarl.experience.ray_pool import QUIETLY
from metarl.storage.files import writing
from metarl.suites.jobs import LOG, Job, start_process
from metarl.suites.processes import ProcessTask, threads
from metarl.suites.suite import Resources

TIMEOUT_S = 10.0
LOST = 1
"""The code of a job whose node or actor is gone: it is begun again elsewhere."""


class RayTask:
    """A job on some node, or waiting for one.

    Args:
        ray: The module.
        actor: A remote :class:`Runner`.
        log: Of the job.
    """

    def __init__(self, ray: Any, actor: Any, log: Path) -> None:
        self._ray, self._actor, self._asked = ray, actor, actor.poll.remote()
        self._log = log
        self._begun = False

    def poll(self) -> int | None:
        """Its exit code; None while it runs or waits."""
        ready, _ = self._ray.wait([self._asked], timeout=0)
        if not ready:
            return None
        self._begun = True
        try:
            code: int | None = self._ray.get(self._asked)
        except self._ray.exceptions.RayError as error:
            with contextlib.suppress(OSError), open(self._log, "a", encoding="utf-8") as log:
                log.write(f"error: lost by Ray: {message_of(error)}\n")
            return LOST
        if code is None:
            self._asked = self._actor.poll.remote()
        else:
            self._ray.kill(self._actor)
        return code

    def stop(self) -> None:
        """Let it save and end."""
        if self._begun:
            self._actor.stop.remote()
        else:  # it waits for a node
            self._ray.kill(self._actor)


class Runner:
    """Starts a job's process where Ray has found room for it; an actor."""

    def __init__(
        self,
        where: tuple[str, str],
        words: list[str],
        needs: dict[str, str],
        cores: int,
        gpus: float,
    ) -> None:
        working, folder = where
        os.chdir(working)  # the suite's, to which its paths are relative
        # Of a job without a GPU Ray hides none.
        variables = threads(cores) | ({} if gpus else {"CUDA_VISIBLE_DEVICES": ""})
        self._task = ProcessTask(start_process(Path(folder), words, needs, variables))

    def poll(self) -> int | None:
        """The exit code; None while it runs."""
        return self._task.poll()

    def stop(self) -> None:
        """Let it save and end."""
        self._task.stop()


class RayJobs:
    """A cluster, which queues what it has no room for.

    Args:
        resources: Of every job.

    Raises:
        UserError: Ray is not installed, the cluster cannot be reached, or no node has room for one.
    """

    room = 1

    def __init__(self, resources: Resources) -> None:
        self._ray, self._resources = _connected(), resources
        nodes = [node["Resources"] for node in self._ray.nodes() if node["Alive"]]
        asked = {"CPU": float(resources.cores), "GPU": resources.gpus}
        if not any(all(node.get(k, 0.0) >= n for k, n in asked.items()) for node in nodes):
            raise UserError(
                f"No node of the Ray cluster has {resources.cores} cores and {resources.gpus:g} "
                "GPUs, which resources ask for."
            )

    def take(self, job: Job) -> None:
        """It has its place in the cluster already."""

    def release(self, job: Job) -> None:
        """Its actor gives the place back."""

    def start(self, job: Job, needs: Mapping[str, str]) -> RayTask:
        """Queue a job."""
        cores, gpus = self._resources.cores, self._resources.gpus
        remote = self._ray.remote(num_cpus=cores, num_gpus=gpus, max_restarts=0)(Runner)
        where = os.getcwd(), str(job.folder)
        with writing(job.folder):
            job.folder.mkdir(parents=True, exist_ok=True)
        actor = remote.remote(where, list(job.words), dict(needs), cores, gpus)
        return RayTask(self._ray, actor, job.folder / LOG)


def _connected() -> Any:
    """Ray, connected to the cluster that RAY_ADDRESS names or this machine belongs to, or alone.

    Raises:
        UserError: it is not installed, or the cluster cannot be reached.
    """
    for name, value in QUIETLY.items():
        os.environ.setdefault(name, value)
    try:
        import ray
    except ImportError:
        raise UserError("--ray needs Ray: pip install 'metarl-lab[ray]'.") from None
    address = os.environ.get("RAY_ADDRESS", "")
    host, _, port = address.removeprefix("ray://").rpartition(":")
    try:
        if port.isdecimal():  # Ray would wait for minutes, and abort
            socket.create_connection((host, int(port)), TIMEOUT_S).close()
        ray.init(log_to_driver=False, logging_level=logging.CRITICAL)
    except Exception as error:  # of many kinds, by version and cause
        where = f"at RAY_ADDRESS {address}" if address else "of this machine"
        said = message_of(error).rstrip(".")
        raise UserError(f"The Ray cluster {where} cannot be reached: {said}.") from error
    return ray
