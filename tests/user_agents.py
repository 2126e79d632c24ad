"""Agents as a user would write them, good and bad."""

from __future__ import annotations

import sys
from typing import Any, ClassVar

import numpy as np
import torch

from metarl.types import Agent


class Scout:
    """Walks to points of its own choice, and searches on around the best of them."""

    adaptation_axis, mode, privileged = "gradient_step", "stochastic", False
    step_sizes: ClassVar[list[float]] = []

    def __init__(self, observation_space: Any, action_space: Any, seed: int) -> None:
        self.seed = seed

    def begin(self, num_tasks: int, lanes: int, tasks: np.ndarray | None = None) -> None:
        assert tasks is None
        self.rng, self.reach = np.random.default_rng(self.seed), 0.5
        self.choose(np.zeros((num_tasks, 1, 2)), lanes)

    def choose(self, around: np.ndarray, lanes: int) -> None:
        shift = self.rng.uniform(-self.reach, self.reach, (len(around), lanes, 2))
        self.targets, self.returns = around + shift, np.zeros(shift.shape[:2])

    def act(self, observation: np.ndarray, active: np.ndarray) -> Any:
        return np.clip(10 * (self.targets - observation), -1, 1)

    def observe(
        self, action: Any, reward: Any, terminated: Any, truncated: Any, next_observation: Any
    ) -> None:
        self.returns = self.returns + reward

    def adapt(self) -> None:
        best = self.returns.argmax(axis=1)
        self.reach /= 3
        self.choose(self.targets[np.arange(len(best)), best][:, None], self.returns.shape[1])


class Lister(Scout):
    """Gives its actions as lists."""

    def act(self, observation: np.ndarray, active: np.ndarray) -> Any:
        return super().act(observation, active).tolist()


class Told(Scout):
    """Needs no adaptation."""

    privileged = True

    def begin(self, num_tasks: int, lanes: int, tasks: np.ndarray | None = None) -> None:
        assert tasks is not None
        super().begin(num_tasks, lanes)
        self.targets = np.broadcast_to(tasks[:, None], self.targets.shape)

    def adapt(self) -> None:
        pass


class Raising(Scout):
    def act(self, observation: np.ndarray, active: np.ndarray) -> Any:
        return observation @ np.ones(7)


class Flat(Scout):
    def act(self, observation: np.ndarray, active: np.ndarray) -> Any:
        return super().act(observation, active)[..., 0]


class Wordy(Scout):
    def act(self, observation: np.ndarray, active: np.ndarray) -> Any:
        return np.full(observation.shape, "left")


class Forgetful(Scout):
    def act(self, observation: np.ndarray, active: np.ndarray) -> Any:
        pass


class Wild(Scout):
    def act(self, observation: np.ndarray, active: np.ndarray) -> Any:
        return super().act(observation, active) * np.nan


class Deaf:
    """Neither observe nor adapt nor mode."""

    adaptation_axis, privileged = "episode", False
    step_sizes: ClassVar[list[float]] = []

    def __init__(self, *_: Any) -> None: ...
    def begin(self, num_tasks: int, lanes: int, tasks: Any = None) -> None: ...
    def act(self, observation: Any, active: Any) -> None: ...


class Heir(Agent):
    """Inherits the protocol's empty methods, which is not to have them."""

    adaptation_axis, mode, privileged = "episode", "stochastic", False

    def __init__(self, *_: Any) -> None: ...


class Needy(Scout):
    def __init__(self) -> None: ...


class Odd(Scout):
    adaptation_axis = "epoch"


class Stiff(Scout):
    """Its mode cannot be set."""

    @property
    def mode(self) -> str:  # type: ignore[override]
        return "stochastic"


class Graded(Scout):
    """Forgot to detach."""

    def act(self, observation: np.ndarray, active: np.ndarray) -> Any:
        return torch.zeros(*observation.shape, requires_grad=True)


class Uneven(Scout):
    def act(self, observation: np.ndarray, active: np.ndarray) -> Any:
        return [[0.0], [0.0, 1.0]]


class Quitting(Scout):
    def adapt(self) -> None:
        sys.exit("enough")


class QuittingEarly(Scout):
    def __init__(self, *_: Any) -> None:
        sys.exit(1)


class Hasty(Scout):
    """Its adapt() wants to be told something."""

    def adapt(self, rewards: Any) -> None:  # type: ignore[override]
        pass


class Unsized(Scout):
    step_sizes = None  # type: ignore[assignment]


class Sized(Scout):
    step_sizes: ClassVar[Any] = ["small"]


class Greedy(Scout):
    """Knows one mode only, and says so to nobody."""

    @property
    def mode(self) -> str:  # type: ignore[override]
        return "greedy"

    @mode.setter
    def mode(self, mode: str) -> None: ...


class Secretive(Scout):
    privileged: Any = "no"


class Shy(Scout):
    @property
    def adaptation_axis(self) -> str:  # type: ignore[override]
        raise RuntimeError("not built yet")
