"""The steps of many tasks as flat rows, what all losses are taken on."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, fields, replace

import torch
from torch import Tensor

from metarl.maths.blocks import task_blocks


@dataclass(frozen=True)
class Samples:
    """The steps of M tasks as flat rows, padded to the longest task's N.

    Attributes:
        observations: ``[M, N, o]``.
        actions: ``[M, N, a]``, or int64 ``[M, N]``.
        advantages: ``[M, N]``.
        weights: valid / Σ valid of the task, ``[M, N]``; 0 on padding.
        log_probs: log π(a|s) of the policy that acted ``[M, N]``; None where nobody asks for it.
        episode_start: The row is the first of its episode, bool ``[M, N]``; None likewise.
    """

    observations: Tensor
    actions: Tensor
    advantages: Tensor
    weights: Tensor
    log_probs: Tensor | None = None
    episode_start: Tensor | None = None

    def tasks(self, block: slice) -> Samples:
        """Some of the tasks, without copying memory."""
        return self._map(lambda x: x[block])

    def blocks(self, width: int) -> list[slice]:
        """The tasks in blocks for work on tensors of that width."""
        num_tasks, rows = self.weights.shape
        bytes_per_task = rows * width * self.weights.element_size()
        return task_blocks(num_tasks, bytes_per_task, self.weights.device)

    def thin(self, every: int) -> Samples:
        """Every n-th row of each task, its weights made to sum to one again."""
        if every == 1:
            return self
        thinned = self._map(lambda x: x[:, ::every])
        weights = thinned.weights / thinned.weights.sum(1, keepdim=True)
        return replace(thinned, weights=weights)

    def _map(self, change: Callable[[Tensor], Tensor]) -> Samples:
        parts = (getattr(self, field.name) for field in fields(self))
        return Samples(*(None if x is None else change(x) for x in parts))  # type: ignore[arg-type]


def flat_samples(
    observations: Tensor,
    actions: Tensor,
    advantages: Tensor,
    valid: Tensor,
    log_probs: Tensor | None = None,
) -> Samples:
    """``[M, B, T, ...]`` → rows ``[M, N, ...]``, N the largest number of valid steps of a task.

    Padding is dropped as far as the tasks allow, so that episodes that end early cost what they
    last. Rows keep the order of lanes, and of time within them.
    """
    episode_start = torch.zeros_like(valid)
    episode_start[..., 0] = True
    parts = [observations.flatten(1, 2), actions.flatten(1, 2)]
    parts += [advantages.flatten(1), valid.flatten(1), episode_start.flatten(1)]  # [M, B·T]
    if log_probs is not None:
        parts.append(log_probs.flatten(1))
    count = valid.flatten(1).sum(1)
    longest = int(count.max())
    if longest < parts[3].shape[1]:
        rows = (~parts[3]).long().argsort(dim=1, stable=True)[:, :longest]  # valid steps first
        parts = [x.gather(1, _like(rows, x)) for x in parts]
    observations, actions, advantages, valid, episode_start, *log_prob = parts
    weights = valid.to(advantages.dtype) / count.unsqueeze(1)
    return Samples(
        observations, actions, advantages, weights, log_prob[0] if log_prob else None, episode_start
    )


def _like(rows: Tensor, x: Tensor) -> Tensor:
    """Row indices ``[M, N]`` shaped to gather from x ``[M, K, ...]`` along axis 1."""
    extra = x.shape[2:]
    return rows.view(*rows.shape, *(1 for _ in extra)).expand(*rows.shape, *extra)
