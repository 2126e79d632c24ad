"""Where the examples of few-shot learning come from: support and query sets, ready to learn on."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import torch

from metarl.envs.supervised import Examples, SupervisedTasks
from metarl.envs.tasks import TaskDistribution
from metarl.maths.samples import Samples
from metarl.random import Key


class FewShotSets(NamedTuple):
    """Support and query sets of M tasks, of S and Q examples each.

    In :class:`metarl.maths.samples.Samples` an example is a row: ``observations`` are inputs
    ``[M, N, x]``, an image's pixels flattened; ``actions`` are targets, int64 ``[M, N]`` or float32
    ``[M, N, y]``; every advantage is 1 and every weight 1/N, so that the loss of a policy gradient,
    −E[log π(a|s) Â], is the supervised one, −E[log p(y|x)].
    """

    support: Samples
    query: Samples

    def to(self, device: torch.device | str) -> FewShotSets:
        """The same on another device."""
        return FewShotSets(*(samples.map(lambda x: x.to(device)) for samples in self))


class FewShotSource:
    """Support and query sets of a distribution of supervised tasks.

    It stands where reinforcement learning has its rollout worker,
    :class:`metarl.experience.rollout.RolloutWorker`, and has its attributes.

    Args:
        tasks: The distribution.

    Attributes:
        seconds: Spent in :meth:`examples` so far.
    """

    def __init__(self, tasks: SupervisedTasks) -> None:
        self.tasks = tasks
        self.seconds = 0.0
        self.say: Callable[[str], None] = lambda line: None
        self.expected_lanes = 1

    @property
    def task_distribution(self) -> TaskDistribution:
        """The distribution of the tasks."""
        return self.tasks.task_distribution

    def sample_tasks(self, n: int, key: Key) -> np.ndarray:
        """n training tasks ``[n, d]`` from the key's own stream."""
        return self.task_distribution.draw(key.generator("tasks"), n)

    def examples(self, tasks: np.ndarray, queries: int, key: Key) -> FewShotSets:
        """Support and query sets of every task, on the CPU.

        Args:
            tasks: ``[M, d]``.
            queries: Query examples of a task; of each of its classes, where it has classes.
            key: Names the streams of examples, which are each task's own.
        """
        start = time.perf_counter()
        rngs = [key.generator("reset", m) for m in range(len(tasks))]
        support, query = self.tasks.draw(np.asarray(tasks), rngs, queries)
        sets = FewShotSets(_samples(support), _samples(query))
        self.seconds += time.perf_counter() - start
        return sets

    def close(self) -> None:
        """Nothing is held open."""


def _samples(examples: Examples) -> Samples:
    inputs = torch.from_numpy(examples.inputs).flatten(2)  # [M, N, x]
    ones = torch.ones(inputs.shape[:2])
    return Samples(inputs, torch.from_numpy(examples.targets), ones, ones / inputs.shape[1])
