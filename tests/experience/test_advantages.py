"""Advantages: of rewards of any scale, and 0 where the rewards tell nothing."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from metarl.experience.advantages import AdvantageEstimator
from metarl.maths.returns import discounted_sum
from metarl.types import Trajectory

M, B, T = 2, 4, 60
G = torch.Generator().manual_seed(0)
OBSERVATIONS = torch.randn(M, B, T, 3, generator=G)
REWARDS = torch.randn(M, B, T, generator=G)


def advantages(
    rewards: Tensor, observations: Tensor = OBSERVATIONS, discount: float = 0.9, lam: float = 0.95
) -> Tensor:
    """Normalised, of episodes of full length ``[M, N]``."""
    flags = torch.zeros_like(rewards).bool()
    parts = observations, rewards.unsqueeze(-1), rewards, rewards, flags, flags, ~flags
    samples = AdvantageEstimator(discount, lam, normalize=True).samples(Trajectory(*parts))
    return samples.advantages


@pytest.mark.parametrize("power", [-50, -30, -20, 20, 50])
def test_the_scale_of_the_rewards_is_nothing_to_them_to_the_last_bit(power: int) -> None:
    plain = advantages(REWARDS)
    assert float(plain[0].std(correction=0)) == pytest.approx(1.0)
    assert torch.equal(advantages(2.0**power * REWARDS), plain)


@pytest.mark.parametrize("discount", [0.9, 0.99, 1.0])
@pytest.mark.parametrize("level", [-1.7, 1e-9, 3e8])
def test_rewards_that_are_the_same_on_all_lanes_give_none(discount: float, level: float) -> None:
    """No polynomial in time is a sum of powers of γ: what the fit misses is nobody's merit."""
    constant = torch.full((M, B, T), level)
    assert not advantages(constant, discount=discount).any()
    by_time = level * REWARDS[:1, :1].expand(M, B, T)
    assert not advantages(by_time, discount=discount).any()
    one_task = torch.stack([constant[0], level * REWARDS[1]])
    found = advantages(one_task, discount=discount)
    assert not found[0].any()
    assert float(found[1].std(correction=0)) == pytest.approx(1.0)


@pytest.mark.parametrize("scale", [1e-9, 1.0, 1e6])
def test_returns_that_the_baseline_predicts_give_none(scale: float) -> None:
    """What is left of them is rounding."""
    returns = scale * (OBSERVATIONS @ torch.tensor([0.5, -2.0, 1.0]) + 30.0)
    following = torch.cat([returns[..., 1:], torch.zeros(M, B, 1)], dim=-1)
    rewards = returns - 0.9 * following
    torch.testing.assert_close(discounted_sum(rewards, 0.9), returns)
    assert not advantages(rewards).any()
    noticed = rewards + 1e-3 * scale * REWARDS  # a thousandth is not
    assert float(advantages(noticed)[0].std(correction=0)) == pytest.approx(1.0)


def test_a_single_lane_learns_from_its_own_past() -> None:
    found = advantages(REWARDS[:, :1], OBSERVATIONS[:, :1])
    assert float(found[0].std(correction=0)) == pytest.approx(1.0)


def test_what_is_drawn_once_an_episode_explains_no_return() -> None:
    """Four draws would tell four episodes apart, whose returns then were nobody's merit."""
    lanes = torch.eye(B).view(1, B, 1, B).expand(M, B, T, B)
    rewards = lanes[..., 0] + 1e-3 * REWARDS
    flags = torch.zeros(M, B, T).bool()
    seen = torch.cat([OBSERVATIONS, lanes], dim=-1)
    parts = seen, rewards.unsqueeze(-1), rewards, rewards, flags, flags, ~flags
    found = AdvantageEstimator(0.9, 1.0, normalize=True, observed=3).samples(Trajectory(*parts))
    assert torch.equal(found.observations, seen.flatten(1, 2))
    torch.testing.assert_close(found.advantages, advantages(rewards, lam=1.0))
    of_lanes = found.advantages.view(M, B, T).mean(-1)
    assert float((of_lanes[:, 0] - of_lanes[:, 1:].amax(1)).min()) > 1.0
