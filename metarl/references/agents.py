"""References as agents, so that the one evaluator drives them."""

from __future__ import annotations

import numpy as np
from gymnasium import spaces

from metarl.random import Key
from metarl.references.policy import ReferencePolicy
from metarl.types import ActionMode, AdaptationAxis


class _Unadapting:
    """The parts of a :class:`metarl.types.Agent` of an agent that learns nothing any more."""

    adaptation_axis: AdaptationAxis = "episode"
    privileged = False
    step_sizes: list[float] = []  # noqa: RUF012

    def observe(self, *args: np.ndarray, **named: np.ndarray) -> None:
        """Nothing to remember."""

    def adapt(self) -> None:
        """Nothing to learn."""


class PolicyAgent(_Unadapting):
    """One fixed policy for all tasks, which takes the mode of its distribution.

    Args:
        policy: Not stacked.
        sees_task: Whether its observation ends with the task vector: the oracle's does.
    """

    mode: ActionMode = "deterministic"

    def __init__(self, policy: ReferencePolicy, *, sees_task: bool) -> None:
        self._policy, self.privileged = policy, sees_task

    def begin(self, num_tasks: int, lanes: int, tasks: np.ndarray | None = None) -> None:
        """Expect M tasks × B lanes, of these task vectors [M, d].

        Raises:
            ValueError: it sees the task, and none are given.
        """
        if self.privileged:
            if tasks is None:
                raise ValueError("The oracle needs the task vectors.")
            self._tasks = np.repeat(np.asarray(tasks)[:, None], lanes, axis=1)  # [M, B, d]

    def act(self, observation: np.ndarray, active: np.ndarray) -> np.ndarray:
        """Actions [M, B, a], or int [M, B], for observations [M, B, o] without the task."""
        if self.privileged:
            observation = np.concatenate([observation, self._tasks], axis=2)
        action = self._policy.act(observation, None).numpy()
        return action if self._policy.discrete else np.clip(action, -1.0, 1.0)


class RandomAgent(_Unadapting):
    """Uniform actions.

    Args:
        action_space: Of one lane: Box of [−1, 1], or Discrete.
        key: Names the stream of actions.
    """

    mode: ActionMode = "stochastic"

    def __init__(self, action_space: spaces.Box | spaces.Discrete, key: Key) -> None:
        self._space, self._key = action_space, key

    def begin(self, num_tasks: int, lanes: int, tasks: np.ndarray | None = None) -> None:
        """Expect M tasks × B lanes."""
        self._streams = [self._key.generator("evaluation", m) for m in range(num_tasks)]

    def act(self, observation: np.ndarray, active: np.ndarray) -> np.ndarray:
        """Actions [M, B, a], or int [M, B]: the next block of every task's own stream."""
        lanes = observation.shape[1]
        return np.stack([self._draw(rng, lanes) for rng in self._streams])

    def _draw(self, rng: np.random.Generator, lanes: int) -> np.ndarray:
        if isinstance(self._space, spaces.Discrete):
            return rng.integers(self._space.n, size=lanes) + self._space.start
        return rng.uniform(self._space.low, self._space.high, size=(lanes, *self._space.shape))
