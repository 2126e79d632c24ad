"""Jobs as processes of this machine."""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from metarl.envs.cores import num_cores
from metarl.errors import UserError
from metarl.suites.jobs import Job, start_process
from metarl.suites.suite import Resources


@dataclass
class ProcessTask:
    """A job at work in a process of ours."""

    process: subprocess.Popen[bytes]

    def poll(self) -> int | None:
        """Its exit code; None while it runs."""
        return self.process.poll()

    def stop(self) -> None:
        """Let it save and end."""
        self.process.send_signal(signal.SIGTERM)


class Processes:
    """Room for as many jobs at once as this machine has cores and GPUs for.

    Args:
        resources: Of every job.

    Raises:
        UserError: there is no room for one.
    """

    def __init__(self, resources: Resources) -> None:
        cores = num_cores()
        if resources.cores > cores:
            raise UserError(
                f"resources.cores is {resources.cores}, and this machine has {cores} for us; "
                "--ray takes those of a cluster."
            )
        self.cores, self.devices = resources.cores, [""] * (cores // resources.cores)
        if resources.gpus > 0:
            self.devices = shares(_gpus(), resources.gpus)[: len(self.devices)]
            if not self.devices:
                raise UserError(
                    f"resources.gpus is {resources.gpus:g}, and this machine has {len(_gpus())}; "
                    "--ray takes those of a cluster."
                )
        self._taken: dict[str, str] = {}

    @property
    def room(self) -> int:
        """How many more jobs can begin."""
        return len(self.devices) - len(self._taken)

    def take(self, job: Job) -> None:
        """A job that is at work has its place."""
        used = list(self._taken.values())
        free = [d for d in self.devices if self.devices.count(d) > used.count(d)]
        self._taken[job.name] = min(free or self.devices, key=used.count)

    def release(self, job: Job) -> None:
        """It has ended."""
        self._taken.pop(job.name, None)

    def start(self, job: Job, needs: Mapping[str, str]) -> ProcessTask:
        """Begin a job, for which there is room."""
        self.take(job)
        variables = threads(self.cores) | {"CUDA_VISIBLE_DEVICES": self._taken[job.name]}
        return ProcessTask(start_process(job.folder, list(job.words), needs, variables))


def threads(cores: int) -> dict[str, str]:
    """The variables that keep libraries to a job's cores; who has set them himself knows better."""
    return {} if "OMP_NUM_THREADS" in os.environ else {"OMP_NUM_THREADS": str(cores)}


def shares(gpus: Sequence[str], each: float) -> list[str]:
    """What each of the jobs that fit at once sees of these GPUs, as CUDA_VISIBLE_DEVICES."""
    if each < 1.0:
        return list(gpus) * int(1.0 / each + 1e-9)
    whole = int(-(-each // 1))
    return [",".join(gpus[i : i + whole]) for i in range(0, len(gpus) - whole + 1, whole)]


def _gpus() -> list[str]:
    """The GPUs that this process may use."""
    import torch  # which takes over a second

    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    count = torch.cuda.device_count()
    return visible.split(",")[:count] if visible else [str(index) for index in range(count)]
