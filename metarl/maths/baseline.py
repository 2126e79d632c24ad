"""Baselines that are fitted afresh to each task's own episodes."""

from __future__ import annotations

from functools import lru_cache

import torch
from torch import Tensor

from metarl.maths.samples import task_blocks

CHUNK_BYTES = 32 << 20  # of the features that are in memory at a time


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

    w_m = argmin Σ_valid (φᵀw − G)² + λ‖w‖², solved in float64: for the F = 2o + 4 weights,
    (ΦᵀΦ + λI) w = ΦᵀG; where a task has fewer rows than that, for a multiplier α of each row,
    (ΦΦᵀ + λI) α = G and w = Φᵀα, which is the same w. The features are never all in memory: a task
    takes that of a matrix in the smaller of rows and features, and time linear in the larger.

    Args:
        observations: ``[M, B, T, o]``.
        returns: Discounted returns-to-go ``[M, B, T]``.
        valid: bool ``[M, B, T]``; other steps carry no weight.
        ridge: λ > 0, which keeps a constant feature or an unvisited one solvable.

    Returns:
        The fitted values ``[M, B, T]``, in the dtype of ``returns``; 0 where not valid.
    """
    rows, width = returns[0].numel(), 2 * observations.shape[-1] + 4
    fit = _primal if width <= rows else _dual
    solved = 2 * min(rows, width) ** 2  # a Gram matrix and its factors
    held = min(rows * width, CHUNK_BYTES // 8) + solved
    blocks = task_blocks(len(returns), 8 * held, returns.device)
    return torch.cat([fit(observations[b], returns[b], valid[b], ridge) for b in blocks])


def _primal(observations: Tensor, returns: Tensor, valid: Tensor, ridge: float) -> Tensor:
    """The fit by its weights ``[m, F, 1]``, some rows' features at a time."""
    states, time, target = _rows(observations, returns, valid)
    num_tasks, num_rows, o = states.shape
    width = 2 * o + 4
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


def _dual(observations: Tensor, returns: Tensor, valid: Tensor, ridge: float) -> Tensor:
    """The fit by its rows' multipliers ``[m, N, 1]``, some columns' features at a time."""
    states, time, target = _rows(observations, returns, valid)
    num_tasks, num_rows, o = states.shape
    counted = valid.flatten(1).unsqueeze(-1)
    size = max(1, CHUNK_BYTES // (8 * num_rows * num_tasks))
    gram = target.new_zeros(num_tasks, num_rows, num_rows)

    def add(features: Tensor) -> None:
        weighted = (features * counted).to(torch.float64)
        gram.baddbmm_(weighted, weighted.mT)

    add(time.expand(num_tasks, num_rows, 4))
    for first in range(0, o, size):
        for power in _powers(states[..., first : first + size]):
            add(power)
    added = _add_ridge(gram, ridge)
    fitted = target - added * torch.linalg.solve(gram, target)  # ΦΦᵀα = G − λα
    return fitted.view(returns.shape).to(returns.dtype)


def _rows(observations: Tensor, returns: Tensor, valid: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """States ``[m, N, o]``, powers of time ``[N, 4]``, returns float64 ``[m, N, 1]``; N = B·T."""
    time = _powers_of_time(observations).repeat(observations.shape[1], 1)
    target = torch.where(valid, returns, 0.0).to(torch.float64)
    return observations.flatten(1, 2), time, target.flatten(1).unsqueeze(-1)


def _powers(states: Tensor) -> tuple[Tensor, Tensor]:
    """s and s², clipped."""
    s = states.clamp(-10.0, 10.0)
    return s, s**2


def _powers_of_time(observations: Tensor) -> Tensor:
    """t, t², t³, 1 of every time step ``[T, 4]``, in the observations' dtype."""
    horizon = observations.shape[2]
    t = torch.arange(horizon, device=observations.device).to(observations) / max(100, horizon / 10)
    return torch.stack([t, t**2, t**3, torch.ones_like(t)], dim=-1)


def _add_ridge(gram: Tensor, ridge: float) -> Tensor:
    """λ onto the diagonals of ``[m, n, n]``, in place; returns it ``[m, 1, 1]``.

    Below rounding of the matrix's own size it would add nothing, and the solution would be noise.
    """
    diagonal = gram.diagonal(dim1=-2, dim2=-1)
    rounding = 100.0 * torch.finfo(gram.dtype).eps * diagonal.sum(-1, keepdim=True)
    added = rounding.clamp(min=ridge)
    diagonal.add_(added)
    return added.unsqueeze(-1)
