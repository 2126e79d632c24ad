"""Task distributions: what is trained on, and the fixed sets of tasks that are evaluated on.

A task is a row of numbers, the task vector; tasks are float64 arrays [n, d] with named columns.
The validation, held-out and out-of-range sets belong to the distribution: they depend on no seed,
and no generator that draws training tasks ever touches them.
"""

from __future__ import annotations

import contextlib
from abc import ABC, abstractmethod
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from metarl.envs import checks
from metarl.envs.faults import BrokenContract, SimulationFailure
from metarl.envs.task_contract import drawn, fixed_set

Tasks = NDArray[np.float64]
SPLITS = ("validation", "held_out", "out_of_range")

NUM_VALIDATION = 20
NUM_HELD_OUT = 40
_NAMED = 10  # of a list of tasks, in a message

# Random digital shifts of the Sobol points, two dimensions each. They are written down instead of
# drawn, so that no version of a library can move an evaluation set.
_SOBOL_BITS = 30
_SHIFT_VALIDATION = (0x1F3A5C7B, 0x2B8D4E19)
_SHIFT_HELD_OUT = (0x0A97D34E, 0x359C61F3)
_SHIFT_OUT_OF_RANGE = (0x26E1B85D, 0x134F9A27)


NUMBER = "number"
"""The unit of an entry by which something is named, as one of a list: it measures nothing."""


class TaskDistribution(ABC):
    """A distribution of tasks with its fixed evaluation sets.

    A subclass names its `columns` and defines `sample`, `validation` and `held_out`;
    `out_of_range` where it has a meaning.
    """

    columns: tuple[str, ...]
    """Names of the task vector's d entries."""
    units: tuple[str, ...]
    """Their units, "" where there is none, NUMBER where an entry names something."""
    finite: bool = False
    """True for a finite list of tasks: it is then evaluated on all its training tasks."""

    @property
    def dim(self) -> int:
        """Length d of the task vector."""
        return len(self.columns)

    def in_words(self, task: ArrayLike, entry: str = "{name} {value:.3g} {unit}") -> str:
        """A task [d] with the names and units of its entries."""
        units = ("" if unit == NUMBER else unit for unit in self.units)
        entries = zip(self.columns, np.asarray(task), units, strict=True)
        return ", ".join(entry.format(name=n, value=v, unit=u).rstrip() for n, v, u in entries)

    @abstractmethod
    def sample(self, rng: np.random.Generator, n: int) -> Tasks:
        """n training tasks, float64 [n, d], drawn from `rng` and nothing else."""

    @abstractmethod
    def validation(self) -> Tasks:
        """The tasks of the periodic evaluation and of any choice of hyperparameters, [n, d]."""

    @abstractmethod
    def held_out(self) -> Tasks:
        """The tasks of the final evaluation, [n, d], disjoint from `validation`."""

    def out_of_range(self) -> Tasks:
        """Tasks beyond the training range, [n, d].

        Raises:
            ValueError: the distribution has none.
        """
        raise ValueError(f"{type(self).__name__} has no out-of-range tasks.")

    def split(self, name: str) -> Tasks:
        """The evaluation set of that name: validation, held_out or out_of_range, [n, d].

        Raises:
            ValueError: an unknown name, a set that the distribution lacks, or one that is no set
                of tasks.
        """
        checks.choice("split", name, SPLITS)
        return fixed_set(self, name)

    def draw(self, rng: np.random.Generator, n: int) -> Tasks:
        """n training tasks [n, d], by `sample`.

        Raises:
            SimulationFailure: `sample` failed, or returned something else.
        """
        try:
            return drawn(self, rng, n)
        except BrokenContract as error:
            raise SimulationFailure(str(error)) from error

    def check(self, tasks: ArrayLike) -> Tasks:
        """`tasks` as a fresh float64 array [n, d].

        Raises:
            ValueError: a wrong shape, something that is no number, or a non-finite entry.
        """
        names = ", ".join(self.columns)
        try:
            checked = np.array(tasks, dtype=np.float64)
        except (TypeError, ValueError) as error:
            raise ValueError(f"Tasks must be rows of {self.dim} numbers ({names}).") from error
        if checked.ndim != 2 or checked.shape[1] != self.dim:
            raise ValueError(
                f"Tasks have the shape {list(checked.shape)}: "
                f"it must be [n, {self.dim}], a row of ({names}) a task."
            )
        if not np.isfinite(checked).all():
            row = int(np.flatnonzero(~np.isfinite(checked).all(axis=1))[0])
            raise ValueError(
                f"Task {row} is {checked[row].tolist()}: its entries ({names}) must be finite."
            )
        return checked

    def row(self, task: ArrayLike) -> Tasks:
        """One task, [d] (or a plain number where d = 1), as a fresh float64 array [d].

        Raises:
            ValueError: as `check`.
        """
        given: Any = [task]
        with contextlib.suppress(TypeError, ValueError):  # of which check tells
            given = np.atleast_1d(np.asarray(task, dtype=np.float64))[None]
        return self.check(given)[0]


