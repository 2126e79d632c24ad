"""Keyed random streams: every draw is named by what it is for, so nothing depends on history.

A stream is a function of (seed, purpose, iteration, adaptation step, task). Two consequences carry
the framework's promises: a resumed run needs no random state but its counters, and neither the
number of workers nor an evaluation in between can change what training draws.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal, get_args

import numpy as np

Purpose = Literal["init", "tasks", "reset", "action", "minibatch", "evaluation"]
PURPOSES: tuple[Purpose, ...] = get_args(Purpose)


@dataclass(frozen=True)
class Key:
    """The name of a family of random streams.

    Attributes:
        seed: The run's seed, >= 0.
        iteration: The meta-iteration, >= 0.
        adaptation_step: The adaptation step within the meta-iteration, >= 0.
        evaluation: True for draws of an evaluation, which never coincide with training's.
    """

    seed: int
    iteration: int = 0
    adaptation_step: int = 0
    evaluation: bool = False

    def at(self, adaptation_step: int) -> Key:
        """The same key at another adaptation step."""
        return replace(self, adaptation_step=adaptation_step)

    def generator(self, purpose: Purpose, task: int = 0) -> np.random.Generator:
        """The stream for one purpose and one task of the meta-batch."""
        purpose_id = PURPOSES.index(purpose) + len(PURPOSES) * int(self.evaluation)
        entropy = (self.seed, purpose_id, self.iteration, self.adaptation_step, task)
        return np.random.Generator(np.random.PCG64(np.random.SeedSequence(entropy)))

    def reset_seeds(self, num_tasks: int, lanes: int, first: int = 0) -> np.ndarray:
        """One environment seed for every lane: int64 [M·B], lane n = m·B + b.

        Args:
            num_tasks: M.
            lanes: B.
            first: Where in the meta-batch the first of these tasks stands.
        """
        tasks = range(first, first + num_tasks)
        return np.concatenate(
            [self.generator("reset", m).integers(2**31, size=lanes) for m in tasks]
        )
