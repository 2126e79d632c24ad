"""Surrogate losses. Each is a mean over a task's valid steps, and a vector over the tasks.

The weights of a task's samples are valid / Σ valid, so Σ weights·x is that mean. Differentiate the
*sum* over tasks: a mean there would scale every task's own step by 1/M.
"""

from __future__ import annotations

import torch
from torch import Tensor

from metarl.maths.distributions import Categorical, Distribution
from metarl.maths.samples import Samples


def log_prob_loss(distribution: Distribution, samples: Samples) -> Tensor:
    """−E[log π(a|s) Â] of every task ``[M]`` (REINFORCE; the inner loss of MAML's code)."""
    log_prob = distribution.log_prob(samples.actions)
    return -(samples.weights * log_prob * samples.advantages).sum(1)


def ratio_loss(distribution: Distribution, samples: Samples, old_log_prob: Tensor) -> Tensor:
    """−E[π(a|s)/π_old(a|s) Â] of every task ``[M]`` (Schulman et al. 2015, eq. 14).

    Args:
        distribution: π over ``[M, N]``.
        samples: The steps.
        old_log_prob: log π_old(a|s) ``[M, N]``, a constant.
    """
    ratio = (distribution.log_prob(samples.actions) - old_log_prob).exp()
    return -(samples.weights * ratio * samples.advantages).sum(1)


def dice_loss(distribution: Distribution, samples: Samples) -> Tensor:
    """−E[(⊡(a_≤t) − ⊡(a_<t)) Â_t] of every task ``[M]``, DiCE with advantages.

    ⊡(a_≤t) = exp(τ − ⊥τ), τ = Σ_{t' ≤ t} log π(a_t'|s_t') over the episode so far and ⊥τ the same
    as a constant, is always 1, and its derivatives are those of the trajectory's likelihood ratio
    (Foerster et al. 2018; with advantages in place of rewards: Farquhar et al. 2019, at λ = 1).
    All derivatives are those of the expected return, where Â is the advantage itself.
    """
    log_prob = distribution.log_prob(samples.actions)
    change = log_prob - log_prob.detach()  # 0, with log π's derivatives
    before = change.cumsum(1) - change
    start = samples.episode_start
    assert start is not None
    rows = torch.arange(start.shape[1], device=start.device)
    first = torch.where(start, rows, 0).cummax(1).values  # of each row's episode
    before = before - before.gather(1, first)
    return -(samples.weights * before.exp() * torch.expm1(change) * samples.advantages).sum(1)


def clipped_surrogate(
    log_prob: Tensor, old_log_prob: Tensor, advantages: Tensor, clip: float
) -> Tensor:
    """−min(ρ Â, clip(ρ, 1 − ε, 1 + ε) Â) of every step, ρ = π/π_old (Schulman et al. 2017, eq. 7).

    Args:
        log_prob: log π(a|s), any shape.
        old_log_prob: log π_old(a|s), the same shape, a constant.
        advantages: Â, the same shape, a constant.
        clip: ε > 0.
    """
    ratio = (log_prob - old_log_prob).exp()
    return -torch.minimum(ratio * advantages, ratio.clamp(1.0 - clip, 1.0 + clip) * advantages)


def value_loss(
    values: Tensor, old_values: Tensor, returns: Tensor, clip: float | None = None
) -> Tensor:
    """½ (V − R)² of every step; with a clip ½ max((V − R)², (V_c − R)²), V_c within it of V_old."""
    error = (values - returns).square()
    if clip is not None:
        near = old_values + (values - old_values).clamp(-clip, clip)
        error = torch.maximum(error, (near - returns).square())
    return 0.5 * error


def mean_kl(old: Distribution, new: Distribution, weights: Tensor) -> Tensor:
    """E[KL(π_old(·|s) ‖ π(·|s))] of every task ``[M]``."""
    return (weights * old.kl(new)).sum(1)  # type: ignore[arg-type]


def judged(distribution: Distribution, samples: Samples) -> Tensor:
    """Share of right classes of every task ``[M]``, or its squared error over all dimensions."""
    best = distribution.mode()
    if isinstance(distribution, Categorical):
        return (samples.weights * (best == samples.actions)).sum(1)
    return (samples.weights * (best - samples.actions).square().sum(-1)).sum(1)
