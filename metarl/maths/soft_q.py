"""Soft Q-learning: targets, losses, temperature and target networks of soft actor-critic.

The soft value of a state is V(s) = E_{a ~ π}[min_i Q_i(s, a) − α log π(a | s)] (Haarnoja et al.
2018, eqs 3 to 6), the smaller of two critics against overestimation (Fujimoto et al. 2018). Losses
are of each row: who knows which rows count takes their mean.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from metarl.maths.params import Params


@torch.no_grad()
def soft_targets(
    rewards: Tensor,
    terminated: Tensor,
    next_q: Tensor,
    next_log_probs: Tensor,
    alpha: Tensor | float,
    discount: float,
) -> Tensor:
    """y = r + γ (1 − terminated) (min_i Q_i(s′, a′) − α log π(a′ | s′)), without a gradient.

    An end by the task's own rule is worth nothing more; one by a time limit is no end of the task,
    and is bootstrapped like any other step, from the state that the episode ended with.

    Args:
        rewards: ``[...]``.
        terminated: Ended by the task's rule, bool or 0 and 1 ``[...]``.
        next_q: Of the target critics at a′ ~ π(· | s′) ``[2, ...]``.
        next_log_probs: log π(a′ | s′) ``[...]``.
        alpha: The temperature.
        discount: γ.
    """
    _check_shapes(rewards, terminated, next_q[0], next_log_probs)
    soft_value = next_q.amin(0) - alpha * next_log_probs
    # Where it ends, the value of what never comes does not count, even if it is not finite.
    return rewards + discount * torch.where(terminated.bool(), 0.0, soft_value)


def critic_errors(q: Tensor, targets: Tensor) -> Tensor:
    """Σ_i (Q_i − y)² ``[...]`` for Q ``[2, ...]`` and targets y ``[...]``."""
    _check_shapes(q[0], targets)
    return (q - targets.detach()).square().sum(0)


def actor_losses(q: Tensor, log_probs: Tensor, alpha: Tensor | float) -> Tensor:
    """α log π(a | s) − min_i Q_i(s, a) ``[...]`` for Q ``[2, ...]`` at reparameterised a ~ π."""
    _check_shapes(q[0], log_probs)
    alpha = alpha.detach() if isinstance(alpha, Tensor) else alpha
    return alpha * log_probs - q.amin(0)


def temperature_losses(log_alpha: Tensor, log_probs: Tensor, target_entropy: float) -> Tensor:
    """−log α · (log π(a | s) + H̄) ``[...]``: α grows where the entropy is below H̄.

    With log α in α's place the step does not shrink with it (the form in public code; the paper's
    eq. 18 has α); the minimum is the same.
    """
    return -log_alpha * (log_probs.detach() + target_entropy)


def target_entropy(action_dim: int) -> float:
    """−dim(A), the customary H̄ of actions in [−1, 1]."""
    return -float(action_dim)


@torch.no_grad()
def polyak(target: Mapping[str, Tensor], online: Mapping[str, Tensor], rate: float) -> Params:
    """Target parameters after a step: (1 − τ) θ̄ + τ θ."""
    return {name: torch.lerp(p, online[name], rate) for name, p in target.items()}


def _check_shapes(first: Tensor, *others: Tensor) -> None:
    for other in others:
        if other.shape != first.shape:
            raise ValueError(f"shapes differ: {tuple(first.shape)} and {tuple(other.shape)}")
