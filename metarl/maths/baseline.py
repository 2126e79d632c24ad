"""Baselines that are fitted afresh to each task's own episodes."""

from __future__ import annotations

from functools import lru_cache

import torch
from torch import Tensor

from metarl.maths.samples import task_blocks

CHUNK_BYTES = 32 << 20  # of the features that are in memory at a time
ROWS_A_FEATURE = 2  # at least, for a fit on the state


def time_features(observations: Tensor) -> Tensor:
    """The features of the linear baseline of Duan et al. (2016): s, s², t, t², t³, 1.

    Args:
        observations: ``[M, B, T, o]``, clipped to ±10.

    Returns:
        ``[M, B, T, 2o + 4]``; time is t / 100, and no more than 10: of over 1000 steps 10 t / T.
    """
    time = _powers_of_time(observations).expand(*observations.shape[:3], 4)
    return torch.cat([*_powers(observations), time], dim=-1)


def linear_baseline(
    observations: Tensor, returns: Tensor, valid: Tensor, ridge: float = 1e-5
) -> Tensor:
    """Ridge regression of returns on :func:`time_features`, one fit a task, all tasks at once.

    w_m = argmin Σ_valid (φᵀw − G)² + λ‖w‖², solved in float64: (ΦᵀΦ + λI) w = ΦᵀG. The features
    are never all in memory.

    A fit of F weights to n steps takes the share F/n out of what actions did by chance, which is
    all that a policy gradient learns from: with as many features as steps it interpolates, and no
    action has any merit left. So a task with fewer than 2F valid steps is fitted by time alone, as
    are images, whose pixels say nothing one by one.

    Args:
        observations: ``[M, B, T, o]``; uint8 if they are images.
        returns: Discounted returns-to-go ``[M, B, T]``.
        valid: bool ``[M, B, T]``; other steps carry no weight.
        ridge: λ > 0, which keeps a constant feature or an unvisited one solvable.

    Returns:
        The fitted values ``[M, B, T]``, in the dtype of ``returns``; 0 where not valid.
    """
    enough = valid.sum((1, 2)) >= ROWS_A_FEATURE * (2 * observations.shape[-1] + 4)  # [M]
    if observations.dtype == torch.uint8 or not enough.any():
        observations = returns.new_empty(*returns.shape, 0)
    elif not enough.all():
        observations = torch.where(enough.view(-1, 1, 1, 1), observations, 0.0)
    rows, width = returns[0].numel(), 2 * observations.shape[-1] + 4
    held = min(rows * width, CHUNK_BYTES // 8) + 2 * width**2  # features, Gram matrix, its factors
    blocks = task_blocks(len(returns), 8 * held, returns.device)
    return torch.cat([_fit(observations[b], returns[b], valid[b], ridge) for b in blocks])


def _fit(observations: Tensor, returns: Tensor, valid: Tensor, ridge: float) -> Tensor:
    """The fit of m tasks, some rows' features at a time."""
    num_tasks, num_rows, width = len(returns), returns[0].numel(), 2 * observations.shape[-1] + 4
    states = observations.flatten(1, 2)  # [m, N, o], N = B·T
    time = _powers_of_time(observations).repeat(observations.shape[1], 1)  # [N, 4]
    target = torch.where(valid, returns, 0.0).to(torch.float64).flatten(1).unsqueeze(-1)
    size = max(1, CHUNK_BYTES // (8 * width * num_tasks))

    @lru_cache(maxsize=1)  # for those who need one chunk only
    def features(first: int) -> Tensor:
        rows = slice(first, first + size)
        of_time = time[rows].expand(num_tasks, -1, 4)
        return torch.cat([*_powers(states[:, rows]), of_time], dim=-1).to(torch.float64)

    gram, moment = target.new_zeros(num_tasks, width, width), target.new_zeros(num_tasks, width, 1)
    for first in range(0, num_rows, size):
        rows = slice(first, first + size)
        weighted = (features(first) * valid.flatten(1)[:, rows].unsqueeze(-1)).mT
        gram.baddbmm_(weighted, features(first))
        moment.baddbmm_(weighted, target[:, rows])
    _add_ridge(gram, ridge)
    weights = torch.linalg.solve(gram, moment)
    fitted = torch.cat([features(first) @ weights for first in range(0, num_rows, size)], dim=1)
    return torch.where(valid, fitted.view(returns.shape), 0.0).to(returns.dtype)


def _powers(states: Tensor) -> tuple[Tensor, Tensor]:
    """s and s², clipped."""
    s = states.clamp(-10.0, 10.0)
    return s, s**2


def _powers_of_time(observations: Tensor) -> Tensor:
    """t, t², t³, 1 of every time step ``[T, 4]``, in the observations' dtype."""
    horizon = observations.shape[2]
    t = torch.arange(horizon, device=observations.device).to(observations) / max(100, horizon / 10)
    return torch.stack([t, t**2, t**3, torch.ones_like(t)], dim=-1)


def _add_ridge(gram: Tensor, ridge: float) -> None:
    """λ onto the diagonals of ``[m, n, n]``, in place.

    Below rounding of the matrix's own size it would add nothing, and the solution would be noise.
    """
    diagonal = gram.diagonal(dim1=-2, dim2=-1)
    rounding = 100.0 * torch.finfo(gram.dtype).eps * diagonal.sum(-1, keepdim=True)
    diagonal.add_(rounding.clamp(min=ridge))
