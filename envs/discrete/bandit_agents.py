"""Agents that know what a bandit is and not which one: to stand beside those that have learned it.

Each is a `metarl.types.Agent`, deterministic but for Thompson's samples. They remember a trial: as
many pulls of each arm, and as much reward of it, as every lane has had.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from metarl.envs.discrete.exact_bandit import bernoulli_indices, gaussian_bonuses
from metarl.envs.vector import Bools, Floats

_FIRST = 1e6  # the score of an arm that must be pulled now


class BanditAgent(ABC):
    """What these agents share: the parts of the protocol in which they do nothing.

    Args:
        arms: k.
    """

    adaptation_axis: Literal["episode"] = "episode"
    privileged = False
    mode = "deterministic"
    step_sizes: list[float] = []  # noqa: RUF012

    def __init__(self, arms: int) -> None:
        self._arms = arms

    @abstractmethod
    def begin(self, num_tasks: int, lanes: int, tasks: object = None) -> None:
        """Expect M tasks × B lanes, of which nothing is known."""

    def act(self, observation: Floats, active: Bools) -> NDArray[np.int64]:
        """Arms [M, B], whatever is observed."""
        self._active = active
        return self._choose()

    def observe(
        self,
        action: NDArray[np.integer],
        reward: Floats,
        terminated: Bools,
        truncated: Bools,
        next_observation: Floats,
    ) -> None:
        """What the last pulls paid, [M, B]."""
        self.learn(action, reward, self._active)

    def adapt(self) -> None:  # noqa: B027
        """The trial goes on."""

    @abstractmethod
    def _choose(self) -> NDArray[np.int64]:
        """Arms [M, B]."""

    @abstractmethod
    def learn(self, arm: NDArray[np.integer], reward: Floats, active: Bools) -> None:
        """What a pull of these arms [M, B] paid, where lanes were active."""


class ScoringAgent(BanditAgent):
    """Pulls the arm of the largest score, of equal ones the first, by the counts of each arm."""

    def begin(self, num_tasks: int, lanes: int, tasks: object = None) -> None:
        self._pulls = np.zeros((num_tasks, lanes, self._arms), dtype=np.int64)
        self._sums = np.zeros((num_tasks, lanes, self._arms))

    def learn(self, arm: NDArray[np.integer], reward: Floats, active: Bools) -> None:
        places = (*np.ogrid[: arm.shape[0], : arm.shape[1]], arm)
        self._pulls[places] += active
        self._sums[places] += np.where(active, reward, 0.0)

    def _choose(self) -> NDArray[np.int64]:
        return self._scores().argmax(axis=2)

    @abstractmethod
    def _scores(self) -> Floats:
        """Of the arms, [M, B, k]."""


class Thompson(ScoringAgent):
    """Thompson sampling: each arm's mean is drawn from its posterior, the largest one is pulled.

    Args:
        arms: k.
        gaussian: The prior N(0, 1) and rewards N(μ, 1); else U[0, 1] and Bernoulli rewards.
        seed: Of the draws.
    """

    def __init__(self, arms: int, gaussian: bool, seed: int) -> None:
        super().__init__(arms)
        self._gaussian, self._seed = gaussian, seed

    def begin(self, num_tasks: int, lanes: int, tasks: object = None) -> None:
        super().begin(num_tasks, lanes)
        self._rng = np.random.default_rng(self._seed)

    def _scores(self) -> Floats:
        if not self._gaussian:
            return self._rng.beta(1.0 + self._sums, 1.0 + self._pulls - self._sums)
        precision = 1.0 + self._pulls
        noise = self._rng.standard_normal(self._sums.shape)
        return self._sums / precision + noise / np.sqrt(precision)


class UCB1(ScoringAgent):
    """UCB1 (Auer et al. 2002): each arm once, then the largest mean + √(2 ln t / pulls)."""

    def _scores(self) -> Floats:
        total = self._pulls.sum(axis=2, keepdims=True)
        pulls = np.maximum(self._pulls, 1)
        bound = self._sums / pulls + np.sqrt(2.0 * np.log(np.maximum(total, 1)) / pulls)
        return np.where(self._pulls == 0, _FIRST, bound)


class Gittins(ScoringAgent):
    """The largest finite-horizon Gittins index, see :mod:`metarl.envs.discrete.exact_bandit`.

    Args:
        arms: k.
        pulls: n, of a trial; it must have no more.
        gaussian: As for Thompson.
    """

    def __init__(self, arms: int, pulls: int, gaussian: bool) -> None:
        super().__init__(arms)
        self._gaussian, self._total = gaussian, pulls

    def begin(self, num_tasks: int, lanes: int, tasks: object = None) -> None:
        super().begin(num_tasks, lanes)
        self._index = (gaussian_bonuses if self._gaussian else bernoulli_indices)(self._total)

    def _scores(self) -> Floats:
        left = self._total - self._pulls.sum(axis=2)[..., None]
        if self._gaussian:
            return self._sums / (1.0 + self._pulls) + self._index[left, self._pulls]
        won = self._sums.astype(np.int64)
        return self._index[left, won, self._pulls - won]


class Planned(BanditAgent):
    """The Bayes-optimal agent: it follows a plan by the outcomes so far.

    Args:
        arms: k.
        plan: From :func:`metarl.envs.discrete.exact_bandit.bayes_optimal_plan`.
    """

    def __init__(self, arms: int, plan: NDArray[np.intp]) -> None:
        super().__init__(arms)
        self._plan = plan

    def begin(self, num_tasks: int, lanes: int, tasks: object = None) -> None:
        self._node = np.zeros((num_tasks, lanes), dtype=np.intp)

    def _choose(self) -> NDArray[np.int64]:
        return self._plan[self._node].astype(np.int64)

    def learn(self, arm: NDArray[np.integer], reward: Floats, active: Bools) -> None:
        following = 2 * self._node + 1 + (reward > 0.5)
        # After the last pull of the plan there is no next one.
        going = active & (following < len(self._plan))
        self._node = np.where(going, following, self._node)
