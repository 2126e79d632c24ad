"""Tasks of supervised few-shot learning: labelled examples in place of an environment.

A task has a *support set*, which an agent adapts on, and a *query set*, which it is judged by: what
episodes before and after adaptation are to reinforcement learning. Tasks are rows of numbers as
everywhere, drawn from a :class:`metarl.envs.tasks.TaskDistribution` with fixed evaluation sets.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Literal, NamedTuple

import numpy as np
from gymnasium import spaces
from numpy.typing import NDArray

from metarl.envs import checks
from metarl.envs.tasks import TaskDistribution, Tasks

Measure = Literal["accuracy", "error"]


class Examples(NamedTuple):
    """Examples of M tasks, N each.

    Attributes:
        inputs: float32 ``[M, N, *shape of one input]``.
        targets: Class indices int64 ``[M, N]``, or numbers float32 ``[M, N, y]``.
    """

    inputs: NDArray[np.float32]
    targets: NDArray[Any]


class SupervisedTasks(ABC):
    """A distribution of supervised tasks, and the examples of each.

    A parameter of the constructor that says where data lie is called ``data``: a run may go on, or
    be evaluated, with the same data elsewhere.

    Attributes:
        presets: Named values of the constructor's parameters.
        data_hash: SHA-256 of the data; None where there are none.
        measure: What a prediction is judged by: "accuracy", which is to grow, or "error", the
            squared error summed over the target's dimensions, which is to fall.
        task_distribution: Whose tasks these are.
        input_space: Of one input, a Box ``[x]`` or an image's ``[channels, height, width]``.
        target_space: Of one target: Discrete, the number of ways; or a Box ``[y]``.
        shots: Support examples of a task; of each of its classes, where it has classes.
        augment: Whether inputs are images that are to be distorted in training.
    """

    presets: ClassVar[Mapping[str, Mapping[str, Any]]] = {}
    measure: ClassVar[Measure]
    task_distribution: TaskDistribution
    input_space: spaces.Box
    target_space: spaces.Discrete | spaces.Box
    shots: int
    augment: bool = False
    data_hash: str | None = None

    @property
    def ways(self) -> int:
        """The number of classes of a task; 1 where it has none."""
        return int(self.target_space.n) if isinstance(self.target_space, spaces.Discrete) else 1

    def truth(self, tasks: Tasks, inputs: NDArray[np.float32]) -> NDArray[Any] | None:
        """The targets ``[M, N, y]`` of inputs ``[M, N, x]``, for pictures; None: nobody knows."""
        return None

    def oracle(self, support: Examples, inputs: NDArray[np.float32]) -> NDArray[Any] | None:
        """Targets of inputs as one predicts them who knows what kind of tasks these are.

        It stands beside what learns that; None: there is no such prediction.
        """
        return None

    def with_ways(self, ways: int) -> SupervisedTasks:
        """The same training tasks of another number of classes.

        Raises:
            ValueError: there are none.
        """
        raise ValueError(f"{type(self).__name__} has no tasks of another number of classes")

    @abstractmethod
    def draw(
        self, tasks: Tasks, rngs: Sequence[np.random.Generator], queries: int
    ) -> tuple[Examples, Examples]:
        """Support and query set of every task, no example in both.

        Args:
            tasks: ``[M, d]``.
            rngs: One generator a task, the only source of chance.
            queries: Query examples of a task; of each of its classes, where it has classes.

        Returns:
            ``shots`` and ``queries`` examples (a class), classes one after the other.
        """


class SinusoidDistribution(TaskDistribution):
    """Amplitude and phase of f(x) = A sin(x − φ), uniform and independent of each other.

    Validation and held-out sets are 100 and 600 draws with fixed seeds; out of range are amplitudes
    up to twice the largest.

    Args:
        amplitude: Lowest and highest A.
        phase: Lowest and highest φ, in rad.
    """

    columns = ("amplitude", "phase")
    units = ("", "rad")

    def __init__(self, amplitude: tuple[float, float], phase: tuple[float, float]) -> None:
        self.amplitude = checks.interval("amplitude[0]", amplitude[0], "amplitude[1]", amplitude[1])
        self.phase = checks.interval("phase[0]", phase[0], "phase[1]", phase[1])

    def sample(self, rng: np.random.Generator, n: int) -> Tasks:
        return self._within(rng, n, *self.amplitude)

    def validation(self) -> Tasks:
        return self._within(np.random.default_rng(1), 100, *self.amplitude)

    def held_out(self) -> Tasks:
        return self._within(np.random.default_rng(2), 600, *self.amplitude)

    def out_of_range(self) -> Tasks:
        highest = self.amplitude[1]
        return self._within(np.random.default_rng(3), 600, highest, 2.0 * highest)

    def _within(self, rng: np.random.Generator, n: int, low: float, high: float) -> Tasks:
        return np.stack([rng.uniform(low, high, n), rng.uniform(*self.phase, n)], axis=1)


class Sinusoid(SupervisedTasks):
    """Regression of sinusoids from a few points (Finn et al. 2017, section 5.1).

    Args:
        shots: K, points of the support set.
        amplitude: Lowest and highest amplitude of the tasks.
        phase: Lowest and highest phase, in rad.
        inputs: Where x is drawn from, uniformly.
    """

    measure = "error"

    def __init__(
        self,
        shots: int = 10,
        amplitude: tuple[float, float] = (0.1, 5.0),
        phase: tuple[float, float] = (0.0, np.pi),
        inputs: tuple[float, float] = (-5.0, 5.0),
    ) -> None:
        self.shots = checks.integer("shots", shots, 1)
        self.task_distribution = SinusoidDistribution(amplitude, phase)
        self.inputs = checks.interval("inputs[0]", inputs[0], "inputs[1]", inputs[1])
        self.input_space = spaces.Box(-np.inf, np.inf, (1,))
        self.target_space = spaces.Box(-np.inf, np.inf, (1,))

    def truth(self, tasks: Tasks, inputs: NDArray[Any]) -> NDArray[Any]:
        return np.asarray(tasks[:, None, :1] * np.sin(inputs - tasks[:, None, 1:]))

    def oracle(self, support: Examples, inputs: NDArray[np.float32]) -> NDArray[Any]:
        """Least squares of a·sin x + b·cos x through the support points, which all tasks are."""

        def waves(x: NDArray[np.float32]) -> NDArray[Any]:
            return np.concatenate([np.sin(x), np.cos(x)], axis=2, dtype=np.float64)

        return np.asarray(waves(inputs) @ (np.linalg.pinv(waves(support.inputs)) @ support.targets))

    def draw(
        self, tasks: Tasks, rngs: Sequence[np.random.Generator], queries: int
    ) -> tuple[Examples, Examples]:
        n = self.shots + queries
        x = np.stack([rng.uniform(*self.inputs, (n, 1)) for rng in rngs])  # [M, n, 1]
        y = self.truth(tasks, x)
        inputs, targets, k = x.astype(np.float32), y.astype(np.float32), self.shots
        return Examples(inputs[:, :k], targets[:, :k]), Examples(inputs[:, k:], targets[:, k:])