class UniformInterval(TaskDistribution):
    """One number, uniform on [low, high]; the evaluation sets are interval midpoints.

    Validation: the midpoints of 20 equal cells. Held-out: the midpoints of 40, which lie a half
    of their cells away from them. Out of range: the midpoints of 40 cells of [high, high + 1].

    Args:
        low: Lower end.
        high: Upper end.
        column: Name of the number.
        unit: Its unit.
        held_out: Held-out tasks [n] in place of the midpoints, of a paper's own.

    Raises:
        ValueError: low and high are not finite with low < high.
    """

    def __init__(
        self,
        low: float,
        high: float,
        column: str = "velocity",
        unit: str = "m/s",
        held_out: ArrayLike | None = None,
    ) -> None:
        self.low, self.high = checks.interval("low", low, "high", high)
        self.columns = (column,)
        self.units = (unit,)
        self._held_out = None if held_out is None else np.array(held_out, float).reshape(-1, 1)

    def sample(self, rng: np.random.Generator, n: int) -> Tasks:
        return rng.uniform(self.low, self.high, size=(n, 1))

    def validation(self) -> Tasks:
        return _midpoints(self.low, self.high, NUM_VALIDATION)[:, None]

    def held_out(self) -> Tasks:
        if self._held_out is not None:
            return self._held_out.copy()
        return _midpoints(self.low, self.high, NUM_HELD_OUT)[:, None]

    def out_of_range(self) -> Tasks:
        return _midpoints(self.high, self.high + 1.0, NUM_HELD_OUT)[:, None]


class GoalRegion(TaskDistribution):
    """A goal (x, y), uniform in a square or a disc around the origin or on an arc around it.

    square: [−radius, radius]²; evaluation sets are scrambled Sobol points.
    disc: (r·cos φ, r·sin φ), r = radius·√u, u ~ U[0, 1], φ ~ U[0, 2π]; Sobol points of (u, φ).
    circle, semicircle: (radius·cos φ, radius·sin φ), φ ~ U[0, 2π] or U[0, π]; evaluation sets are
    midpoints of φ. Out of range: twice the size; of the larger square or disc only what lies
    outside.

    Args:
        region: square, disc, circle or semicircle.
        radius: Half the square's side, or the disc's or the arc's radius, in m.
        held_out: Held-out goals [n, 2] in place of the computed ones, of a paper's own.

    Raises:
        ValueError: an unknown region, a radius that is not finite and above 0.
    """

    columns = ("goal_x", "goal_y")
    units = ("m", "m")
    regions = ("square", "disc", "circle", "semicircle")

    def __init__(
        self, region: str = "square", radius: float = 0.5, held_out: ArrayLike | None = None
    ) -> None:
        self.region = checks.choice("region", region, self.regions)
        self.radius = checks.number("radius", radius, above=0.0)
        self._held_out = None if held_out is None else np.array(held_out, float).reshape(-1, 2)

    def sample(self, rng: np.random.Generator, n: int) -> Tasks:
        if self.region == "square":
            return rng.uniform(-self.radius, self.radius, size=(n, 2))
        if self.region == "disc":
            return _disc(rng.uniform(size=(n, 2)), 0.0, self.radius)
        return _arc(rng.uniform(0.0, self._angle, size=n), self.radius)

    def validation(self) -> Tasks:
        return self._spread(NUM_VALIDATION, _SHIFT_VALIDATION)

    def held_out(self) -> Tasks:
        if self._held_out is not None:
            return self._held_out.copy()
        return self._spread(NUM_HELD_OUT, _SHIFT_HELD_OUT)

    def out_of_range(self) -> Tasks:
        if self.region == "square":
            # Three quarters of the larger square lie outside: 128 points leave more than 40.
            points = 2.0 * _sobol_square(128, _SHIFT_OUT_OF_RANGE)
            ring = points[np.abs(points).max(axis=1) > 1.0]
            return self.radius * ring[:NUM_HELD_OUT]
        if self.region == "disc":
            unit = (1.0 + _sobol_square(NUM_HELD_OUT, _SHIFT_OUT_OF_RANGE)) / 2.0
            return _disc(unit, self.radius, 2.0 * self.radius)
        return _arc(_midpoints(0.0, self._angle, NUM_HELD_OUT), 2.0 * self.radius)

    def contains(self, points: Tasks) -> NDArray[np.bool_]:
        """Whether goals are drawn at these points [n, 2], to a millionth of the radius, [n]."""
        slack = 1e-6 * self.radius
        if self.region == "square":
            return np.abs(points).max(axis=1) <= self.radius + slack
        distance = np.hypot(points[:, 0], points[:, 1])
        if self.region == "disc":
            return distance <= self.radius + slack
        on_circle = np.abs(distance - self.radius) <= slack
        return on_circle & ((self.region == "circle") | (points[:, 1] >= -slack))

    def _spread(self, n: int, shift: tuple[int, int]) -> Tasks:
        """n goals, evenly spread over the region, [n, 2]; the shift is the Sobol points'."""
        if self.region == "square":
            return self.radius * _sobol_square(n, shift)
        if self.region == "disc":
            return _disc((1.0 + _sobol_square(n, shift)) / 2.0, 0.0, self.radius)
        return _arc(_midpoints(0.0, self._angle, n), self.radius)

    @property
    def _angle(self) -> float:
        return np.pi if self.region == "semicircle" else 2.0 * np.pi


