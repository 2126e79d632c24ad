"""References as agents, so that the one evaluator drives them."""

from __future__ import annotations

import numpy as np
import torch
from gymnasium import spaces

from metarl.random import Key
from metarl.references.policy import ReferencePolicy
from metarl.types import ActionMode, AdaptationAxis


class _Unadapting:
    """The parts of a :class:`metarl.types.Agent` of an agent that learns nothing any more."""

    adaptation_axis: AdaptationAxis = "episode"
    privileged = False
    mode: ActionMode
    step_sizes: list[float] = []  # noqa: RUF012

    def observe(
        self,
        action: np.ndarray,
        reward: np.ndarray,
        terminated: np.ndarray,
        truncated: np.ndarray,
        next_observation: np.ndarray,
    ) -> None:
        """Nothing to remember."""

    def adapt(self) -> None:
        """Nothing to learn."""


class MultitaskAgent(_Unadapting):
    """One fixed policy for all tasks.

    Args:
        policy: Not stacked.
        mode: "deterministic" takes the distribution's mode, "stochastic" samples.
        key: Names the action noise.
    """

    def __init__(self, policy: ReferencePolicy, mode: ActionMode, key: Key) -> None:
        self.policy, self.mode, self._key = policy, mode, key

    def begin(self, num_tasks: int, lanes: int, tasks: np.ndarray | None = None) -> None:
        """Expect M tasks × B lanes."""
        self._streams = [self._key.generator("evaluation", m) for m in range(num_tasks)]

    def act(self, observation: np.ndarray, active: np.ndarray) -> np.ndarray:
        """Actions [M, B, a], or int [M, B], for observations [M, B, o]."""
        noise = None
        if self.mode == "stochastic":
            lanes = observation.shape[1]
            blocks = [self.policy.draw_noise(rng, lanes) for rng in self._streams]
            noise = torch.from_numpy(np.stack(blocks))
        action = self.policy.act(observation, noise).numpy()
        return action if self.policy.discrete else np.clip(action, -1.0, 1.0)


class OracleAgent(MultitaskAgent):
    """A fixed policy that is told the task: its observation ends with the task vector."""

    privileged = True

    def begin(self, num_tasks: int, lanes: int, tasks: np.ndarray | None = None) -> None:
        """Expect M tasks × B lanes, of these task vectors [M, d].

        Raises:
            ValueError: no tasks are given.
        """
        if tasks is None:
            raise ValueError("The oracle needs the task vectors.")
        super().begin(num_tasks, lanes)
        self._tasks = np.repeat(np.asarray(tasks)[:, None], lanes, axis=1)  # [M, B, d]

    def act(self, observation: np.ndarray, active: np.ndarray) -> np.ndarray:
        """Actions [M, B, a], or int [M, B], for observations [M, B, o] without the task."""
        return super().act(np.concatenate([observation, self._tasks], axis=2), active)


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
