"""Surrogate losses. Each is a mean over a task's valid steps, and a vector over the tasks.

The weights of a task's samples are valid / Σ valid, so Σ weights·x is that mean. Differentiate the
*sum* over tasks: a mean there would scale every task's own step by 1/M.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, fields, replace

import torch
from torch import Tensor

from metarl.maths.blocks import task_blocks
from metarl.maths.distributions import Distribution
from metarl.maths.params import Params
from metarl.networks.mlp import MLPPolicy
from metarl.networks.policy_pass import PolicyPass


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


def fisher_product(policy: MLPPolicy, theta: Params, samples: Samples, direction: Params) -> Params:
    """F_m v_m of every task at its own states ``[M, ...]``, see :class:`PolicyPass`."""
    policy_pass = PolicyPass(policy, theta, samples.observations)
    return policy_pass.fisher_product(samples.weights, direction)


def _like(rows: Tensor, x: Tensor) -> Tensor:
    """Row indices ``[M, N]`` shaped to gather from x ``[M, K, ...]`` along axis 1."""
    extra = x.shape[2:]
    return rows.view(*rows.shape, *(1 for _ in extra)).expand(*rows.shape, *extra)
