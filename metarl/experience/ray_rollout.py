"""Rollouts on a Ray cluster: shards of a meta-batch are played wherever there is a free worker.

A shard is played by the same code as on one machine, in an environment of its own size, from random
streams that its tasks have in the whole. So it does not matter who plays it, nor how often: what a
worker takes along when it dies is played again, bit for bit, by another.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Sequence

import cloudpickle

from metarl.envs.vector import TaskVectorEnv
from metarl.experience.ray_pool import Job, RayPool, RaySettings
from metarl.experience.ray_worker import Setup, unpacked
from metarl.experience.rollout import RolloutWorker
from metarl.experience.shards import Shard
from metarl.types import Actor, Trial


class RayRolloutWorker(RolloutWorker):
    """A rollout worker whose shards are played by the workers of a Ray cluster.

    Ray is connected to when the first shard is to be played, or :meth:`connect` is called; the
    environments of evaluations are this process's own.

    Args:
        make_env: Number of lanes ↦ environment, here.
        shard_tasks: Tasks of a shard.
        make_remote_env: The same on a worker: to be pickled.
        main: What only this program has, by name, and an environment is made of.
        settings: Of Ray.
    """

    def __init__(
        self,
        make_env: Callable[[int], TaskVectorEnv],
        shard_tasks: int | None,
        make_remote_env: Callable[[int], TaskVectorEnv],
        settings: RaySettings,
        main: dict[str, object] | None = None,
    ) -> None:
        super().__init__(make_env, shard_tasks)
        self._make_remote_env, self._settings, self._main = make_remote_env, settings, main or {}
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

    def close(self) -> None:
        """End the environments, and the workers on the cluster."""
        if self._pool is not None:
            self._pool.close()
            self._pool = None
        super().close()
