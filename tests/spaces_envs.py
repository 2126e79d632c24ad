"""Environments of every kind of space, one lane at a time and natively batched."""

from __future__ import annotations

from typing import Any

import gymnasium
import numpy as np
from gymnasium import spaces
from gymnasium.vector.utils import batch_space

from metarl.envs import FiniteTasks, TaskVectorEnv
from metarl.envs.spaces import OwnActions, shown_actions

_LOW = np.array([[0.0, -3.0], [1.0, 10.0]], np.float32)
OBSERVATIONS: dict[str, spaces.Space[Any]] = {
    "unbounded": spaces.Box(-np.inf, np.inf, (3,), np.float32),
    "matrix": spaces.Box(-1.0, np.inf, (2, 2)),
    "scalar": spaces.Box(0.0, 5.0, ()),
    "bytes": spaces.Box(0, 255, (4,), np.uint8),
    "discrete": spaces.Discrete(4, start=-1),
    "multi_discrete": spaces.MultiDiscrete([[2, 3], [4, 2]], start=[[1, 0], [0, 5]]),
    "multi_binary": spaces.MultiBinary((2, 2)),
    "dict": spaces.Dict(
        {
            "where": spaces.Tuple([spaces.Discrete(3), spaces.Box(-2.0, 2.0, (2, 1))]),
            "camera": spaces.Box(0, 255, (2, 2, 3), np.uint8),
            "buttons": spaces.MultiBinary(2),
        }
    ),
    "tuple": spaces.Tuple([spaces.MultiDiscrete([2, 2]), spaces.Box(-np.inf, np.inf, (1,))]),
    "image": spaces.Box(0, 255, (7, 6, 3), np.uint8),
    "channels_first": spaces.Box(0, 255, (2, 9, 9), np.uint8),
}
ACTIONS: dict[str, spaces.Space[Any]] = {
    "discrete": spaces.Discrete(3, start=5),
    "multi_discrete": spaces.MultiDiscrete([[2, 3], [1, 4]], start=[[1, 0], [7, -2]]),
    "multi_binary": spaces.MultiBinary((2, 1)),
    "box": spaces.Box(_LOW, _LOW + 4.0),
    "whole_box": spaces.Box(0, 10, (2,), np.int64),
}
REFUSED: dict[str, tuple[dict[str, spaces.Space[Any]], str]] = {
    "text": ({"observations": spaces.Text(3, charset="a")}, "Text(1, 3, charset=a) is not"),
    "text_inside": (
        {"observations": spaces.Dict({"a": spaces.Tuple([spaces.Text(3, charset="a")])})},
        "Text(1, 3, charset=a) is not",
    ),
    "graph": (
        {"observations": spaces.Graph(spaces.Box(0, 1, (2,)), None)},
        "MultiBinary, and Dict and Tuple of them are supported",
    ),
    "sequence": (
        {"observations": spaces.Sequence(spaces.Discrete(2))},
        "Sequence(Discrete(2), stack=False) is not",
    ),
    "nothing": ({"observations": spaces.Dict({})}, "Dict() is not"),
    "huge": ({"observations": spaces.Discrete(10**9)}, "of 1000000000 numbers"),
    "unbounded_actions": (
        {"actions": spaces.Box(-np.inf, 1.0, (2,))},
        "only a bounded Box, Discrete, MultiDiscrete or MultiBinary is supported",
    ),
    "dict_actions": (
        {"actions": spaces.Dict({"a": spaces.Discrete(2)})},
        "only a bounded Box, Discrete, MultiDiscrete or MultiBinary is supported",
    ),
}

TASKS = FiniteTasks([[0.0], [1.0], [2.0]], ("which",), ("",))


class Spaced(gymnasium.Env):
    """Random observations of one space; actions of another, worth the more the larger they are."""

    task_distribution = TASKS
    horizon = 4

    def __init__(self, observations: str = "unbounded", actions: str = "discrete") -> None:
        self.observation_space = OBSERVATIONS[observations]
        self.action_space = ACTIONS[actions]

    def set_task(self, task: np.ndarray) -> None:
        self._task = task

    def reset(self, *, seed: int | None = None, options: Any = None) -> tuple[Any, dict]:
        super().reset(seed=seed)
        self.observation_space.seed(int(self.np_random.integers(2**31)))
        return self.observation_space.sample(), {}

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict]:
        assert self.action_space.contains(action), action
        reward = float(np.sum(action)) * (self._task[0] - 1.0) + 0.1 * self.np_random.normal()
        return self.observation_space.sample(), reward, False, False, {}


class SpacedLanes(TaskVectorEnv):
    """The same, natively batched; or whatever the spaces in :data:`REFUSED` are.

    Args:
        num_envs: Number of lanes.
        observations: Which space.
        actions: Which space; what agents are shown is declared.
        refused: Which of the refused ones, in place of those.
    """

    def __init__(
        self,
        num_envs: int,
        observations: str = "unbounded",
        actions: str = "discrete",
        refused: str = "",
    ) -> None:
        own = ACTIONS[actions]
        given = {"observations": OBSERVATIONS[observations], "actions": shown_actions(own, "")}
        given |= REFUSED[refused][0] if refused else {}
        self._own_actions = OwnActions(own)
        self._batch = batch_space(given["observations"], num_envs) if not refused else None
        super().__init__(num_envs, TASKS, 4, given["observations"], given["actions"])

    def _reset_lanes(self, lanes: Any) -> None:
        assert self._batch is not None
        self._batch.seed(int(self._generator(int(lanes[0])).integers(2**31)))

    def _advance(self, actions: Any, live: Any) -> Any:
        taken = self._own_actions.of(actions).reshape(self.num_envs, -1).sum(1)
        return taken * (self._tasks[:, 0] - 1.0), None

    def _observe(self) -> Any:
        assert self._batch is not None
        return self._batch.sample()
