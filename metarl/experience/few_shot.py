"""Where the examples of few-shot learning come from: support and query sets, ready to learn on."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any, ClassVar, NamedTuple, NoReturn

import numpy as np
import torch
from gymnasium import spaces
from torch import Tensor

from metarl.envs.example_contract import drawn_examples
from metarl.envs.supervised import SupervisedTasks
from metarl.envs.tasks import TaskDistribution
from metarl.errors import UserError
from metarl.experience.distortion import distorted
from metarl.maths.samples import Samples
from metarl.random import Key
from metarl.types import DataKind


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
        gives: What there is to learn from.
    """

    gives: ClassVar[DataKind] = "examples"

    def __init__(self, tasks: SupervisedTasks) -> None:
        self.tasks = tasks
        self._seconds = 0.0
        self._of_ways: dict[int, FewShotSource] = {}
        self.say: Callable[[str], None] = lambda line: None
        self.others: dict[str, Any] = {}

    @property
    def seconds(self) -> float:
        """Spent in :meth:`examples` so far, of every number of ways."""
        return self._seconds + sum(other.seconds for other in self._of_ways.values())

    @property
    def task_distribution(self) -> TaskDistribution:
        """The distribution of the tasks."""
        return self.tasks.task_distribution

    @property
    def data_hash(self) -> str | None:
        """Of the data that the tasks are made of, if there are such."""
        return self.tasks.data_hash

    @property
    def spaces(self) -> tuple[spaces.Space[Any], spaces.Space[Any]]:
        """Of one input and of one target."""
        return self.tasks.input_space, self.tasks.target_space

    def probe(self, name: str) -> list[str]:
        """What is to be warned of: examples of one stream that differ when drawn again."""
        task = self.task_distribution.validation()[:1]
        once, again = (self.examples(task, 1, Key(0)).query for _ in range(2))
        if torch.equal(once.observations, again.observations):
            return []
        return [
            f"{name} drew other examples when one task and stream were drawn from a second time, "
            "so neither will results on it repeat nor resumed runs go on exactly: draw from the "
            "generators that are given."
        ]

    def env(self, num_lanes: int) -> NoReturn:
        """There is none to act in.

        Raises:
            UserError: says so.
        """
        raise UserError(
            f"{type(self.tasks).__name__} is few-shot learning, which has examples and no "
            "environment to act in: videos, references that act and agents that act need one."
        )

    def expect(self, tasks: np.ndarray, queries: int) -> None:
        """That many query examples of every task ``[M, d]`` will be asked for.

        Raises:
            UserError: there are not so many.
        """
        for task in tasks:  # one by one, since all at once may be much
            self.examples(task[None], queries, Key(0))

    def with_ways(self, ways: int) -> FewShotSource:
        """The same training tasks of another number of classes, made once; it shares the examples.

        Raises:
            UserError: there are none.
        """
        if ways not in self._of_ways:
            try:
                self._of_ways[ways] = FewShotSource(self.tasks.with_ways(ways))
            except ValueError as error:
                raise UserError(f"Tasks of {ways} ways cannot be had: {error}") from error
        return self._of_ways[ways]

    def sample_tasks(self, n: int, key: Key) -> np.ndarray:
        """n training tasks ``[n, d]`` from the key's own stream."""
        return self.task_distribution.draw(key.generator("tasks"), n)

    def examples(
        self, tasks: np.ndarray, queries: int, key: Key, *, augment: bool = False, first: int = 0
    ) -> FewShotSets:
        """Support and query sets of every task, on the CPU.

        Args:
            tasks: ``[M, d]``.
            queries: Query examples of a task; of each of its classes, where it has classes.
            key: Names the streams of examples, which are each task's own.
            augment: Distort them as in training, where the tasks' ``augment`` says so.
            first: Number of the first of these tasks, where they are some of many.
        """
        start = time.perf_counter()
        rngs = [key.generator("reset", first + m) for m in range(len(tasks))]
        support, query = drawn_examples(self.tasks, np.asarray(tasks), rngs, queries)
        inputs = [torch.from_numpy(part.inputs) for part in (support, query)]
        if augment and self.tasks.augment:
            inputs = [distorted(images, rngs) for images in inputs]
        targets = [torch.from_numpy(part.targets) for part in (support, query)]
        sets = FewShotSets(*map(_samples, inputs, targets))
        self._seconds += time.perf_counter() - start
        return sets

    def close(self) -> None:
        """Nothing is held open."""


def _samples(inputs: Tensor, targets: Tensor) -> Samples:
    ones = torch.ones(inputs.shape[:2])
    return Samples(inputs.flatten(2), targets, ones, ones / inputs.shape[1])
