"""Environments with a fixed list of tasks, which `reset_task(index)` chooses from: PEARL's."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from metarl.envs import checks
from metarl.envs.adapters.foreign import ForeignEnv
from metarl.envs.faults import BrokenContract
from metarl.envs.tasks import NUM_VALIDATION, NUMBER, TaskDistribution, Tasks


def from_task_indices(
    make_env: Callable[[], Any], horizon: int, train: int, held_out: int
) -> IndexedTasksEnv:
    """An environment that holds a list of tasks and takes the index of one, as one of ours.

    It has `reset_task(index)`. The first `train` tasks are trained on, less the last fifth of them,
    at most 20, which are the validation tasks; the `held_out` tasks after them are held out. The
    list must be the same whenever it is made, since every lane has an environment of its own.

    Args:
        make_env: Makes one, without arguments.
        horizon: Steps of an episode.
        train: Tasks of training and validation, at least 10.
        held_out: Tasks of the evaluation, at least 2.

    Raises:
        BrokenContract: it has no `reset_task`, or tells of fewer tasks (`get_all_task_idx`).
    """
    return IndexedTasksEnv(make_env(), horizon, IndexedTasks(train, held_out))


class IndexedTasks(TaskDistribution):
    """The indices of a list of tasks, see :func:`from_task_indices`."""

    columns = ("index",)
    units = (NUMBER,)

    def __init__(self, train: int, held_out: int) -> None:
        self._train = checks.integer("train", train, 10)
        self.size = self._train + checks.integer("held_out", held_out, 2)
        self._trained_on = self._train - min(NUM_VALIDATION, self._train // 5)

    def sample(self, rng: np.random.Generator, n: int) -> Tasks:
        return rng.integers(self._trained_on, size=(n, 1)).astype(np.float64)

    def validation(self) -> Tasks:
        return np.arange(self._trained_on, self._train, dtype=np.float64)[:, None]

    def held_out(self) -> Tasks:
        return np.arange(self._train, self.size, dtype=np.float64)[:, None]

    def check(self, tasks: Any) -> Tasks:
        """As for every distribution; what is no index of the list is refused too."""
        checked = super().check(tasks)
        fits = (checked == np.floor(checked)) & (checked >= 0) & (checked < self.size)
        if not fits.all():
            row = int(np.argmin(fits))
            raise ValueError(
                f"Task {row} is {checked[row].tolist()}: it must be an index from 0 to "
                f"{self.size - 1}."
            )
        return checked


class IndexedTasksEnv(ForeignEnv):
    """See :func:`from_task_indices`."""

    def __init__(self, env: Any, horizon: int, tasks: IndexedTasks) -> None:
        super().__init__(env, horizon)
        self.task_distribution = tasks
        self._take = self._method("reset_task")
        if callable(all_indices := getattr(self._inner, "get_all_task_idx", None)):
            there_are = len(list(all_indices()))
            if there_are < tasks.size:
                raise BrokenContract(
                    f"{type(self._inner).__name__} has {there_are} tasks: train and held_out ask "
                    f"for {tasks.size}"
                )

    def _put(self, task: NDArray[np.float64]) -> None:
        self._take(int(task[0]))
