"""What an environment knows: of the best that can be earned, of an episode; by itself, nothing."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, ClassVar

import numpy as np
from numpy.typing import ArrayLike, NDArray


class Knowledge:
    """The part of :class:`metarl.envs.vector.TaskVectorEnv` that evaluations draw beside agents."""

    measures: ClassVar[Mapping[str, str]] = {}
    """What there is to know of an episode beside its return: by name, what it is in words."""

    def episode_measures(self) -> Mapping[str, NDArray[np.float64]]:
        """The measures of each lane's episode so far, or of its last one: name ↦ [N]."""
        return {}

    def optimal_returns(self, tasks: ArrayLike) -> NDArray[np.float64] | None:
        """Return of the best policy that knows the task, [n] for tasks [n, d]; None if unknown."""
        return None

    def bayes_optimal_returns(self, tasks: ArrayLike, episodes: int) -> NDArray[np.float64] | None:
        """Return of the best agent that must find the tasks [n, d] out, or a lower bound of it.

        In each episode of a trial of K, [K, n]; None if unknown.
        """
        return None

    def reference_agents(self, episodes: int) -> Mapping[str, Callable[[int], Any]]:
        """Agents that adapt within a trial of K episodes: name ↦ evaluation seed ↦ agent.

        An agent is a :class:`metarl.types.Agent` whose adaptation axis is "episode". Those that a
        statistician would try stand here: they are measured beside every agent with a memory.
        """
        return {}
