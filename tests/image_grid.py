"""A grid world that is seen as pictures: its goal is hidden, and it begins anywhere."""

from __future__ import annotations

from typing import Any

import numpy as np
from gymnasium import spaces

from metarl.envs import FiniteTasks, TaskVectorEnv

SIDE, PIXELS = 4, 4  # cells of a side, pixels of a cell's side
MOVES = np.array([[0, 0], [0, 1], [0, -1], [1, 0], [-1, 0]])


class ImageGrid(TaskVectorEnv):
    """4 × 4 cells without walls, seen in 16 × 16 pixels: reward 1 at every step on the hidden goal.

    The goal is one of four cells, each two moves from two others. Opposite edges are joined, so
    that nothing tells where one is but the picture, a chequered floor with a red cell, under noise
    of its own at every step. Of 8 steps
    an agent that knows the goal is paid for 6.94 in the mean. One that does not see can walk over
    eight cells and stay where it is paid, (8 + 7 + … + 1) / 16 = 2.25, in any episode.
    """

    def __init__(self, num_envs: int) -> None:
        tasks = FiniteTasks([[0.0], [2.0], [8.0], [10.0]], ("cell",), ("",))
        floor = np.indices((SIDE, SIDE)).sum(0) % 2 * 60 + 40
        self._floor = np.kron(floor, np.ones((PIXELS, PIXELS))).astype(np.uint8)[..., None]
        self._at = np.zeros((num_envs, 2), dtype=np.intp)
        self._noise = np.zeros((num_envs, *self._floor.shape[:2], 3), dtype=np.uint8)
        pictures = spaces.Box(0, 255, (SIDE * PIXELS, SIDE * PIXELS, 3), np.uint8)
        super().__init__(num_envs, tasks, 8, pictures, spaces.Discrete(len(MOVES)))

    def _reset_lanes(self, lanes: Any) -> None:
        for lane in lanes:
            self._at[lane] = self._generator(int(lane)).integers(SIDE, size=2)
        self._draw(lanes)

    def _advance(self, actions: Any, live: Any) -> Any:
        self._at = (self._at + MOVES[actions]) % SIDE
        self._draw(np.arange(self.num_envs))
        return (self._at @ [SIDE, 1] == self._tasks[:, 0]).astype(np.float64), None

    def _draw(self, lanes: Any) -> None:
        for lane in lanes:
            noise = np.frombuffer(self._generator(int(lane)).bytes(self._noise[0].size), np.uint8)
            self._noise[lane] = (noise % 64).reshape(self._noise.shape[1:])

    def _observe(self) -> Any:
        seen = self._floor + self._noise
        lanes = np.arange(self.num_envs)[:, None, None]
        rows, columns = PIXELS * self._at.T[..., None] + np.arange(PIXELS)  # [N, PIXELS] each
        seen[lanes, rows[:, :, None], columns[:, None, :]] = (255, 0, 0)
        return seen
