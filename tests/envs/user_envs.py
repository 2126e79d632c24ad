"""Environments as a user would write them, for the tests of worker processes."""

from __future__ import annotations

from typing import Any, ClassVar

import gymnasium
import numpy as np
from gymnasium import spaces

from metarl.envs import FiniteTasks, GoalRegion, UniformInterval


class Velocities(UniformInterval):
    """A task distribution of a user's own, with one number a task."""

    def __init__(self) -> None:
        super().__init__(5.0, 6.0)


class Goals(GoalRegion):
    """Another one, with two."""

    def __init__(self) -> None:
        super().__init__("circle", 3.0)


class Reach(gymnasium.Env):
    """A noisy point with an unusual action box and observations of rank 2.

    Args:
        noise: Scale of the start and of the noise.
        fail_at: Step at which lanes with a goal on the right raise.
    """

    task_distribution = GoalRegion()
    horizon = 12
    observation_space = spaces.Box(-np.inf, np.inf, (2, 2), np.float32)
    action_space = spaces.Box(np.array([0.0, -3.0], np.float32), np.array([4.0, 3.0], np.float32))

    def __init__(self, noise: float = 1.0, fail_at: int = -1) -> None:
        if noise < 0:
            raise ValueError("noise must not be negative")
        self._noise, self._fail_at = noise, fail_at
        self._next_task = self._task = np.zeros(2)

    def set_task(self, task: np.ndarray) -> None:
        self._next_task = task

    def reset(self, *, seed: int | None = None, options: Any = None) -> tuple[np.ndarray, dict]:
        super().reset(seed=seed)
        self._task, self._steps = self._next_task, 0
        self._x = self._noise * self.np_random.standard_normal(2)
        self._action = np.zeros(2)
        return self._observation(), {}

    def step(self, action: np.ndarray) -> tuple[np.ndarray, float, bool, bool, dict]:
        assert self.action_space.contains(action)
        self._steps += 1
        if self._steps == self._fail_at and self._task[0] > 0:
            raise RuntimeError("the arm is stuck")
        self._action = action
        self._x = self._x + 0.1 * action + 0.1 * self._noise * self.np_random.standard_normal(2)
        distance = float(np.linalg.norm(self._x - self._task))
        # Two ends of its own beside the horizon: one of each kind.
        return self._observation(), -distance, distance < 0.3, self._x[0] > 3.0, {}

    def _observation(self) -> np.ndarray:
        return np.stack([self._x, self._action]).astype(np.float32)


class Chooser(gymnasium.Env):
    """Discrete actions that begin at 5; the observation is the last of them."""

    task_distribution = FiniteTasks([[5.0], [6.0], [7.0]], ("best",), ("",))
    horizon = 3
    observation_space = spaces.Box(0.0, 10.0, (1,), np.float64)
    action_space: ClassVar = spaces.Discrete(3, start=5)

    def set_task(self, task: np.ndarray) -> None:
        self._task = task

    def reset(self, *, seed: int | None = None, options: Any = None) -> tuple[np.ndarray, dict]:
        super().reset(seed=seed)
        return np.zeros(1), {}

    def step(self, action: int) -> tuple[np.ndarray, float, bool, bool, dict]:
        return np.array([float(action)]), float(action == self._task[0]), False, False, {}


class NoHorizon(Chooser):
    horizon = None  # type: ignore[assignment]


class NoTasks(Chooser):
    task_distribution = None  # type: ignore[assignment]


class UnboundedAction(Chooser):
    action_space: ClassVar = spaces.Box(-np.inf, np.inf, (1,))


class NotMeta(gymnasium.Env):
    """No set_task."""
