"""The agent that adapts by revising a belief about its task, which can be looked at."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from metarl.agents.memory_agent import MemoryAgent
from metarl.networks.belief import BeliefActor, as_gaussian
from metarl.networks.task_map import TrainedMap
from metarl.random import Key
from metarl.types import ActionMode


class Belief(NamedTuple):
    """What an agent believes about its tasks, where it says so by a method ``belief()``.

    Attributes:
        mean: μ of the latent, ``[..., k]``.
        std: Its σ, ``[..., k]``.
        points: Tasks of which it tells how probable they are, ``[C, d]``; None: of none.
        probabilities: Of these, ``[..., C]``.
    """

    mean: np.ndarray
    std: np.ndarray
    points: np.ndarray | None = None
    probabilities: np.ndarray | None = None


class BeliefAgent(MemoryAgent):
    """A :class:`MemoryAgent` whose memory is summed up by a belief N(μ, diag σ²) about its task.

    Args:
        actor: The policy and its encoder.
        mode: See :class:`MemoryAgent`.
        key: Likewise.
        task_map: Reads beliefs for those who look at them; the agent itself does not use it.
    """

    actor: BeliefActor

    def __init__(
        self, actor: BeliefActor, mode: ActionMode, key: Key, task_map: TrainedMap | None = None
    ) -> None:
        super().__init__(actor, mode, key)
        self._task_map = task_map

    def belief(self, which: Any = ...) -> Belief:
        """What lanes believed when they acted last.

        Args:
            which: An index of lanes in [M, B]; all, if it is not given.

        Raises:
            ValueError: before the first :meth:`act`.
        """
        if self._latest is None:
            raise ValueError("call act() before belief()")
        belief = self._latest.belief[which]
        q = as_gaussian(belief)
        points = probabilities = None
        if self._task_map is not None:
            points = self._task_map.map.points.numpy()
            probabilities = self._task_map.probabilities(belief).numpy()
        return Belief(q.mean.numpy(), q.log_std.exp().numpy(), points, probabilities)
