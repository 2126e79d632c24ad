"""Environments that draw themselves, well and badly, for the tests of videos."""

from __future__ import annotations

from typing import Any, ClassVar

import gymnasium
import numpy as np

from tests.envs.user_envs import Reach


def grey(x: float) -> int:
    """How bright the picture is at a position."""
    return int(np.clip(128 + 40 * x, 0, 255))


class Drawn(Reach):
    """Reach, which is as bright as its x is large.

    Args:
        render_mode: As Gymnasium has it.
        shape: Height and width of the picture.
    """

    metadata: ClassVar = {"render_modes": ["human", "rgb_array"], "render_fps": 10}
    position_columns = (0, 1)

    def __init__(
        self, render_mode: str | None = None, shape: tuple[int, int] = (61, 93), noise: float = 1.0
    ) -> None:
        super().__init__(noise)
        self.render_mode, self._shape = render_mode, shape

    def render(self) -> Any:
        if self.render_mode != "rgb_array":
            return None
        return np.full((*self._shape, 3), grey(self._x[0]), dtype=np.uint8)


class Nothing(Drawn):
    position_columns = None  # type: ignore[assignment]

    def render(self) -> Any:
        return None


class Floats(Drawn):
    def render(self) -> Any:
        return np.zeros((8, 8, 3))


class Grey(Drawn):
    def render(self) -> Any:
        return np.zeros((8, 8), np.uint8)


class NoLibrary(Drawn):
    def render(self) -> Any:
        raise gymnasium.error.DependencyNotInstalled("pygame is not installed")


class NoMode(Reach):
    """It lists the mode, as by inheritance, and cannot be built in it."""

    metadata: ClassVar = {"render_modes": ["rgb_array"]}

    def __init__(self) -> None:
        super().__init__()


class Weary(Drawn):
    """Its fourth picture cannot be drawn."""

    drawn = 0

    def render(self) -> Any:
        self.drawn += 1
        if self.drawn == 4:
            raise RuntimeError("out of paint")
        return super().render()


class Forgetful(Drawn):
    """An episode depends on the last one."""

    _last = 0.0

    def reset(self, *, seed: int | None = None, options: Any = None) -> tuple[np.ndarray, dict]:
        observation, info = super().reset(seed=seed, options=options)
        self._x += self._last
        self._last += 0.1
        return observation, info
