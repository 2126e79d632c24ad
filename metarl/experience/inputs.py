"""What an agent is shown at every step: in rollouts, in the update, in deployment alike.

Beside the observation that is its last action as the environment took it, the reward which that
brought, and whether an episode starts, see :class:`metarl.types.Inputs`.
"""

from __future__ import annotations

from dataclasses import replace
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from metarl.maths.running_moments import RunningMoments
from metarl.types import Inputs, Trial

NO_ACTION = -1
"""Shown at the first step of a trial where actions are discrete; where they are continuous, 0."""


def as_given(observation: np.ndarray, lanes: tuple[int, int]) -> Tensor:
    """An environment's observations as flat rows ``[M, B, o]``: float64, of images uint8.

    Args:
        observation: ``[M·B, ...]`` or ``[M, B, ...]``.
        lanes: M, B.
    """
    images = observation.dtype == np.uint8 and observation.ndim > 3
    given = observation.astype(np.uint8 if images else np.float64, order="C")
    return torch.from_numpy(given).view(*lanes, -1)


def as_shown(observation: Tensor, moments: RunningMoments | None) -> Tensor:
    """An environment's observations ``[..., o]`` as agents are shown them, float32.

    They are normalised before the cast: float32 holds seven digits, so an offset of 1e7 would leave
    nothing of a signal of 1. Images stay as they are, an eighth of the memory.

    Args:
        observation: Float64, or uint8 if they are images.
        moments: To normalise by; None: not at all.
    """
    if observation.dtype == torch.uint8:
        return observation
    shown = observation if moments is None else moments.normalize(observation)
    return shown.to(torch.float32)


class LastStep(NamedTuple):
    """What every lane did last, and what it brought.

    Attributes:
        action: As the environment took it: ``[M, B, a]`` in [−1, 1], or int64 ``[M, B]``, or
            ``[M, B, d]`` of d choices.
        reward: ``[M, B]``.
    """

    action: Tensor
    reward: Tensor

    @classmethod
    def none(
        cls, lanes: tuple[int, int], action_shape: tuple[int, ...], *, discrete: bool
    ) -> LastStep:
        """Before a trial's first step."""
        shape = (*lanes, *action_shape)
        action = torch.full(shape, NO_ACTION) if discrete else torch.zeros(shape)
        return cls(action, torch.zeros(lanes))

    def then(self, action: Tensor, reward: Tensor, active: Tensor | None = None) -> LastStep:
        """After one more step, raw or as played; lanes that are not active keep what they had."""
        action = as_played(action)
        if active is None:
            return LastStep(action, reward)
        lanes = active.view(*active.shape, *(1,) * (action.ndim - 2))
        return LastStep(
            torch.where(lanes, action, self.action), torch.where(active, reward, self.reward)
        )


def as_played(actions: Tensor) -> Tensor:
    """Raw samples as the environment takes them: clipped to [−1, 1] where they are continuous."""
    return actions.clamp(-1.0, 1.0) if actions.is_floating_point() else actions


def shown_in(trial: Trial) -> Inputs:
    """What the actor was shown at every step of a trial, ``[M, L, S, ...]``."""
    actions = as_played(trial.actions)
    none = torch.full_like(actions[:, :, :1], 0 if actions.is_floating_point() else NO_ACTION)
    return Inputs(
        trial.observations,
        torch.cat([none, actions[:, :, :-1]], dim=2),
        F.pad(trial.rewards[:, :, :-1], (1, 0)),
        trial.episode_start,
    )


def shown_through(trial: Trial) -> Inputs:
    """The same, and what it would have been shown after the last step: ``[M, L, S + 1, ...]``.

    That is the final observation of the last episode, beside the last action and reward; it stands
    behind the last valid step of each lane, and what comes after it is no datum.

    Raises:
        ValueError: the trial does not hold its final observations.
    """
    if trial.final_observations is None:
        raise ValueError("the trial does not hold the final observations of its episodes")
    one_more = {
        name: F.pad(getattr(trial, name), (*(0, 0) * behind, 0, 1))
        for name, behind in {
            "observations": 1,
            "actions": trial.actions.ndim - 3,
            "rewards": 0,
            "episode_start": 0,
        }.items()
    }
    length = trial.valid.sum(-1)  # [M, L]
    last = trial.episode_start.sum(-1) - 1  # the episode
    size = trial.observations.shape[-1]

    def at(x: Tensor) -> Tensor:
        return x.view(*length.shape, 1, 1).expand(-1, -1, -1, size)

    final = trial.final_observations.gather(2, at(last))
    observations = one_more["observations"].scatter(2, at(length), final)
    return shown_in(replace(trial, **one_more | {"observations": observations}))


def time_first(x: Tensor) -> Tensor:
    """``[M, L, S, ...]`` → ``[S, M·L, ...]``, contiguous: rows of trials as sequences."""
    return x.flatten(0, 1).transpose(0, 1).contiguous()
