"""What an agent believed of a few tasks at every step of their trials, where it says so."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Self

import numpy as np

from metarl.evaluation.task_sets import spread_tasks

_SHOWN = 4  # tasks


@dataclass(frozen=True)
class Beliefs:
    """How probable an agent took tasks to be, when it acted; of the first lane of each task shown.

    Attributes:
        tasks: Which tasks of the evaluation, int [p].
        points: The tasks that it tells the probability of, float64 [C, d].
        probabilities: Float32 [K+1, p, T, C], NaN after the episode's end.
    """

    tasks: np.ndarray
    points: np.ndarray
    probabilities: np.ndarray

    @classmethod
    def of(cls, rounds: Sequence[BeliefRecord | None]) -> Self | None:
        """Those of K+1 rounds; None where the agent told none."""
        told = [r for r in rounds if r is not None and r.probabilities is not None]
        if len(told) < len(rounds) or not told:
            return None
        stacked = np.stack([np.asarray(r.probabilities) for r in told])
        return cls(told[0].tasks, told[0].points, stacked)

    @property
    def lengths(self) -> np.ndarray:
        """Steps of each episode, int [K+1, p]."""
        return np.asarray(np.isfinite(self.probabilities[..., 0]).sum(axis=-1))


class BeliefRecord:
    """The beliefs of one round, as they come.

    Args:
        agent: Whoever acts. Where its class has a method ``belief``, that is asked for the belief
            of an index of lanes [M, B], with ``points`` and ``probabilities``.
        tasks: [n, d].
        horizon: T.
    """

    def __init__(self, agent: Any, tasks: np.ndarray, horizon: int) -> None:
        self.tasks = spread_tasks(tasks, _SHOWN)
        self.points: Any = None
        self.probabilities: np.ndarray | None = None
        self._belief = agent.belief if hasattr(type(agent), "belief") else None
        self._horizon = horizon

    def note(self, t: int, active: np.ndarray) -> None:
        """What was believed at step t of the episodes that still run, bool [n] of first lanes."""
        told = None if self._belief is None else self._belief((self.tasks, 0))
        if told is None or told.probabilities is None:
            return
        if self.probabilities is None:
            shape = len(self.tasks), self._horizon, len(told.points)
            self.points = told.points
            self.probabilities = np.full(shape, np.nan, dtype=np.float32)
        acts = active[self.tasks]
        self.probabilities[acts, t] = told.probabilities[acts]


def held_by(probabilities: np.ndarray, share: float) -> np.ndarray:
    """The fewest cells that hold so much of the probability, int [...] for [..., C]."""
    held = np.cumsum(-np.sort(-probabilities, axis=-1), axis=-1)
    return np.asarray((held < share - 1e-6).sum(axis=-1) + 1)
