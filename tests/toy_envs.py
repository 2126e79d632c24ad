"""Small environments for the tests of training."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, Literal

import numpy as np
from gymnasium import spaces

from metarl.envs import FiniteTasks, TaskVectorEnv, UniformInterval


class Line(TaskVectorEnv):
    """x ← x + 0.1·clip(a, ±1), reward −|x − g|; the observation is x and the step.

    Args:
        num_envs: Number of lanes.
        horizon: Steps.
        bad: What becomes NaN, if anything.
        bad_reset: In episodes from this reset of the environment on, counted from 1.
        bad_step: At this step of the episode, counted from 1.
        bad_above: In the tasks above this goal.
    """

    def __init__(
        self,
        num_envs: int,
        horizon: int = 5,
        bad: Literal["", "observation", "reward"] = "",
        bad_reset: int = 1,
        bad_step: int = 2,
        bad_above: float = -9.0,
    ) -> None:
        self._bad, self._bad_reset, self._bad_step = bad, bad_reset, bad_step
        self._bad_above = bad_above
        self._resets = 0
        self._x = np.zeros((num_envs, 2))
        box = spaces.Box(-np.inf, np.inf, (2,), np.float64)
        action = spaces.Box(-1.0, 1.0, (1,), np.float32)
        super().__init__(num_envs, UniformInterval(-1.0, 1.0, "goal", "m"), horizon, box, action)

    def _reset_lanes(self, lanes: Any) -> None:
        self._resets += 1
        self._x[lanes] = 0.0

    def _advance(self, actions: Any, live: Any) -> Any:
        self._x[:, 0] += 0.1 * np.clip(actions[:, 0], -1.0, 1.0)
        self._x[:, 1] += 1.0
        reward = -np.abs(self._x[:, 0] - self._tasks[:, 0])
        return np.where(self._now("reward"), np.nan, reward), None

    def _observe(self) -> Any:
        now = self._now("observation")
        return np.where(now[:, None], np.nan, self._x)

    def _now(self, what: str) -> Any:
        """Lanes [N] in which it is time for a NaN."""
        if self._bad != what or self._resets < self._bad_reset:
            return np.zeros(self.num_envs, dtype=bool)
        return (self._x[:, 1] == self._bad_step) & (self._tasks[:, 0] > self._bad_above)


class MeasuredLine(Line):
    """It says of an episode how far from the start it ended."""

    measures: ClassVar[Mapping[str, str]] = {"distance": "from the start at the end, m"}

    def episode_measures(self) -> Mapping[str, Any]:
        return {"distance": np.abs(self._x[:, 0])}


class Arms(TaskVectorEnv):
    """Five arms, one of which pays: nothing to see, so only adaptation can know which."""

    def __init__(self, num_envs: int, horizon: int = 1, pay: float = 1.0) -> None:
        self._pay = pay
        tasks = FiniteTasks([[float(i)] for i in range(5)], ("arm",), ("",))
        box = spaces.Box(0.0, 1.0, (1,), np.float64)
        super().__init__(num_envs, tasks, horizon, box, spaces.Discrete(5))

    def _reset_lanes(self, lanes: Any) -> None:
        pass

    def _advance(self, actions: Any, live: Any) -> Any:
        return self._pay * (actions == self._tasks[:, 0]), None

    def _observe(self) -> Any:
        return np.ones((self.num_envs, 1))


class Aim(TaskVectorEnv):
    """The first reward is a number, −0.6 or 0.6; after a rest, −|action|, it is to be hit.

    The last reward is −|action − number|, and the number is not to be seen then, nor the reward
    that told it: who remembers it earns 0 on average, who does not −0.6 at best.
    """

    def __init__(self, num_envs: int) -> None:
        tasks = FiniteTasks([[-0.6], [0.6]], ("number",), ("",))
        box = spaces.Box(0.0, 1.0, (1,), np.float64)
        action = spaces.Box(-1.0, 1.0, (1,), np.float32)
        super().__init__(num_envs, tasks, 3, box, action)

    def _reset_lanes(self, lanes: Any) -> None:
        pass

    def _advance(self, actions: Any, live: Any) -> Any:
        number = self._tasks[:, 0]
        missed = np.abs(np.clip(actions[:, 0], -1.0, 1.0) - np.where(self._steps == 2, number, 0.0))
        return np.where(self._steps == 0, number, -missed), None

    def _observe(self) -> Any:
        return (self._steps / 3.0)[:, None]


class Recall(TaskVectorEnv):
    """Wait for three steps, then choose left (1) or right (2): ±1 as the task has it.

    Not waiting (0) costs 1, as much as there is to be gained, so that no action can serve as a
    note to oneself. Nothing is to be seen. The first choice of a trial can only be a guess; who
    remembers it and its pay is right ever after, who does not earns 0 on average.
    """

    WAIT = 3

    def __init__(self, num_envs: int) -> None:
        tasks = FiniteTasks([[1.0], [2.0]], ("side",), ("",))
        box = spaces.Box(0.0, 1.0, (1,), np.float64)
        super().__init__(num_envs, tasks, self.WAIT + 1, box, spaces.Discrete(3))

    def _reset_lanes(self, lanes: Any) -> None:
        pass

    def _advance(self, actions: Any, live: Any) -> Any:
        waits = actions == 0
        right = actions == self._tasks[:, 0]
        choice = np.where(waits, -1.0, np.where(right, 1.0, -1.0))
        return np.where(self._steps < self.WAIT, -1.0 * ~waits, choice), None

    def _observe(self) -> Any:
        return (self._steps / self.WAIT)[:, None]
