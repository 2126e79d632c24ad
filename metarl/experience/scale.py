"""The scale of the observations: a first look at it, and a warning where it hinders learning."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

from metarl.errors import warn
from metarl.maths.running_moments import CLIP, RunningMoments
from metarl.random import Key
from metarl.types import Actor, Decision, EpisodeSource, Inputs, Trial


class Blindfolded:
    """An actor that is shown zeros for observations and rewards: it plays by its noise alone."""

    def __init__(self, actor: Actor) -> None:
        self._actor = actor
        self.moments = actor.moments

    def draw_noise(self, rng: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
        """The actor's."""
        return self._actor.draw_noise(rng, shape)

    def act(self, inputs: Inputs, noise: Tensor, carry: Any) -> Decision:
        """What the actor does when it sees nothing."""
        nothing = {
            name: torch.zeros_like(getattr(inputs, name))
            for name in ("observations", "previous_rewards")
        }
        return self._actor.act(inputs._replace(**nothing), noise, carry)

    def of_tasks(self, which: slice) -> Actor:
        """Likewise that of some tasks; itself, where the actor is the same for all."""
        actor = self._actor.of_tasks(which)
        return self if actor is self._actor else Blindfolded(actor)


def first_look(
    source: EpisodeSource, actor: Actor, tasks: np.ndarray, lanes: int, key: Key
) -> Trial:
    """An episode on every lane before the first iteration, for the statistics of what is observed.

    Nothing is known of the observations' scale yet: they would saturate a policy and spoil the
    iteration. So the actor is blindfolded, and explores by its noise.

    Args:
        source: Plays it.
        actor: With moments, empty ones.
        tasks: ``[M, d]``.
        lanes: B.
        key: Of no other episode.
    """
    return source.collect(Blindfolded(actor), tasks, lanes, key)


def warn_of_scale(trial: Trial, setting: str) -> None:
    """A warning on stderr if observations that are not normalised are too large to learn from.

    Too large is a column whose mean or standard deviation is beyond ±10: there tanh is saturated,
    and the linear baseline clips.

    Args:
        trial: What was observed.
        setting: The one that would normalise them.
    """
    if trial.observations.dtype == torch.uint8:  # images, whose scale is known
        return
    seen = RunningMoments.of(trial.observations[trial.valid])
    size = torch.maximum(seen.mean.abs(), seen.std)
    large = int((size > CLIP).sum())
    if not large:
        return
    column = int(size.argmax())
    more = f", and {large - 1} more are beyond {CLIP:g}" if large > 1 else ""
    warn(
        f"observation column {column} has mean {float(seen.mean[column]):.3g} and "
        f"standard deviation {float(seen.std[column]):.3g}{more}: policies learn badly from "
        f"numbers beyond {CLIP:g}. Set algorithm.{setting} to true, or scale them yourself."
    )
