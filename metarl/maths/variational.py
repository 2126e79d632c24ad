"""Parts of the evidence lower bound of a belief that is revised step by step.

Time first: a belief of every step t of N trials is ``[T, N, k]``.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from metarl.maths.distributions import DiagonalGaussian


def chain_kl(beliefs: DiagonalGaussian) -> Tensor:
    """KL(q_t ‖ q_{t−1}) of every step, q_{−1} = N(0, I), nats ``[T, N]``.

    Each belief is the next one's prior (Zintgraf et al. 2020, eq. 9); gradients reach both.

    Args:
        beliefs: ``[T, N, k]``.
    """
    before = (F.pad(x[:-1], (0, 0, 0, 0, 1, 0)) for x in beliefs)  # 0: mean 0, deviation 1
    return beliefs.kl(DiagonalGaussian(*before))


class Subset(NamedTuple):
    """Some of the steps of each of N trials, and what each stands for in a sum over all of them.

    Attributes:
        steps: int64 ``[n, N]``.
        weight: ``[n, N]``: Σ_j weight_j x_{steps_j} has the mean Σ_t x_t over the draws. 0 where a
            trial has fewer than n steps.
    """

    steps: Tensor
    weight: Tensor

    def take(self, x: Tensor) -> Tensor:
        """What x ``[T, N, ...]`` has at these steps, ``[n, N, ...]``."""
        return x[self.steps, torch.arange(x.shape[1], device=x.device)]


def draw_subset(rng: np.random.Generator, lengths: Tensor, count: int | None) -> Subset:
    """That many steps of each trial, any set of them as probable as any other; None: all.

    Args:
        rng: Draws them.
        lengths: Steps of each trial, int64 ``[N]``.
        count: n; trials of fewer steps are taken whole.
    """
    longest = int(lengths.max())
    step = torch.arange(longest).unsqueeze(1)
    order = torch.zeros(longest, len(lengths), dtype=torch.float64)
    if count is not None and count < longest:
        order = torch.from_numpy(rng.random((longest, len(lengths))))
    order = torch.where(step < lengths, order, torch.inf)  # padding last
    index = order.argsort(dim=0, stable=True)[: count or longest]
    taken = lengths.clamp(max=len(index))
    weight = torch.where(step[: len(index)] < taken, lengths / taken, 0.0)
    return Subset(index, weight.to(torch.float32))
