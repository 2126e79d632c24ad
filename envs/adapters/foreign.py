"""An environment of Gymnasium or of the old Gym, as one of Gymnasium's with a method `set_task`."""

from __future__ import annotations

import inspect
from abc import abstractmethod
from typing import Any

import gymnasium
import numpy as np
from gymnasium import spaces
from numpy.typing import ArrayLike, NDArray

from metarl.envs import checks
from metarl.envs.faults import BrokenContract, defined, value_in_words
from metarl.envs.tasks import TaskDistribution


class ForeignEnv(gymnasium.Env):
    """What an environment of another framework is here; a subclass says how a task gets into it.

    Gymnasium's ways are taken as they are, and the old Gym's: `reset()` that returns an observation
    alone, `seed(seed)`, spaces of its own, and a step of four values, whose `done` is a truncation
    where the info has "TimeLimit.truncated", else a termination.

    Args:
        env: Theirs.
        horizon: Steps of an episode.

    Raises:
        BrokenContract: a space is none of a kind that is known, or the horizon no whole number.
    """

    task_distribution: TaskDistribution

    def __init__(self, env: Any, horizon: int) -> None:
        self.horizon = checks.integer("horizon", horizon, 1)
        self._env = env
        self._inner = getattr(env, "unwrapped", env)
        self.observation_space = _space(env, "observation_space")
        self.action_space = _space(env, "action_space")
        self.metadata = getattr(env, "metadata", None) or {}
        self.render_mode = getattr(env, "render_mode", None)
        self._task: NDArray[np.float64] | None = None

    def set_task(self, task: ArrayLike) -> None:
        """Change the task [d], effective at the next reset."""
        self._task = np.atleast_1d(np.array(task, dtype=np.float64))

    @abstractmethod
    def _put(self, task: NDArray[np.float64]) -> None:
        """Have the next reset of theirs begin an episode of this task [d]."""

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Any, dict[str, Any]]:
        """Start an episode; `options={"task": row}` is as `set_task` before it."""
        super().reset(seed=seed)
        if (task := checks.task_option(options)) is not None:
            self.set_task(task)
        if self._task is not None:
            self._put(self._task)
        answer = self._reset(seed)
        pair = isinstance(answer, tuple) and len(answer) == 2 and isinstance(answer[1], dict)
        observation, info = answer if pair else (answer, {})
        return self._observed(observation), info

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        answer = self._env.step(action)
        if not isinstance(answer, tuple | list) or len(answer) not in (4, 5):
            raise BrokenContract(
                f"{defined(self._inner, 'step')} returned {value_in_words(answer)}: it must return "
                "5 values, observation, reward, terminated, truncated, info, or the 4 of Gym's days"
            )
        observation, reward, *over, info = answer
        if len(over) == 1:
            truncated = bool(info.get("TimeLimit.truncated", False))
            over = [bool(over[0]) and not truncated, truncated]
        return self._observed(observation), reward, over[0], over[1], info

    def render(self) -> Any:
        return self._env.render()

    def close(self) -> None:
        self._env.close()

    def _observed(self, observation: Any) -> Any:
        """What of their observation an agent may see."""
        return observation

    def _reset(self, seed: int | None) -> Any:
        """Theirs, with a seed in the way of its days."""
        if "seed" in inspect.signature(self._inner.reset).parameters:
            return self._env.reset(seed=seed)
        if seed is not None and callable(getattr(self._env, "seed", None)):
            self._env.seed(seed)
        return self._env.reset()

    def _method(self, *names: str) -> Any:
        """Their method, the first that there is of these, of the environment inside its wrappers.

        Raises:
            BrokenContract: there is none.
        """
        for name in names:
            if callable(method := getattr(self._inner, name, None)):
                return method
        raise BrokenContract(f"{type(self._inner).__name__} has no method {' or '.join(names)}")


def _space(env: Any, name: str) -> spaces.Space[Any]:
    """A space of theirs as one of Gymnasium's; of the old Gym, Box and Discrete are known."""
    space: Any = getattr(env, name, None)
    if isinstance(space, spaces.Space):
        return space
    if hasattr(space, "low") and hasattr(space, "high"):
        return spaces.Box(np.asarray(space.low), np.asarray(space.high), dtype=space.dtype)
    if hasattr(space, "n"):
        return spaces.Discrete(int(space.n), start=int(getattr(space, "start", 0)))
    raise BrokenContract(
        f"{type(getattr(env, 'unwrapped', env)).__name__} has {value_in_words(space)} as {name}: "
        "it must be a space of Gymnasium, or a Box or Discrete of Gym"
    )
