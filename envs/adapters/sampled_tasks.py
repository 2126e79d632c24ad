"""Environments with `sample_tasks(n)` and `reset_task(task)`: pytorch-maml-rl, learn2learn, ProMP.

Their tasks are dictionaries of numbers and arrays, or numbers or arrays themselves; here they are
rows of numbers, as all tasks are.
"""

from __future__ import annotations

import functools
import random
from collections.abc import Callable, Sequence
from typing import Any

import gymnasium
import numpy as np
from numpy.typing import NDArray

from metarl.envs.adapters.foreign import ForeignEnv
from metarl.envs.faults import BrokenContract, in_words, numbers, value_in_words
from metarl.envs.tasks import NUM_HELD_OUT, NUM_VALIDATION, TaskDistribution, Tasks

_NUM_SAMPLED = 1000
"""Tasks that are drawn to see whether there are but a few."""


def from_sample_tasks(make_env: Callable[[], Any], horizon: int) -> SampledTasksEnv:
    """An environment that draws its own tasks and takes one, as one of ours.

    It has `sample_tasks(n)`, a list of n tasks, and `reset_task(task)` or `set_task(task)`. The
    tasks trained on are those that it samples, with its own generator (`seed`, or Gymnasium's
    `np_random`) and the global ones seeded from the run's stream; validation and held-out tasks are
    drawn with a seed of their own, and are not trained on. Where there are fewer than twice as many
    tasks as these sets want, as of two directions, all are trained on and evaluated, and results
    say so.

    Args:
        make_env: Makes one, without arguments; it is called again in the process that trains.
        horizon: Steps of an episode.

    Raises:
        BrokenContract: it lacks a method, or its tasks are not made of numbers.
    """
    return SampledTasksEnv(make_env, horizon)


class SampledTasksEnv(ForeignEnv):
    """See :func:`from_sample_tasks`."""

    def __init__(self, make_env: Callable[[], Any], horizon: int) -> None:
        super().__init__(make_env(), horizon)
        self._make_env = make_env
        sample = self._method("sample_tasks")
        self._take = self._method("reset_task", "set_task")
        self._form = TaskForm(_sampled(self._inner, sample, 0, 1)[0])

    @functools.cached_property
    def task_distribution(self) -> SampledTasks:  # type: ignore[override]  # made when asked for
        """The environment's own."""
        return SampledTasks(self._make_env, self._form, self._inner)

    def _put(self, task: NDArray[np.float64]) -> None:
        self._take(self._form.task(task))


class TaskForm:
    """How a task of theirs becomes a row of numbers, and a row a task again.

    Args:
        example: A task: a dictionary of numbers and arrays, or one number or array.

    Attributes:
        columns: Names of the row's entries: the keys, with an index where the value is an array.
    """

    def __init__(self, example: Any) -> None:
        self._keys = tuple(example) if isinstance(example, dict) else None
        self._parts = [np.asarray(value) for value in self._values(example)]
        columns: list[str] = []
        for key, part in zip(self._keys or ("task",), self._parts, strict=True):
            every = range(part.size)
            columns += [f"{key}_{i}" for i in every] if part.shape else [str(key)]
        self.columns = tuple(columns)

    def row(self, task: Any) -> Tasks:
        """A task's row, [d].

        Raises:
            BrokenContract: it is made of other parts than the first one.
        """
        values = [np.asarray(value) for value in self._values(task)]
        if [value.shape for value in values] != [part.shape for part in self._parts]:
            raise BrokenContract(
                f"sample_tasks gave {value_in_words(task)}: all its tasks must have the same parts "
                "of the same shapes"
            )
        return np.concatenate([value.reshape(-1) for value in values]).astype(np.float64)

    def task(self, row: Tasks) -> Any:
        """The task of a row [d], its numbers of the types that they had."""
        ends = np.cumsum([part.size for part in self._parts])[:-1]
        values = [
            piece.astype(part.dtype).reshape(part.shape)
            if part.shape
            else part.dtype.type(piece[0])
            for piece, part in zip(np.split(row, ends), self._parts, strict=True)
        ]
        return values[0] if self._keys is None else dict(zip(self._keys, values, strict=True))

    def _values(self, task: Any) -> list[Any]:
        if isinstance(task, dict) != (self._keys is not None) or (
            self._keys is not None and tuple(task) != self._keys
        ):
            raise BrokenContract(f"sample_tasks gave {value_in_words(task)} beside other tasks")
        values = [task] if self._keys is None else list(task.values())
        for value in values:
            if numbers(value) is None:
                raise BrokenContract(
                    f"sample_tasks gave a task with {value_in_words(value)}: it must be made of "
                    "numbers and arrays of numbers"
                )
        return values


class SampledTasks(TaskDistribution):
    """The tasks that an environment samples, as rows.

    Args:
        make_env: Makes the environment that they are sampled from.
        form: Of its tasks.
        env: One that was made; it stays in this process.
    """

    def __init__(self, make_env: Callable[[], Any], form: TaskForm, env: Any) -> None:
        self._make_env, self._form, self._env = make_env, form, env
        self.columns, self.units = form.columns, ("",) * len(form.columns)
        pool = self._rows(0, _NUM_SAMPLED)
        _, first = np.unique(pool, axis=0, return_index=True)
        pool = pool[np.sort(first)]
        # Of twice as many as are evaluated at least half are left to be trained on.
        self.finite = len(pool) < 2 * (NUM_VALIDATION + NUM_HELD_OUT)
        cut = 0 if self.finite else NUM_VALIDATION
        self._validation = pool if self.finite else pool[:cut]
        self._held_out = pool if self.finite else pool[cut : cut + NUM_HELD_OUT]

    def sample(self, rng: np.random.Generator, n: int) -> Tasks:
        rows = self._rows(int(rng.integers(1, 2**31)), n)
        if self.finite:
            return rows
        kept_apart = np.concatenate([self._validation, self._held_out])
        while (known := (rows[:, None] == kept_apart).all(axis=2).any(axis=1)).any():
            rows[known] = self._rows(int(rng.integers(1, 2**31)), int(known.sum()))
        return rows

    def validation(self) -> Tasks:
        return self._validation.copy()

    def held_out(self) -> Tasks:
        return self._held_out.copy()

    def _rows(self, seed: int, n: int) -> Tasks:
        if self._env is None:
            made = self._make_env()
            self._env = getattr(made, "unwrapped", made)
        tasks = _sampled(self._env, self._env.sample_tasks, seed, n)
        return np.stack([self._form.row(task) for task in tasks])

    def __getstate__(self) -> dict[str, Any]:
        return vars(self) | {"_env": None}


def _sampled(env: Any, sample: Callable[[int], Any], seed: int, n: int) -> Sequence[Any]:
    """n tasks; whatever generator theirs are drawn with is seeded, and the global ones go on."""
    python, state = random.getstate(), np.random.get_state()  # noqa: NPY002
    random.seed(seed)
    np.random.seed(seed)  # noqa: NPY002
    try:
        if callable(getattr(env, "seed", None)):
            env.seed(seed)
        elif isinstance(env, gymnasium.Env):
            env.np_random = np.random.default_rng(seed)
        tasks = list(sample(n))
    except (Exception, SystemExit) as error:
        raise BrokenContract(
            f"sample_tasks failed: {in_words(error, env, 'sample_tasks')}"
        ) from error
    finally:
        random.setstate(python)
        np.random.set_state(state)  # noqa: NPY002
    if len(tasks) != n:
        raise BrokenContract(f"sample_tasks gave {len(tasks)} tasks where it was asked for {n}")
    return tasks
