"""A grid world with a hidden goal, whose Bayes-optimal walk can be found."""

from __future__ import annotations

import functools
import itertools
from collections.abc import Mapping
from typing import Any, ClassVar

import numpy as np
from gymnasium import spaces
from numpy.typing import ArrayLike, NDArray

from metarl.envs import checks
from metarl.envs.discrete.lanes import one_hot
from metarl.envs.discrete.pictures import GridDrawing
from metarl.envs.tasks import FiniteTasks, Tasks
from metarl.envs.vector import Bools, Floats, Lanes, TaskVectorEnv

STEP_REWARD, GOAL_REWARD = -0.1, 1.0
_MOVES = np.array([[0, 0], [0, 1], [1, 0], [0, -1], [-1, 0]])  # stay, up, right, down, left
_NEAR = 1  # no goal lies within so many cells of the start on both axes
_MOST_WALKS = 200_000  # that are looked through
_LONGEST_WALK = 300  # cells; the search calls itself once for each

Cell = tuple[int, int]


class GridWorld(TaskVectorEnv):
    """A square of cells, a goal that is never observed: r = 1 on the goal, −0.1 elsewhere.

    An episode starts in the corner (0, 0) and lasts T steps, whether the goal is found or not. Five
    actions: stay, up, right, down, left; at a wall the agent stays. The task is the goal's cell
    (x, y), any but (0, 0), (0, 1), (1, 0) and (1, 1): 21 goals in the grid of 5 × 5, which are
    trained on and evaluated on. The observation is the agent's cell, one-hot.

    Preset: `varibad` (Zintgraf et al. 2020, section 5.1), the defaults; that one observes the cell
    as two numbers. Four episodes a trial there.

    Args:
        num_envs: Number of lanes N.
        size: Cells of a side.
        horizon: T, steps in an episode.

    Raises:
        ValueError: a parameter out of its range.
    """

    presets: ClassVar[Mapping[str, Mapping[str, Any]]] = {"varibad": {"size": 5, "horizon": 15}}

    def __init__(self, num_envs: int, *, size: int = 5, horizon: int = 15) -> None:
        self._size = checks.integer("size", size, 3, 32)
        goals = FiniteTasks(possible_goals(self._size), ("goal_x", "goal_y"), ("cells", "cells"))
        super().__init__(
            num_envs,
            goals,
            horizon,
            spaces.Box(0.0, 1.0, (self._size**2,), np.float64),
            spaces.Discrete(len(_MOVES)),
        )
        self._cell = np.zeros((self.num_envs, 2), dtype=np.int64)

    def optimal_returns(self, tasks: ArrayLike) -> Floats:
        """Return of a shortest path to the goal and staying there, [n] for goals [n, 2]."""
        return self._returns(self.task_distribution.check(tasks).sum(axis=1))

    def bayes_optimal_returns(self, tasks: ArrayLike, episodes: int) -> Floats | None:
        """Return of the Bayes-optimal agent, known where one walk is the best in every episode.

        See :func:`bayes_optimal_walk`; with the defaults, 4.00, 11.07, 11.07, … in the mean.

        Args:
            tasks: Goals [n, 2].
            episodes: K, of a trial.

        Returns:
            In each episode of the trial, [K, n]; None where it is not known.
        """
        goals = self.task_distribution.check(tasks)
        walk = bayes_optimal_walk(self._size, self.horizon)
        if walk is None:
            return None
        found = {cell: t for t, cell in reversed(list(enumerate(walk)))}
        never = self.horizon + 1
        steps = np.array([found.get((int(x), int(y)), never) for x, y in goals])
        return np.stack([self._returns(steps)] + [self.optimal_returns(goals)] * (episodes - 1))

    def _returns(self, steps: NDArray[Any]) -> Floats:
        """Of reaching the goal with that step, counted from 1, and staying; T + 1: not at all."""
        before = np.minimum(steps - 1, self.horizon)
        return STEP_REWARD * before + GOAL_REWARD * (self.horizon - before)

    def _reset_lanes(self, lanes: Lanes) -> None:
        self._cell[lanes] = 0

    def _advance(self, actions: NDArray[Any], live: Bools | None) -> tuple[Floats, Bools | None]:
        move = _MOVES[actions]
        if live is not None:
            move[~live] = 0
        self._cell = np.clip(self._cell + move, 0, self._size - 1)
        there = (self._cell == self._tasks).all(axis=1)
        return np.where(there, GOAL_REWARD, STEP_REWARD), None

    def _observe(self) -> Floats:
        return one_hot(self._cell[:, 0] * self._size + self._cell[:, 1], self._size**2)

    # Pictures

    @property
    def render_fps(self) -> float | None:
        return 4.0

    def task_caption(self, task: Tasks) -> str:
        return f"goal ({task[0]:.0f}, {task[1]:.0f})"

    def render_states(self, lanes: slice) -> Floats:
        """The agent's cell and the goal's."""
        return np.concatenate([self._cell[lanes], self._tasks[lanes]], axis=1)

    def renderer(self, width: int, height: int) -> GridDrawing:
        return GridDrawing(width, height, self._size)


def possible_goals(size: int) -> list[Cell]:
    """All cells but the four nearest to the start."""
    cells = [(x, y) for x in range(size) for y in range(size)]
    return [cell for cell in cells if max(cell) > _NEAR]


@functools.cache
def bayes_optimal_walk(size: int, horizon: int) -> tuple[Cell, ...] | None:
    """The cells of a Bayes-optimal first episode, [T + 1] from the start; None if unknown.

    An agent that finds the goal stays, and walks straight to it in later episodes; until then its
    belief is uniform over the goals that it has not visited, so what it does is one fixed walk.
    In the first episode no walk earns more than one that visits a new possible goal at every step
    from the second on (the first step reaches none), and later ones cannot beat the shortest
    paths. A walk that does the former and leaves goals that lie on a single path which leads away
    from the start at every step reaches both bounds: whoever walks that path in the second episode
    is at each of those goals by a shortest way. It is found by depth-first search.
    """
    goals = set(possible_goals(size))
    if min(horizon, len(goals)) > _LONGEST_WALK:
        return None
    looked_at = 0

    def search(walk: list[Cell], left: frozenset[Cell]) -> list[Cell] | None:
        nonlocal looked_at
        looked_at += 1
        if not left or len(walk) > horizon:
            return walk if _on_one_path(left) else None
        for dx, dy in _MOVES[1:].tolist():
            cell = walk[-1][0] + dx, walk[-1][1] + dy
            if (cell in left or (len(walk) == 1 and min(cell) >= 0)) and looked_at < _MOST_WALKS:
                found = search([*walk, cell], left - {cell})
                if found is not None:
                    return found
        return None

    found = search([(0, 0)], frozenset(goals))
    return None if found is None else tuple(found)


def _on_one_path(cells: frozenset[Cell]) -> bool:
    """Whether a path that goes right and up alone passes all of them."""
    ordered = sorted(cells, key=sum)
    pairs = itertools.pairwise(ordered)
    return all(a[0] <= b[0] and a[1] <= b[1] for a, b in pairs)
