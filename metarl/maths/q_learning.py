"""Q-learning of discrete actions: what Q(s, a) is fitted to. Time is the first axis."""

from __future__ import annotations

import torch
from torch import Tensor


@torch.no_grad()
def double_q_values(q: Tensor, target_q: Tensor) -> Tensor:
    """Q̄(s, argmax_a Q(s, a)) ``[...]`` for Q and Q̄ ``[..., n]`` (van Hasselt et al. 2016)."""
    if q.shape != target_q.shape:
        raise ValueError(f"shapes differ: {tuple(q.shape)} and {tuple(target_q.shape)}")
    return target_q.gather(-1, q.argmax(-1, keepdim=True)).squeeze(-1)


@torch.no_grad()
def n_step_targets(
    rewards: Tensor, values: Tensor, valid: Tensor, ended: Tensor, discount: float, steps: int
) -> Tensor:
    """y_t = Σ_{k<m} γ^k r_{t+k} + γ^m V_{t+m} ``[S, ...]``, without a gradient (Sutton 1988).

    m is n, or fewer where the trial is over before: then V is that of what came after its last
    step, and 0 where nothing does.

    Args:
        rewards: ``[S, ...]``.
        values: V_t of the states before every step and after the last, ``[S + 1, ...]``.
        valid: The step was taken, bool ``[S, ...]``, False only on a tail.
        ended: Nothing follows on this step, bool ``[S, ...]``.
        discount: γ.
        steps: n, at least 1.
    """
    if not rewards.shape == values[1:].shape == valid.shape == ended.shape:
        shapes = [tuple(x.shape) for x in (rewards, values, valid, ended)]
        raise ValueError(f"shapes do not fit: {shapes}")
    y = values
    for _ in range(steps):
        # Where it ends, the value of what never comes does not count, even if it is not finite.
        one_more = rewards + discount * torch.where(ended, 0.0, y[1:])
        y = torch.cat([torch.where(valid, one_more, values[:-1]), values[-1:]])
    return y[:-1]
