"""What runs in a process of Ray's: it plays shards, and measures agents, see ``ray_rollout``."""

from __future__ import annotations

import contextlib
import os
import pickle
import sys
from collections.abc import Callable
from dataclasses import fields
from typing import Any, NamedTuple

import cloudpickle
import torch
from torch import Tensor

from metarl.envs.vector import TaskVectorEnv
from metarl.errors import UserError, message_of
from metarl.experience.rollout import RolloutWorker
from metarl.experience.shards import Shard
from metarl.maths.running_moments import RunningMoments
from metarl.storage.provenance import versions
from metarl.types import Actor, Trial

CPU = "processor"
"""Under which name, beside the versions, stands the instruction set that torch computes with."""


class Setup(NamedTuple):
    """What a worker is told before all else.

    Attributes:
        paths: Where the driver finds modules.
        folder: The driver's working directory.
        main: Classes that only the driver's program has, by name, pickled by value.
        make_env: Number of lanes ↦ environment, pickled.
    """

    paths: list[str]
    folder: str
    main: bytes
    make_env: bytes


def circumstances() -> dict[str, str | None]:
    """What decides the numbers that a process computes: versions, and the instruction set."""
    return versions() | {CPU: torch.backends.cpu.get_cpu_capability()}


class RayWorker:
    """A process of Ray's with environments of a shard's size."""

    _worker: RolloutWorker

    def start(self, setup: Setup) -> dict[str, str | None]:
        """Find the modules that the driver finds; its own :func:`circumstances`."""
        sys.path += [path for path in setup.paths if path not in sys.path]
        with contextlib.suppress(OSError):  # this machine may not have it
            os.chdir(setup.folder)
        torch.set_num_threads(1)
        vars(sys.modules["__main__"]).update(pickle.loads(setup.main))
        make_env: Callable[[int], TaskVectorEnv] = pickle.loads(setup.make_env)

        def made(num_lanes: int) -> TaskVectorEnv:
            try:
                return make_env(num_lanes)
            except (ValueError, TypeError) as error:
                where = f"on the Ray worker {os.uname().nodename}"
                raise UserError(f"env, {where}: {message_of(error)}") from error

        self._worker = RolloutWorker(made)
        return circumstances()

    def play(self, actor: Actor, shard: Shard) -> dict[str, Any]:
        """The trial of a shard, as arrays, which Ray sends as they lie in memory."""
        return packed(self._worker.play(actor, shard))

    def call(self, function: bytes, torch_threads: int) -> bytes:
        """What a function of a rollout worker gives, pickled as it is itself.

        Args:
            function: Plays in environments of any number of lanes.
            torch_threads: The driver's, upon which the last bits of sums depend.
        """
        try:
            made = pickle.loads(function)
        except Exception as error:  # what a user's class needs may be missing here
            raise UserError(
                f"The agent cannot be made on the Ray worker {os.uname().nodename}: "
                f"{message_of(error)}."
            ) from error
        torch.set_num_threads(torch_threads)
        try:
            result: bytes = cloudpickle.dumps(made(self._worker))
        finally:
            torch.set_num_threads(1)
        return result


def packed(trial: Trial) -> dict[str, Any]:
    """A trial as arrays and builtins."""
    parts = {field.name: getattr(trial, field.name) for field in fields(trial)}
    if trial.observed is not None:
        parts["observed"] = _arrays(trial.observed.state_dict())
    return _arrays(parts)


def unpacked(parts: dict[str, Any]) -> Trial:
    """What :func:`packed` made, in memory of its own: Ray's is given back."""
    own = {n: torch.from_numpy(x.copy()) if hasattr(x, "dtype") else x for n, x in parts.items()}
    if (moments := parts["observed"]) is not None:
        own["observed"] = RunningMoments.from_state(
            {n: torch.from_numpy(x.copy()) if n != "count" else x for n, x in moments.items()}
        )
    return Trial(**own)


def _arrays(parts: dict[str, Any]) -> dict[str, Any]:
    return {n: x.numpy() if isinstance(x, Tensor) else x for n, x in parts.items()}
