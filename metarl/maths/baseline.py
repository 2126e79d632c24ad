"""Baselines that are fitted afresh to each task's own episodes."""

from __future__ import annotations

import torch
from torch import Tensor

from metarl.maths.samples import task_blocks


def time_features(observations: Tensor) -> Tensor:
    """The features of the linear baseline of Duan et al. (2016): s, s², t, t², t³, 1.

    Args:
        observations: ``[M, B, T, o]``, clipped to ±10.

    Returns:
        ``[M, B, T, 2o + 4]``; time is t / 100.
    """
    m, b, horizon, _ = observations.shape
    s = observations.clamp(-10.0, 10.0)
    t = torch.arange(horizon, dtype=s.dtype, device=s.device) / 100.0
    time = torch.stack([t, t**2, t**3, torch.ones_like(t)], dim=-1)  # [T, 4]
    return torch.cat([s, s**2, time.expand(m, b, horizon, 4)], dim=-1)


def linear_baseline(
    observations: Tensor, returns: Tensor, valid: Tensor, ridge: float = 1e-5
) -> Tensor:
    """Ridge regression of returns on :func:`time_features`, one fit a task, all tasks at once.

    w_m = argmin Σ_valid (φᵀw − G)² + ridge·‖w‖², solved in float64.

    Args:
        observations: ``[M, B, T, o]``.
        returns: Discounted returns-to-go ``[M, B, T]``.
        valid: bool ``[M, B, T]``; other steps carry no weight.
        ridge: > 0, which keeps a constant feature or an unvisited one solvable.

    Returns:
        The fitted values ``[M, B, T]``, in the dtype of ``returns``.
    """
    bytes_per_task = returns[0].numel() * (2 * observations.shape[-1] + 4) * 8
    blocks = task_blocks(len(returns), bytes_per_task, returns.device)
    return torch.cat([_fit(observations[b], returns[b], valid[b], ridge) for b in blocks])


def _fit(observations: Tensor, returns: Tensor, valid: Tensor, ridge: float) -> Tensor:
    features = time_features(observations).to(torch.float64).flatten(1, 2)  # [M, B·T, F]
    weighted = features * valid.flatten(1).unsqueeze(-1)
    gram = weighted.mT @ features  # [M, F, F]
    gram.diagonal(dim1=-2, dim2=-1).add_(ridge)
    moment = weighted.mT @ returns.to(torch.float64).flatten(1).unsqueeze(-1)  # [M, F, 1]
    weights = torch.linalg.solve(gram, moment)
    return (features @ weights).view(returns.shape).to(returns.dtype)
