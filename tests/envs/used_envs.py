"""Environments that tell how often they are built, for the tests of what vector ones share."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import numpy as np

from tests.envs.user_envs import Reach


class Counted(Reach):
    """Reach, with a line in a file for every instance.

    Args:
        log: The file.
        size: Bytes that an instance takes.
    """

    def __init__(self, log: str, size: float = 0) -> None:
        super().__init__()
        self._ballast = bytearray(b"x" * int(size))
        with Path(log).open("a") as file:
            file.write("built\n")


class Gambler(Reach):
    """Reach, whose start, noise and build come from the global generators."""

    def __init__(self) -> None:
        super().__init__(noise=0.0)
        self._luck = [random.random(), np.random.rand()]  # noqa: NPY002

    def reset(self, *, seed: int | None = None, options: Any = None) -> tuple[np.ndarray, dict]:
        super().reset(seed=seed)
        self._x = np.array([random.gauss(0.0, 1.0), self._luck[0]])
        return self._observation(), {}

    def step(self, action: np.ndarray) -> tuple[np.ndarray, float, bool, bool, dict]:
        self._x = self._x + 0.1 * np.random.randn(2) * self._luck[1]  # noqa: NPY002
        self._x[random.randrange(2)] += 0.01
        return super().step(action)


class Crossing(Reach):
    """Reach without noise, which succeeds while x is between 0.5 and 0.9 and says so in its info.

    Args:
        told: From which step on it says anything.
        horizon: Steps of an episode.
    """

    def __init__(self, told: int = 1, horizon: int = 12) -> None:
        super().__init__(noise=0.0)
        self._told, self.horizon = told, horizon

    def step(self, action: np.ndarray) -> tuple[np.ndarray, float, bool, bool, dict]:
        observation, reward, _, _, info = super().step(action)
        if self._steps >= self._told:
            info = {"success": 0.5 < self._x[0] < 0.9}
        return observation, reward, False, False, info
