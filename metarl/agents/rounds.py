"""A round of episodes, one on every lane, from the side of the agent that plays it."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from metarl.experience.inputs import as_given, as_shown
from metarl.maths.distributions import Distribution
from metarl.maths.running_moments import RunningMoments
from metarl.random import Key
from metarl.types import ActionMode

DrawNoise = Callable[[np.random.Generator, tuple[int, ...]], np.ndarray]
DrawOnce = Callable[[np.random.Generator, int], np.ndarray]


class Round:
    """Who plays still, whose turn it is, and the noise: every task has a stream of its own.

    Args:
        shape: M tasks, B lanes.
        key: Names the action noise.
        moments: By which observations are normalised; None: they are not.
    """

    def __init__(
        self, shape: tuple[int, int], key: Key, moments: RunningMoments | None = None
    ) -> None:
        self._shape = shape
        self._moments = moments
        self._finished = np.zeros(shape, dtype=bool)
        self._active: Tensor | None = None  # between act and observe
        self._streams = [key.generator("action", m) for m in range(shape[0])]
        self._once: list[np.ndarray] | None = None  # what stays through the episodes

    def shown(self, observation: np.ndarray, active: np.ndarray) -> tuple[Tensor, Tensor]:
        """What is acted on, float32 ``[M, B, o]`` (images uint8), and who acts, bool ``[M, B]``.

        Raises:
            ValueError: they are of other sizes, or a lane whose episode is over is called active.
        """
        active = np.array(active, dtype=bool)
        if observation.shape[:2] != self._shape or active.shape != self._shape:
            raise ValueError(
                f"expected observations and active lanes of {list(self._shape)} [tasks, lanes], "
                f"got {list(observation.shape[:2])} and {list(active.shape)}"
            )
        if (active & self._finished).any():
            raise ValueError("a lane's episode is over: call adapt() before it starts another")
        self._active = torch.from_numpy(active)
        return as_shown(as_given(observation, self._shape), self._moments), self._active

    def choose(self, distribution: Distribution, mode: ActionMode, draw: DrawNoise) -> Tensor:
        """Actions ``[M, B, a]`` (or ``[M, B]``); noise is the next block of each task's stream."""
        if mode == "deterministic":
            return distribution.mode()
        return distribution.sample(self.noise(draw))

    def noise(self, draw: DrawNoise, draw_once: DrawOnce | None = None) -> Tensor:
        """The next block of each task's stream ``[M, B, ...]``, behind it what stays as it is."""
        lanes = self._shape[1]
        if self._once is None and draw_once is not None:
            self._once = [draw_once(rng, lanes) for rng in self._streams]
        blocks = [draw(rng, (lanes,)) for rng in self._streams]
        if self._once is not None:
            pairs = zip(blocks, self._once, strict=True)
            blocks = [np.concatenate(pair, axis=-1) for pair in pairs]
        return torch.from_numpy(np.stack(blocks))

    def acted(self, terminated: np.ndarray, truncated: np.ndarray) -> Tensor:
        """After a step: who took it, bool ``[M, B]``.

        Raises:
            ValueError: nobody has acted since the last one.
        """
        if self._active is None:
            raise ValueError("observe() must follow act(), once")
        active, self._active = self._active, None
        over = np.asarray(terminated, dtype=bool) | np.asarray(truncated, dtype=bool)
        self._finished |= over & active.numpy()
        return active


class PlaysRounds(ABC):
    """What agents share that play one round of episodes after the other.

    A subclass sets ``_shape`` in its ``begin``, and begins each round by ``_begin_round``.

    Args:
        mode: How actions are chosen.
        key: Names all streams.
    """

    def __init__(self, mode: ActionMode, key: Key) -> None:
        self._mode, self._key = mode, key
        self._shape = (0, 0)  # M tasks, B lanes: nobody plays before begin()

    @property
    def mode(self) -> ActionMode:
        """How actions are chosen; a change of it starts the round of episodes anew."""
        return self._mode

    @mode.setter
    def mode(self, mode: ActionMode) -> None:
        self._mode = mode
        if self._shape[0] > 0:
            self._begin_round()

    @abstractmethod
    def _begin_round(self) -> None:
        """On every lane an episode begins; what the agent has become by then stays."""
