"""PointNavigation: a point that must find a goal which it cannot see."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, Literal

import numpy as np
from gymnasium import spaces
from numpy.typing import ArrayLike, NDArray

from metarl.envs import checks
from metarl.envs.tasks import GoalRegion
from metarl.envs.trilateration import trilaterating_returns
from metarl.envs.vector import Bools, Floats, Lanes, TaskVectorEnv

ARRIVAL = 0.01
"""The episode terminates within this distance of the goal on both axes, in m."""

_OPTIMUM_STARTS = 1024
_SEMICIRCLE = {"region": "semicircle", "radius": 1.0, "terminate": False}


class PointNavigation(TaskVectorEnv):
    """x ∈ R², x ← x + step_size·clip(a, ±1); the task is the goal g, which is never observed.

    Dense reward −‖x − g‖₂ at the new position; sparse reward 1 − ‖x − g‖₂ within `sparse_radius`
    of the goal, else 0. An episode terminates when |dx| < 0.01 and |dy| < 0.01.

    The defaults are those of Finn, Abbeel & Levine 2017 (MAML), section 5.3. Presets: `maml_2017`,
    with that paper's own 40 test goals; `varibad` (Zintgraf et al. 2020), goals on a semicircle,
    horizon 100, dense (`reward="sparse"` for its sparse variant); `pearl` (Rakelly et al. 2019),
    its sparse semicircle with horizon 20, the variant of the paper's figure (the other one of its
    code is region="square", radius=1, start="random", horizon=20, terminate=False).

    Args:
        num_envs: Number of lanes N.
        region: Where goals lie: in a square or a disc, or on a circle or an upper semicircle, all
            around the origin.
        radius: Half the square's side, or the radius, in m.
        start: Where episodes begin: at the origin, or uniformly in the square of that radius.
        step_size: Length of a step along one axis at the action 1, in m.
        horizon: Steps in an episode.
        reward: dense or sparse.
        sparse_radius: Distance from the goal within which the sparse reward is paid, in m, above
            0.015 (wider than the box of arrival) and at most 1 (or the reward could be negative).
        terminate: Whether arriving ends the episode.
        held_out: The held-out goals: computed (sobol: scrambled Sobol points in a square, evenly
            spaced angles on an arc), or maml_2017, that paper's own 40 goals of the square of
            radius 0.5.

    Raises:
        ValueError: a parameter out of its range.
    """

    presets: ClassVar[Mapping[str, Mapping[str, Any]]] = {
        "maml_2017": {"held_out": "maml_2017"},
        "varibad": _SEMICIRCLE | {"horizon": 100},
        "pearl": _SEMICIRCLE | {"horizon": 20, "reward": "sparse", "sparse_radius": 0.2},
    }
    position_columns: tuple[int, int] | None = (0, 1)

    def __init__(  # noqa: PLR0913  # they are a config's fields
        self,
        num_envs: int,
        *,
        region: Literal["square", "disc", "circle", "semicircle"] = "square",
        radius: float = 0.5,
        start: Literal["origin", "random"] = "origin",
        step_size: float = 0.1,
        horizon: int = 100,
        reward: Literal["dense", "sparse"] = "dense",
        sparse_radius: float = 0.2,
        terminate: bool = True,
        held_out: Literal["sobol", "maml_2017"] = "sobol",
    ) -> None:
        radius = checks.number("radius", radius, above=0.0)
        self._step_size = checks.number("step_size", step_size, above=0.0)
        self._sparse = checks.choice("reward", reward, ("dense", "sparse")) == "sparse"
        self._sparse_radius = checks.number(
            "sparse_radius", sparse_radius, above=0.015, at_most=1.0
        )
        self._terminate = checks.switch("terminate", terminate)
        random_start = checks.choice("start", start, ("origin", "random")) == "random"
        self._start_radius = radius if random_start else 0.0

        goals = None
        if checks.choice("held_out", held_out, ("sobol", "maml_2017")) == "maml_2017":
            if (region, radius) != ("square", 0.5):
                raise ValueError(
                    f"held_out is 'maml_2017' with the region {region!r} of radius {radius:g}: "
                    "those goals belong to the square of radius 0.5."
                )
            goals = np.random.RandomState(1).uniform(-0.5, 0.5, (40, 2))
        distribution = GoalRegion(region, radius, goals)

        horizon = checks.integer("horizon", horizon, 1)
        # One step of slack for the rounding of the sums.
        reach = self._start_radius + self._step_size * (horizon + 1)
        super().__init__(
            num_envs,
            distribution,
            horizon,
            spaces.Box(-reach, reach, (2,), np.float64),
            spaces.Box(-1.0, 1.0, (2,), np.float32),
        )
        self._position = np.zeros((num_envs, 2))

    def optimal_returns(self, tasks: ArrayLike) -> Floats:
        """Return of the best policy that knows the goal, [n] for goals [n, 2].

        Moving on both axes at full speed until each is met makes |dx| and |dy|, hence the
        distance, the smallest possible at every step, so it is optimal, with one exception: a
        sparse reward with termination pays for waiting outside the box of arrival, at 0.01 on one
        axis, and arriving with the last step. A random start is averaged over 1024 fixed,
        evenly spread starts.
        """
        goals = self.task_distribution.check(tasks)
        if self._start_radius == 0.0:
            return self._optimal_returns(np.abs(goals))
        # An additive recurrence on the golden ratio's plane generalisation (Roberts 2018).
        ratio = 1.324717957244746
        grid = np.arange(1, _OPTIMUM_STARTS + 1)[:, None] / np.array([ratio, ratio**2]) % 1.0
        starts = self._start_radius * (2.0 * grid - 1.0)
        distance = np.abs(goals[:, None, :] - starts).reshape(-1, 2)
        return self._optimal_returns(distance).reshape(len(goals), -1).mean(axis=1)

    def _optimal_returns(self, distance: Floats) -> Floats:
        """The same from the per-axis distances at the start, [n, 2] to [n]."""
        time = np.arange(1, self.horizon + 1)
        # [n, T, 2]: nearest reachable after t steps on each axis
        axes = np.maximum(distance[:, None, :] - self._step_size * time[:, None], 0.0)
        near, far = axes.min(axis=2), axes.max(axis=2)
        if not self._sparse:
            distances = np.hypot(near, far)
            if self._terminate:
                arrived = np.logical_or.accumulate(far < ARRIVAL, axis=1)
                # The arriving step itself is still paid.
                distances[:, 1:][arrived[:, :-1]] = 0.0
            return -distances.sum(axis=1)
        if self._terminate:
            waiting = np.maximum(far, ARRIVAL)
            last = waiting[:, -2] if self.horizon > 1 else distance.max(axis=1)
            far = waiting
            far[:, -1] = np.maximum(last - self._step_size, 0.0)
        distances = np.hypot(near, far)
        return np.where(distances <= self._sparse_radius, 1.0 - distances, 0.0).sum(axis=1)

    def bayes_optimal_returns(self, tasks: ArrayLike, episodes: int) -> Floats | None:
        """A lower bound of what the best adaptive agent earns: the trilaterating agent's returns.

        Known for the dense reward with its start at the origin and goals in a region. It plays by
        the true dynamics, with two exploratory steps, see
        :func:`metarl.envs.trilateration.trilaterating_returns`; cheaper exploration may exist.

        Args:
            tasks: Goals [n, 2].
            episodes: K, of a trial.

        Returns:
            In each episode of the trial, [K, n]; None where it is not known.
        """
        goals, region = self.task_distribution.check(tasks), self.task_distribution
        if self._sparse or self._start_radius > 0.0 or not isinstance(region, GoalRegion):
            return None
        return trilaterating_returns(
            goals,
            episodes,
            step_size=self._step_size,
            horizon=self.horizon,
            arrival=ARRIVAL if self._terminate else None,
            possible=region.contains,
        )

    def _reset_lanes(self, lanes: Lanes) -> None:
        if self._start_radius == 0.0:
            self._position[lanes] = 0.0
            return
        for lane in lanes:
            self._position[lane] = self._generator(lane).uniform(
                -self._start_radius, self._start_radius, size=2
            )

    def _advance(self, actions: NDArray[Any], live: Bools | None) -> tuple[Floats, Bools | None]:
        move = np.clip(actions, -1.0, 1.0).astype(np.float64, copy=False)
        move *= self._step_size
        if live is not None:
            move[~live] = 0.0
        self._position += move
        offset = self._position - self._tasks
        arrived: Bools | None = None
        if self._terminate:
            arrived = np.logical_and.reduce(np.abs(offset) < ARRIVAL, axis=1)
        distance = np.sqrt(np.einsum("nd,nd->n", offset, offset))
        if self._sparse:
            return np.where(distance <= self._sparse_radius, 1.0 - distance, 0.0), arrived
        return -distance, arrived

    def _observe(self) -> Floats:
        return self._position.copy()
