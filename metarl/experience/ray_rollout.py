"""Rollouts and evaluations on a Ray cluster, played wherever there is a free worker.

A shard is played by the same code as on one machine, in an environment of its own size, from random
streams that its tasks have in the whole; and an evaluation by one evaluation seed is a whole of its
own. So it does not matter who plays it, nor how often: what a worker takes along when it dies is
played again, bit for bit, by another.
"""

from __future__ import annotations

import os
import pickle
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence

import cloudpickle
import torch

from metarl.envs.vector import TaskVectorEnv
from metarl.errors import UserError, message_of
from metarl.experience.ray_pool import Job, RayPool, RaySettings, Work
from metarl.experience.ray_worker import Setup, unpacked
from metarl.experience.rollout import Result, RolloutWorker
from metarl.experience.shards import Shard
from metarl.types import Actor, Trial

CALLS = Work("An evaluation, or a reference's training,", "fewer tasks or episodes")


class RayRolloutWorker(RolloutWorker):
    """A rollout worker whose shards are played by the workers of a Ray cluster.

    Ray is connected to when there is something to be played, or :meth:`connect` is called.

    Args:
        make_env: Number of lanes ↦ environment, here.
        shard_tasks: Tasks of a shard.
        make_remote_env: The same on a worker: to be pickled.
        settings: Of Ray.
        main: What only this program has, by name, and an environment is made of.
        sends_agents: Whether :meth:`each` too is a matter of the workers, which have no GPU.
    """

    def __init__(
        self,
        make_env: Callable[[int], TaskVectorEnv],
        shard_tasks: int | None,
        make_remote_env: Callable[[int], TaskVectorEnv],
        settings: RaySettings,
        main: dict[str, object] | None = None,
        sends_agents: bool = True,
    ) -> None:
        super().__init__(make_env, shard_tasks)
        self._make_remote_env, self._settings, self._main = make_remote_env, settings, main or {}
        self._sends_agents = sends_agents
        self._pool: RayPool | None = None

    def connect(self) -> RayPool:
        """The workers of the cluster, on which they are started at once.

        Raises:
            UserError: Ray is not installed.
            EnvironmentFailure: the cluster cannot be reached.
        """
        if self._pool is None:
            main, make_env = map(cloudpickle.dumps, (self._main, self._make_remote_env))
            paths = [os.path.abspath(path) for path in sys.path]
            self._pool = RayPool(Setup(paths, os.getcwd(), main, make_env), self._settings)
        return self._pool

    def _play_all(self, actors: Sequence[Actor], shards: Sequence[Shard]) -> list[Trial]:
        pool = self.connect()
        sent = {id(actor): actor for actor in actors}  # one that plays all tasks goes once
        references = {number: pool.put(actor) for number, actor in sent.items()}
        jobs = [
            Job("play", (references[id(actor)], shard))
            for actor, shard in zip(actors, shards, strict=True)
        ]
        return [unpacked(parts) for parts in pool.run(jobs)]

    def each(
        self,
        calls: Iterable[Callable[[RolloutWorker], Result]],
        begins: Callable[[int], None] = lambda number: None,
    ) -> Iterator[Result]:
        """See :meth:`RolloutWorker.each`; all at once, as far as there are workers.

        Raises:
            UserError: a function, or the agent in it, cannot be pickled.
            EnvironmentFailure: as of :meth:`RayPool.run`.
        """
        if not self._sends_agents:
            return super().each(calls, begins)
        threads = torch.get_num_threads()
        try:
            jobs = [Job("call", (cloudpickle.dumps(call), threads)) for call in calls]
        except (TypeError, ValueError, AttributeError, pickle.PicklingError) as error:
            raise UserError(
                f"The agent cannot be sent to the workers of Ray: {message_of(error)}; measure it "
                "without --rollout.backend ray."
            ) from error
        return map(pickle.loads, self.connect().run(jobs, CALLS, begins))

    def close(self) -> None:
        """End the environments, and the workers on the cluster."""
        if self._pool is not None:
            self._pool.close()
            self._pool = None
        super().close()
