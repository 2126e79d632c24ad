"""The steps of many tasks as flat rows, what all losses are taken on."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, fields, replace

import torch
from torch import Tensor

BLOCK_BYTES = 2 << 20  # of one intermediate tensor
MOST_BYTES = 32 << 20  # of one for as many tasks as there are threads
MOST_DEVICE_BYTES = 1 << 30  # of one on a GPU


def task_blocks(num_tasks: int, bytes_per_task: int, device: torch.device) -> list[slice]:
    """Consecutive tasks whose tensors stay in the processor's cache; on a GPU all that fit.

    Work on the tensors of all tasks at once runs at the speed of memory, and tensors above 32 MB
    are given back to the system and cleared anew at every use. In blocks the same work is two to
    three times faster. A task's computation is its own: blocks change no result beyond rounding.
    A batched product gives every thread whole tasks, so a block is a multiple of the threads; but
    tasks that are too large for that go one by one, so that memory does not grow with the threads.

    Args:
        num_tasks: M.
        bytes_per_task: Of the largest intermediate tensor of one task.
        device: Where the work is.
    """
    most = MOST_DEVICE_BYTES
    size = num_tasks
    if device.type == "cpu":
        threads, most = torch.get_num_threads(), MOST_BYTES
        size = max(1, BLOCK_BYTES // max(1, bytes_per_task) // threads) * threads
    size = max(1, min(size, most // max(1, bytes_per_task)))
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
        """Every n-th step of each episode, its weights made to sum to one again.

        An episode begins one step earlier than the one before it, over all tasks, so that n
        episodes of any length hold each time step once: with every n-th row of a task all
        episodes whose length is a multiple of n would give the same time steps, and no others.
        """
        if every == 1:
            return self
        start = self.episode_start
        assert start is not None
        row = torch.arange(start.shape[1], device=start.device)
        time = row - torch.where(start, row, 0).cummax(1).values
        episode = start.flatten().cumsum(0).view(start.shape)
        valid = self.weights > 0
        chosen = valid & ((time + episode) % every == 0)
        none = ~chosen.any(1, keepdim=True)  # so few and short may the episodes of a task be
        chosen |= none & valid & (valid.cumsum(1) == 1)
        return self._keep(chosen)

    def _keep(self, chosen: Tensor) -> Samples:
        """The chosen rows ``[M, N]`` of every task in their order, padded to the longest's."""
        weights = torch.where(chosen, self.weights, 0.0)
        samples = replace(self, weights=weights / weights.sum(1, keepdim=True))
        longest = int(chosen.sum(1).max())
        if longest == chosen.shape[1]:
            return samples
        rows = (~chosen).long().argsort(dim=1, stable=True)[:, :longest]  # the chosen ones first
        tasks = torch.arange(len(rows), device=rows.device).unsqueeze(1)
        return samples.map(lambda x: x[tasks, rows])

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
    samples = Samples(
        observations.flatten(1, 2),
        actions.flatten(1, 2),
        advantages.flatten(1),
        valid.to(advantages.dtype),
        None if log_probs is None else log_probs.flatten(1),
        episode_start.flatten(1),
    )
    return samples._keep(valid)
