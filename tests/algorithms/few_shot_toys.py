"""Small few-shot tasks whose examples are made on the spot."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from gymnasium import spaces

from metarl.envs.supervised import Examples, SupervisedTasks
from metarl.envs.tasks import TaskDistribution, Tasks

_HIDDEN = np.linalg.qr(np.random.default_rng(5).standard_normal((6, 6)))[0]


class _Centres(TaskDistribution):
    def __init__(self, ways: int) -> None:
        self.ways = ways
        self.columns = tuple(f"{axis}{k}" for k in range(ways) for axis in "xy")
        self.units = ("",) * len(self.columns)

    def sample(self, rng: np.random.Generator, n: int) -> Tasks:
        return rng.uniform(-1.0, 1.0, (n, 2 * self.ways))

    def validation(self) -> Tasks:
        return self.sample(np.random.default_rng(1), 20)

    def held_out(self) -> Tasks:
        return self.sample(np.random.default_rng(2), 100)


class Blobs(SupervisedTasks):
    """Classes around points of a plane, hidden in six dimensions of which four are loud noise.

    A distance of the inputs themselves says little; one in the plane says nearly all.
    """

    measure = "accuracy"

    def __init__(self, ways: int = 3, shots: int = 1) -> None:
        self.shots = shots
        self.task_distribution = _Centres(ways)
        self.input_space = spaces.Box(-np.inf, np.inf, (6,))
        self.target_space = spaces.Discrete(ways)

    def with_ways(self, ways: int) -> Blobs:
        return Blobs(ways, self.shots)

    def draw(
        self, tasks: Tasks, rngs: Sequence[np.random.Generator], queries: int
    ) -> tuple[Examples, Examples]:
        def examples(each: int) -> Any:
            inputs = np.empty((len(tasks), self.ways * each, 6), np.float32)
            targets = np.repeat(np.arange(self.ways), each)
            for m, rng in enumerate(rngs):
                plane = tasks[m].reshape(self.ways, 2)[targets]
                x = np.concatenate([plane, np.zeros((len(targets), 4))], axis=1)
                x += rng.standard_normal(x.shape) * ([0.05] * 2 + [2.0] * 4)
                inputs[m] = x @ _HIDDEN
            return Examples(inputs, np.tile(targets, (len(tasks), 1)))

        return examples(self.shots), examples(queries)
