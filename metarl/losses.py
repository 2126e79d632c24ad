"""Surrogate losses. Each is a mean over a task's valid steps, and a vector over the tasks.

The weights of a task's samples are valid / Σ valid, so Σ weights·x is that mean. Differentiate the
*sum* over tasks: a mean there would scale every task's own step by 1/M.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from metarl.blocks import task_blocks
from metarl.distributions import Distribution
from metarl.networks import MLPPolicy
from metarl.params import Params
from metarl.policy_pass import PolicyPass


@dataclass(frozen=True)
class Samples:
    """The steps of M tasks as flat rows, padded to the longest task's N.

    Attributes:
        observations: ``[M, N, o]``.
        actions: ``[M, N, a]``, or int64 ``[M, N]``.
        advantages: ``[M, N]``.
        weights: valid / Σ valid of the task, ``[M, N]``; 0 on padding.
    """

    observations: Tensor
    actions: Tensor
    advantages: Tensor
    weights: Tensor

    def tasks(self, block: slice) -> Samples:
        """Some of the tasks, without copying memory."""
        return Samples(
            self.observations[block],
            self.actions[block],
            self.advantages[block],
            self.weights[block],
        )

    def blocks(self, width: int) -> list[slice]:
        """The tasks in blocks for work on tensors of that width."""
        num_tasks, rows = self.weights.shape
        bytes_per_task = rows * width * self.weights.element_size()
        return task_blocks(num_tasks, bytes_per_task, self.weights.device)

    def thin(self, every: int) -> Samples:
        """Every n-th row of each task, its weights made to sum to one again."""
        if every == 1:
            return self
        weights = self.weights[:, ::every]
        return Samples(
            self.observations[:, ::every],
            self.actions[:, ::every],
            self.advantages[:, ::every],
            weights / weights.sum(1, keepdim=True),
        )


def flat_samples(
    observations: Tensor, actions: Tensor, advantages: Tensor, valid: Tensor
) -> Samples:
    """``[M, B, T, ...]`` → rows ``[M, N, ...]``, N the largest number of valid steps of a task.

    Padding is dropped as far as the tasks allow, so that episodes that end early cost what they
    last.
    """
    observations, actions = observations.flatten(1, 2), actions.flatten(1, 2)
    advantages, valid = advantages.flatten(1), valid.flatten(1)  # [M, B·T]
    count = valid.sum(1)
    longest = int(count.max())
    if longest < valid.shape[1]:
        rows = (~valid).long().argsort(dim=1, stable=True)[:, :longest]  # valid steps first
        observations = observations.gather(1, _like(rows, observations))
        actions = actions.gather(1, _like(rows, actions))
        advantages, valid = advantages.gather(1, rows), valid.gather(1, rows)
    weights = valid.to(advantages.dtype) / count.unsqueeze(1)
    return Samples(observations, actions, advantages, weights)


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
