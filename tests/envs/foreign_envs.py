"""Environments as other frameworks have them, and what makes ours of them.

They are small, and keep to the ways of theirs: learn2learn's and pytorch-maml-rl's in the days of
Gym, ProMP's, PEARL's, CARL's.
"""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import gymnasium
import numpy as np
from gymnasium import spaces
from gymnasium.utils import seeding

from metarl.envs import UniformInterval
from metarl.envs.adapters import from_contexts, from_sample_tasks, from_task_indices


class GymPoint:
    """A point that is to reach a goal, with the methods and spaces of the old Gym.

    As pytorch-maml-rl's Navigation2DEnv: tasks are dictionaries, drawn with `self.np_random`.
    """

    observation_space = SimpleNamespace(
        low=np.full(2, -9.0), high=np.full(2, 9.0), shape=(2,), dtype=np.float32
    )
    action_space = SimpleNamespace(
        low=np.full(2, -0.1), high=np.full(2, 0.1), shape=(2,), dtype=np.float32
    )
    metadata = {"render.modes": ["human"]}  # noqa: RUF012

    def __init__(self, region: float = 0.5) -> None:
        self._region = region
        self._goal = np.zeros(2, dtype=np.float32)
        self.seed()

    @property
    def unwrapped(self) -> GymPoint:
        return self

    def seed(self, seed: int | None = None) -> list[int]:
        self.np_random, own = seeding.np_random(seed)
        return [own]

    def sample_tasks(self, num_tasks: int) -> list[dict[str, Any]]:
        goals = self.np_random.uniform(-self._region, self._region, size=(num_tasks, 2))
        return [{"goal": goal, "scale": 1 + i % 3} for i, goal in enumerate(goals)]

    def reset_task(self, task: dict[str, Any]) -> None:
        assert isinstance(task["scale"].item(), int)
        self._goal = task["goal"] * task["scale"]

    def reset(self) -> np.ndarray:
        self._x = self.np_random.uniform(-0.1, 0.1, 2)
        self._steps = 0
        return self._x.astype(np.float32)

    def step(self, action: np.ndarray) -> tuple[np.ndarray, float, bool, dict[str, Any]]:
        assert (np.abs(action) <= 0.1).all()
        self._x = self._x + action
        self._steps += 1
        distance = float(np.linalg.norm(self._x - self._goal))
        cut = self._steps == 7
        info = {"TimeLimit.truncated": True} if cut else {}
        return self._x.astype(np.float32), -distance, distance < 0.05 or cut, info

    def close(self) -> None:
        pass


class ProMPPoint(GymPoint):
    """As ProMP's: tasks are arrays, drawn with NumPy's global generator, and set."""

    reset_task = None  # type: ignore[assignment]

    def sample_tasks(self, num_tasks: int) -> Any:
        return np.random.uniform(-1.0, 1.0, (num_tasks, 2))  # noqa: NPY002

    def set_task(self, task: np.ndarray) -> None:
        self._goal = task


class Directions(gymnasium.Env):
    """Two tasks in all, in Gymnasium's ways."""

    observation_space = spaces.Box(-1.0, 1.0, (1,))
    action_space = spaces.Discrete(2)

    def sample_tasks(self, num_tasks: int) -> list[dict[str, Any]]:
        signs = 2 * self.np_random.binomial(1, 0.5, num_tasks) - 1
        return [{"direction": sign} for sign in signs]

    def reset_task(self, task: dict[str, Any]) -> None:
        self._sign = task["direction"]

    def reset(self, *, seed: int | None = None, options: Any = None) -> Any:
        super().reset(seed=seed)
        return np.zeros(1, np.float32), {}

    def step(self, action: int) -> Any:
        return np.zeros(1, np.float32), float((2 * action - 1) == self._sign), False, False, {}


class ListedPoint(GymPoint):
    """As PEARL's: a list of tasks, and the index of one, whose reset_task resets as well."""

    def __init__(self, n_tasks: int = 14) -> None:
        super().__init__()
        self.tasks = [{"goal": np.array([i / 10.0, 0.0])} for i in range(n_tasks)]

    def get_all_task_idx(self) -> range:
        return range(len(self.tasks))

    def reset_task(self, idx: int) -> None:  # type: ignore[override]
        self._goal = self.tasks[idx]["goal"]
        self.reset()


class Selector:
    """CARL's, which goes through the contexts in turn."""

    def __init__(self, contexts: dict[Any, Any]) -> None:
        self.contexts, self.context_id = contexts, None
        self.context_ids, self.contexts_keys = [*range(len(contexts))], list(contexts)

    def select(self) -> dict[str, Any]:
        last = -1 if self.context_id is None else self.context_id
        self.context_id = (last + 1) % len(self.contexts)
        return self.contexts[self.contexts_keys[self.context_id]]


class UniformIntegerHyperparameter:
    """What ConfigSpace calls a feature of whole numbers."""


class CarlPoint(gymnasium.Wrapper):
    """As CARL's: the context changes with the selector's, and stands in the observation."""

    def __init__(self) -> None:
        super().__init__(Directions())
        self.base_observation_space = self.env.observation_space
        self.contexts = {0: {}}
        self.context_selector = Selector(self.contexts)
        self.applied: list[dict[str, Any]] = []
        self.observation_space = spaces.Dict({"obs": self.base_observation_space})

    @staticmethod
    def get_context_features() -> dict[str, Any]:
        return {"l": object(), "n": UniformIntegerHyperparameter()}

    @property
    def contexts(self) -> dict[Any, Any]:
        return self._contexts

    @contexts.setter
    def contexts(self, contexts: dict[Any, Any]) -> None:
        self._contexts = {key: {"l": 1.0, "n": 3} | given for key, given in contexts.items()}

    def reset(self, **kwargs: Any) -> Any:
        last = self.context_selector.context_id
        self.context = self.context_selector.select()
        if self.context_selector.context_id != last:
            self.applied.append(self.context)
            self.unwrapped.reset_task({"direction": np.sign(self.context["l"])})
        observation, info = self.env.reset(**kwargs)
        return {"obs": observation, "context": self.context}, info

    def step(self, action: Any) -> Any:
        observation, *rest = self.env.step(action)
        return {"obs": observation, "context": self.context}, *rest


def make_points(region: float = 0.5) -> gymnasium.Env:
    """Of dictionaries."""
    return from_sample_tasks(lambda: GymPoint(region), horizon=10)


def make_listed() -> gymnasium.Env:
    """Of indices."""
    return from_task_indices(ListedPoint, horizon=10, train=10, held_out=4)


class Lengths(UniformInterval):
    """A feature of a context."""

    def __init__(self) -> None:
        super().__init__(0.5, 1.5, column="l", unit="m")


def make_carl() -> gymnasium.Env:
    """Of CARL's own pendulum."""
    from carl.envs import CARLPendulum

    return from_contexts(CARLPendulum, Lengths(), horizon=20)