class FiniteTasks(TaskDistribution):
    """A finite list of tasks, drawn uniformly and evaluated in full.

    Its validation and held-out sets are all its tasks: results on them are results on training
    tasks, and say so. There is nothing out of range.

    Args:
        tasks: The tasks, [n, d].
        columns: Names of the d entries.
        units: Their units.

    Raises:
        ValueError: no task, one of them twice, or rows that do not fit the columns.
    """

    finite = True

    def __init__(self, tasks: ArrayLike, columns: tuple[str, ...], units: tuple[str, ...]) -> None:
        self.columns = columns
        self.units = units
        self._tasks = super().check(tasks)
        if len(self._tasks) == 0:
            raise ValueError("A finite task distribution needs at least one task.")
        if len(np.unique(self._tasks, axis=0)) < len(self._tasks):
            raise ValueError("A finite task distribution has each of its tasks once.")

    def sample(self, rng: np.random.Generator, n: int) -> Tasks:
        return self._tasks[rng.integers(len(self._tasks), size=n)]

    def validation(self) -> Tasks:
        return self._tasks.copy()

    def held_out(self) -> Tasks:
        return self._tasks.copy()

    def out_of_range(self) -> Tasks:
        raise ValueError(
            f"A finite list of tasks ({', '.join(self.columns)}) has nothing out of range: "
            "evaluate on validation or held_out, which are all its tasks."
        )

    def check(self, tasks: ArrayLike) -> Tasks:
        """As for every distribution; a task that is not in the list is refused too."""
        checked = super().check(tasks)
        known = (checked[:, None] == self._tasks).all(axis=2).any(axis=1)
        if not known.all():
            row = int(np.argmin(known))
            known, n = str(self._tasks[:_NAMED].tolist()), len(self._tasks)
            if n > _NAMED:
                known = f"its {n} tasks: {known} …"
            raise ValueError(
                f"Task {row} is {checked[row].tolist()}: "
                f"it must be one of {known} ({', '.join(self.columns)})."
            )
        return checked


def _midpoints(low: float, high: float, n: int) -> Tasks:
    """Midpoints of n equal cells of [low, high], [n]."""
    return low + (high - low) * (np.arange(n) + 0.5) / n


def _arc(angle: Tasks, radius: float) -> Tasks:
    """Points at these angles [n] on a circle around the origin, [n, 2]."""
    return radius * np.stack([np.cos(angle), np.sin(angle)], axis=1)


def _disc(unit: Tasks, inner: float, outer: float) -> Tasks:
    """Points of [0, 1]² [n, 2] mapped evenly onto the ring between two radii, [n, 2]."""
    radius = np.sqrt(inner**2 + (outer**2 - inner**2) * unit[:, 0])
    return radius[:, None] * _arc(2.0 * np.pi * unit[:, 1], 1.0)


def _sobol_square(n: int, shift: tuple[int, int]) -> Tasks:
    """n Sobol points of [−1, 1]², scrambled by a digital shift (an exclusive or), [n, 2].

    The first points of a Sobol sequence are spread evenly at any n, and the shift keeps that.
    """
    from scipy.stats import qmc  # here, because it takes longer to import than all the rest

    size = max(n - 1, 1).bit_length()
    points = qmc.Sobol(d=2, scramble=False, bits=_SOBOL_BITS).random_base2(size)[:n]
    shifted = (points * 2.0**_SOBOL_BITS).astype(np.int64) ^ np.array(shift, dtype=np.int64)
    # The middle of each cell of the finest grid, so that no point lies on the border.
    return 2.0 * (shifted + 0.5) / 2.0**_SOBOL_BITS - 1.0
