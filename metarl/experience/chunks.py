"""Replay of sequences: episodes cut into chunks of consecutive steps."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from metarl.experience.inputs import as_played
from metarl.experience.replay import Fields, Rows
from metarl.types import Trial


class Chunks(NamedTuple):
    """N sequences of each of M policies: up to T consecutive steps of an episode, padded behind.

    Attributes:
        observations: ``[M, T, N, o]``.
        actions: As they were played, in [−1, 1], ``[M, T, N, a]``.
        rewards: ``[M, T, N]``.
        next_observations: What each step led to, ``[M, T, N, o]``.
        terminated: The task's own rule ended the episode, bool ``[M, T, N]``; never a time limit.
        valid: bool ``[M, T, N]``.
    """

    observations: Tensor
    actions: Tensor
    rewards: Tensor
    next_observations: Tensor
    terminated: Tensor
    valid: Tensor

    @classmethod
    def of(cls, rows: Mapping[str, Tensor]) -> Chunks:
        """Of rows ``[M, N, T, ...]`` as replay samples them."""
        parts = [rows[name].transpose(1, 2) for name in cls._fields]
        return cls(*parts[:4], *(part.bool() for part in parts[4:]))

    def join(self, other: Chunks) -> Chunks:
        """Those of both, of the same policies."""
        return Chunks(*(torch.cat(pair, dim=2) for pair in zip(self, other, strict=True)))

    def to(self, device: torch.device) -> Chunks:
        """The same on another device."""
        return Chunks(*(part.to(device) for part in self))


def chunk_fields(steps: int, observation_dim: int, action_dim: int) -> Fields:
    """Of a chunk of T steps."""
    return {
        "observations": (steps, observation_dim),
        "actions": (steps, action_dim),
        "rewards": (steps,),
        "next_observations": (steps, observation_dim),
        "terminated": (steps,),
        "valid": (steps,),
    }


def steps_of(trial: Trial, task: int) -> Rows:
    """A task's episodes, one on each lane, as the steps ``[L, S, ...]`` that chunks consist of."""
    whole = {
        "observations": trial.observations,
        "actions": as_played(trial.actions),
        "rewards": trial.rewards,
        "next_observations": trial.next_observations(),
        "terminated": trial.terminated,
        "valid": trial.valid,
    }
    return {name: part[task] for name, part in whole.items()}


def chunk_rows(episodes: Mapping[str, Tensor], steps: int) -> Rows:
    """Episodes ``[L, S, ...]`` cut into chunks of T steps, those in which there is a valid one.

    Args:
        episodes: As :func:`steps_of` has them.
        steps: T.
    """
    length = episodes["rewards"].shape[-1]
    missing = math.ceil(length / steps) * steps - length

    def cut(x: Tensor) -> Tensor:
        """``[L, S, ...] -> [chunks, T, ...]``."""
        padded = F.pad(x, (*(0, 0) * (x.ndim - 2), 0, missing))
        return padded.unflatten(1, (-1, steps)).flatten(0, 1)

    rows = {name: cut(part) for name, part in episodes.items()}
    begun = rows["valid"][:, 0]
    return {name: part[begun] for name, part in rows.items()}
