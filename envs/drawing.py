"""What draws an environment's states: MuJoCo's renderer, or a few shapes."""

from __future__ import annotations

from typing import Protocol

import numpy as np
from numpy.typing import NDArray


class Drawing(Protocol):
    """Draws one state after another, see :meth:`metarl.envs.vector.TaskVectorEnv.renderer`."""

    def draw(self, state: NDArray[np.floating]) -> NDArray[np.uint8]:
        """The picture of a state [q]: uint8 [height, width, RGB]."""

    def close(self) -> None:
        """Let go of what it holds; a second call does nothing."""
