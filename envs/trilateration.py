"""What an agent earns that finds a hidden point from two distances to it, and then walks there."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from metarl.envs.vector import Bools, Floats

_EXPLORATION = np.array([[1.0, 0.0], [-1.0, 1.0]])
"""The actions of the first two steps: the three points that they visit are no line."""


def trilaterating_returns(
    goals: Floats,
    episodes: int,
    *,
    step_size: float,
    horizon: int,
    arrival: float | None,
    possible: Callable[[Floats], Bools],
) -> Floats:
    """Returns of the trilaterating agent in each episode of a trial, [K, n] for goals [n, 2].

    Every episode starts at the origin, and every reward is minus the distance to the goal. Two
    fixed steps tell two distances, which leave two points, mirror images in the line through the
    places where they were told. The agent walks to the one where a goal can lie, of two such to the
    one nearer to the origin, and turns to the other when a reward contradicts it. In later
    episodes it goes straight to the goal, or to where an episode ended before it was known.

    Args:
        goals: [n, 2].
        episodes: K.
        step_size: Length of a step along one axis at the action 1, in m.
        horizon: Steps in an episode.
        arrival: An episode terminates within this distance of the goal on both axes, in m; None:
            never.
        possible: Points [n, 2] ↦ whether a goal can lie there, [n].
    """
    agent = _Agents(len(goals), step_size, possible)
    returns = np.zeros((episodes, len(goals)))
    for k in range(episodes):
        position = np.zeros_like(goals)
        live = np.ones(len(goals), dtype=bool)
        for _ in range(horizon):
            position[live] += agent.move(position)[live]
            offset = position - goals
            distance = np.hypot(offset[:, 0], offset[:, 1])
            returns[k, live] -= distance[live]
            agent.observe(position, distance, live)
            if arrival is not None:
                arrived = live & (np.abs(offset) < arrival).all(axis=1)
                agent.remember(position, arrived)
                live &= ~arrived
            if not live.any():
                break
    return returns


class _Agents:
    """n of them: how many distances each has been told, and where it believes the goal to be."""

    def __init__(self, n: int, step_size: float, possible: Callable[[Floats], Bools]) -> None:
        self._step_size = step_size
        self._possible = possible
        self._told = np.zeros(n, dtype=np.intp)
        self._first = np.zeros((n, 2))  # where the first distance was told
        self._first_distance = np.zeros(n)
        self._believed = np.zeros((n, 2))
        self._other = np.zeros((n, 2))  # where the goal is if not there

    def move(self, position: Floats) -> Floats:
        """The next move of each, [n, 2], in m."""
        explore = self._step_size * _EXPLORATION[np.minimum(self._told, 1)]
        walk = np.clip(self._believed - position, -self._step_size, self._step_size)
        return np.where((self._told < 2)[:, None], explore, walk)

    def observe(self, position: Floats, distance: Floats, live: Bools) -> None:
        """The distance [n] of the goal from a position [n, 2], of those that live."""
        first, second = live & (self._told == 0), live & (self._told == 1)
        doubts = live & (self._told >= 2)
        self._first[first], self._first_distance[first] = position[first], distance[first]
        if second.any():
            self._locate(np.flatnonzero(second), position, distance)
        # From the line through both first places they are told apart by rounding alone.
        wrong = doubts & (
            self._contradiction(self._believed, position, distance)
            > self._contradiction(self._other, position, distance) + 1e-6 * self._step_size
        )
        self._believed[wrong], self._other[wrong] = self._other[wrong], self._believed[wrong]
        self._told[live] += 1

    def remember(self, position: Floats, arrived: Bools) -> None:
        """Who arrived before it knew the goal takes the place for it."""
        lucky = arrived & (self._told < 2)
        self._believed[lucky] = self._other[lucky] = position[lucky]
        self._told[lucky] = 2

    def _locate(self, who: NDArray[np.intp], position: Floats, distance: Floats) -> None:
        """Both points that two distances leave; one of them is believed."""
        line = position[who] - self._first[who]
        length = np.hypot(line[:, 0], line[:, 1])[:, None]
        along = line / length
        r, s = self._first_distance[who, None], distance[who, None]
        x = (r**2 - s**2 + length**2) / (2.0 * length)
        y = np.sqrt(np.maximum(r**2 - x**2, 0.0))
        across = along[:, ::-1] * [-1.0, 1.0]
        foot = self._first[who] + x * along
        near, far = foot + y * across, foot - y * across  # from the origin, by the moves explored
        swap = (self._possible(far) & ~self._possible(near))[:, None]
        self._believed[who] = np.where(swap, far, near)
        self._other[who] = np.where(swap, near, far)

    @staticmethod
    def _contradiction(point: Floats, position: Floats, distance: Floats) -> Floats:
        """By how much a distance [n] is another than it would be were the goal at the point."""
        offset = position - point
        return np.abs(np.hypot(offset[:, 0], offset[:, 1]) - distance)
