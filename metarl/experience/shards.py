"""Shards: the parts of a meta-batch that are played at once, and their trials as one.

Trials of different lengths are padded to be joined, and trimmed where they are taken apart again.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import fields, replace
from functools import reduce
from typing import Any, NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from metarl.errors import UserError
from metarl.maths.running_moments import RunningMoments
from metarl.random import Key
from metarl.types import Actor, Trial

_BY_EPISODE = ("success", "final_observations")
"""Rows ``[M, L, E, ...]`` of a trial."""
_OF_THE_WHOLE = (*_BY_EPISODE, "observed")
"""What of a trial has no time axis."""


class Shard(NamedTuple):
    """What is to be played: some tasks of a meta-batch.

    Attributes:
        tasks: ``[M, d]``.
        first: The number in the meta-batch of the first of them, by which their streams are named.
        lanes: B, trials a task.
        key: Of the meta-batch.
        episodes: E, of a trial.
    """

    tasks: np.ndarray
    first: int
    lanes: int
    key: Key
    episodes: int


def cut(num_tasks: int, size: int | None) -> list[slice]:
    """The shards of so many tasks, in their order: the last one may be smaller; None: one shard."""
    size = size or num_tasks
    return [slice(i, min(i + size, num_tasks)) for i in range(0, num_tasks, size)]


def part_of(actor: Actor, shard: slice) -> Actor:
    """The actor of a shard's tasks.

    Raises:
        UserError: it cannot be divided, as a user's own that says nothing of it.
    """
    if not hasattr(actor, "of_tasks"):
        raise UserError(
            f"rollout.shard_tasks divides the tasks, and {type(actor).__name__} has no method "
            "of_tasks(which) that gives the actor of some of them: add it, or set it to null."
        )
    return actor.of_tasks(shard)


def joined(trials: Sequence[Trial]) -> Trial:
    """Trials of consecutive tasks as one; shorter ones are padded at their tails with zeros.

    The moments of what was observed are merged in the order of the trials.
    """
    if len(trials) == 1:
        return trials[0]
    steps = max(trial.valid.shape[2] for trial in trials)
    whole: dict[str, Any] = {}
    for field in fields(Trial):
        parts = [getattr(trial, field.name) for trial in trials]
        if any(part is None for part in parts):
            whole[field.name] = None
        elif field.name == "observed":
            whole[field.name] = reduce(RunningMoments.join, parts)
        elif field.name in _BY_EPISODE:
            whole[field.name] = torch.cat(parts)
        else:
            whole[field.name] = torch.cat([_padded(part, steps) for part in parts])
    return Trial(**whole)


def trimmed(trial: Trial) -> Trial:
    """A trial without the steps at its tail that no lane took."""
    steps = int(trial.valid.sum(-1).max())
    rows = {f.name: getattr(trial, f.name) for f in fields(Trial) if f.name not in _OF_THE_WHOLE}
    kept: Any = {name: None if x is None else x[:, :, :steps] for name, x in rows.items()}
    return replace(trial, **kept)


def _padded(rows: Tensor, steps: int) -> Tensor:
    """Rows ``[M, L, S, ...]`` with S steps in all."""
    missing = steps - rows.shape[2]
    return rows if missing == 0 else F.pad(rows, (0, 0) * (rows.ndim - 3) + (0, missing))
