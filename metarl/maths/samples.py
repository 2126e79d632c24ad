"""The steps of many tasks as flat rows, what all losses are taken on."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, fields, replace

import torch
from torch import Tensor

BLOCK_BYTES = 2 << 20  # of one intermediate tensor


def task_blocks(num_tasks: int, bytes_per_task: int, device: torch.device) -> list[slice]:
    """Consecutive tasks whose tensors stay in the processor's cache; on a GPU all.

    Work on the tensors of all tasks at once runs at the speed of memory, and tensors above 32 MB
    are given back to the system and cleared anew at every use. In blocks the same work is two to
    three times faster. A task's computation is its own: blocks change no result beyond rounding.
    A batched product gives every thread whole tasks, so a block is a multiple of the threads.

    Args:
        num_tasks: M.
        bytes_per_task: Of the largest intermediate tensor of one task.
        device: Where the work is.
    """
    size = num_tasks
    if device.type == "cpu":
        threads = torch.get_num_threads()
        size = max(1, BLOCK_BYTES // max(1, bytes_per_task) // threads) * threads
    return [slice(first, min(first + size, num_tasks)) for first in range(0, num_tasks, size)]


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
        return self.map(lambda x: x[block])

    def blocks(self, width: int) -> list[slice]:
        """The tasks in blocks for work on tensors of that width."""
        num_tasks, rows = self.weights.shape
        bytes_per_task = rows * width * self.weights.element_size()
        return task_blocks(num_tasks, bytes_per_task, self.weights.device)

    def thin(self, every: int) -> Samples:
        """Every n-th row of each task, its weights made to sum to one again."""
        if every == 1:
            return self
        thinned = self.map(lambda x: x[:, ::every])
        weights = thinned.weights / thinned.weights.sum(1, keepdim=True)
        return replace(thinned, weights=weights)

    def map(self, change: Callable[[Tensor], Tensor]) -> Samples:
        """All parts changed alike."""
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
    valid = valid.flatten(1)  # [M, B·T]
    count = valid.sum(1)
    samples = Samples(
        observations.flatten(1, 2),
        actions.flatten(1, 2),
        advantages.flatten(1),
        valid.to(advantages.dtype) / count.unsqueeze(1),
        None if log_probs is None else log_probs.flatten(1),
        episode_start.flatten(1),
    )
    longest = int(count.max())
    if longest == valid.shape[1]:
        return samples
    rows = (~valid).long().argsort(dim=1, stable=True)[:, :longest]  # valid steps first
    tasks = torch.arange(len(rows), device=rows.device).unsqueeze(1)
    return samples.map(lambda x: x[tasks, rows])
