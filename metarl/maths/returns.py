"""Returns and advantages of episodes with a finite horizon.

Rows are ``[..., T]``; ``valid`` marks the steps that were taken, and padding stands at the tail
only. The horizon is part of the task, so nothing is bootstrapped past a row's last valid step.
Discounted sums are products with a small triangular matrix of powers, as fast as a GEMM.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor

_BLOCK = 128  # time steps of one product in a discounted sum


def discounted_sum(x: Tensor, discount: float) -> Tensor:
    """y_t = Σ_{k ≥ t} γ^{k−t} x_k, along the last axis, in time and memory linear in T.

    With C steps a block, y_{nC+j} = Σ_{k ≥ j, in the block} γ^{k−j} x_{nC+k} + γ^{C−j} y_{(n+1)C},
    and the y_{nC} are themselves a discounted sum, of the blocks' own at γ^C.

    Args:
        x: ``[..., T]``, zero where no step was taken.
        discount: γ in [0, 1].

    Returns:
        ``[..., T]``.
    """
    horizon = x.shape[-1]
    size = min(horizon, _BLOCK)
    power = torch.tensor(discount, dtype=torch.float64) ** torch.arange(size + 1)
    step = torch.arange(size)
    lag = step.unsqueeze(1) - step  # [k, t] = k − t
    within = power[lag.clamp(min=0)].tril().to(x)
    if horizon <= size:
        return x @ within
    blocks = math.ceil(horizon / size)
    padded = F.pad(x, (0, blocks * size - horizon))
    y = padded.unflatten(-1, (blocks, size)) @ within
    following = discounted_sum(y[..., 0], discount**size)[..., 1:]
    y[..., :-1, :] += following.unsqueeze(-1) * power[1:].flip(0).to(x)
    return y.flatten(-2)[..., :horizon]


def generalized_advantages(
    rewards: Tensor, values: Tensor, valid: Tensor, discount: float, gae_lambda: float
) -> Tensor:
    """Generalised advantage estimation (Schulman et al. 2016, eq. 16) on finite rows.

    δ_t = r_t + γ V_{t+1} − V_t with V = 0 past the last valid step; Â_t = Σ_k (γλ)^k δ_{t+k}.

    Args:
        rewards: ``[..., T]``.
        values: V(s_t) ``[..., T]``.
        valid: bool ``[..., T]``, False only on a tail.
        discount: γ.
        gae_lambda: λ.

    Returns:
        Advantages ``[..., T]``, zero where not valid.
    """
    _check_rows(rewards, values, valid)
    value_t = torch.where(valid, values, 0.0)
    value_tp1 = torch.cat([value_t[..., 1:], torch.zeros_like(value_t[..., :1])], dim=-1)
    delta = torch.where(valid, rewards + discount * value_tp1 - value_t, 0.0)
    return torch.where(valid, discounted_sum(delta, discount * gae_lambda), 0.0)


def rounding(x: Tensor, dims: tuple[int, ...]) -> Tensor:
    """What differences of numbers as large as x, in its dtype, may owe to rounding alone.

    Sixteen units in the last place of the largest: residuals of a baseline that predicts all
    returns have a standard deviation of one to five, in episodes of up to a thousand steps.

    Args:
        x: Zero where it does not count, any shape.
        dims: Axes pooled together; they stay, of size 1.
    """
    return 16.0 * torch.finfo(x.dtype).eps * x.abs().amax(dims, keepdim=True)


def normalize(x: Tensor, valid: Tensor, dims: tuple[int, ...], noise: Tensor) -> Tensor:
    """(x − mean) / standard deviation, both over the valid entries along ``dims``.

    Args:
        x: Any shape.
        valid: bool, the same shape.
        dims: Axes pooled together, e.g. lanes and time but not tasks.
        noise: The standard deviation up to which x tells nothing apart, such as the
            :func:`rounding` of what it is a difference of; of size 1 along ``dims``.

    Returns:
        The normalised x, zero where not valid and where there is nothing but noise.
    """
    _check_rows(x, valid)
    count = valid.sum(dims, keepdim=True).clamp(min=1)
    mean = torch.where(valid, x, 0.0).sum(dims, keepdim=True) / count
    centered = torch.where(valid, x - mean, 0.0)
    std = (centered.square().sum(dims, keepdim=True) / count).sqrt()
    return torch.where(std > noise, centered / std, 0.0)


def _check_rows(first: Tensor, *others: Tensor) -> None:
    for other in others:
        if other.shape != first.shape:
            raise ValueError(f"shapes differ: {tuple(first.shape)} and {tuple(other.shape)}")
