"""Advantages: of rewards of any scale, and 0 where the rewards tell nothing."""

from __future__ import annotations

import itertools

import pytest
import torch
from torch import Tensor

from metarl.experience.advantages import AdvantageEstimator, absorbing_advantages
from metarl.maths.returns import discounted_sum, generalized_advantages
from metarl.types import Trajectory, Trial

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


def slow_absorbing(trial: Trial, discount: float, lam: float, horizon: int) -> Tensor:
    """Every episode played on to its horizon, step by step, by a critic that is exact there."""
    found = torch.zeros_like(trial.rewards)
    for m, lane in itertools.product(*map(range, trial.valid.shape[:2])):
        valid, starts = trial.valid[m, lane], trial.episode_start[m, lane]
        rewards, values, steps = [], [], []  # on the clock; which step of the trial, or None
        for s in range(int(valid.sum())):
            while starts[s] and len(rewards) % horizon:
                rewards, values, steps = [*rewards, 0.0], [*values, None], [*steps, None]
            rewards.append(float(trial.rewards[m, lane, s]))
            values.append(float(trial.values[m, lane, s]))
            steps.append(s)
        worth, advantage = 0.0, 0.0
        for r, v, s in zip(*map(reversed, (rewards, values, steps)), strict=True):
            here = discount * worth if v is None else v
            advantage = r + discount * worth - here + discount * lam * advantage
            worth = here
            if s is not None:
                found[m, lane, s] = advantage
    return found


def ragged_trial(lengths: list[list[int]], horizon: int) -> Trial:
    """Trials of one lane each, whose episodes have these lengths."""
    steps = max(map(sum, lengths))
    starts, valid = torch.zeros(2, len(lengths), 1, steps, dtype=torch.bool)
    for m, episodes in enumerate(lengths):
        valid[m, 0, : sum(episodes)] = True
        starts[m, 0, [sum(episodes[:e]) for e in range(len(episodes))]] = True
    rewards, values = torch.randn(2, *valid.shape, dtype=torch.float64, generator=G)
    none = torch.zeros(*valid.shape, 1)
    rewards = torch.where(valid, rewards, 0.0)
    flags = torch.zeros_like(valid)
    return Trial(none, none, rewards, rewards, flags, flags, valid, starts, values)


@pytest.mark.parametrize("discount", [0.8, 0.99, 1.0])
def test_an_early_end_is_an_absorbing_state(discount: float) -> None:
    trial = ragged_trial([[2, 5, 1], [5, 5, 5], [1, 1, 1], [5, 3, 4]], horizon=5)
    found = absorbing_advantages(trial, trial.rewards, discount, 0.9, 5)
    torch.testing.assert_close(found, slow_absorbing(trial, discount, 0.9, 5))
    whole = slice(1, 2)  # episodes of full length: as if there were no clock
    rows = trial.rewards[whole], trial.values[whole], trial.valid[whole]
    plain = generalized_advantages(*rows, discount, 0.9)
    torch.testing.assert_close(found[whole], plain)


def test_a_fall_brings_the_next_episode_no_nearer() -> None:
    """Two trials that earn 1 at the second episode's start; one of them falls on the first step."""
    trial = ragged_trial([[1, 4], [4, 4]], horizon=4)
    trial.values.zero_()
    pay = trial.episode_start & (trial.episode_index() == 1)
    found = absorbing_advantages(trial, pay.double(), 0.5, 1.0, 4)
    assert found[:, 0, 0].tolist() == [0.5**4, 0.5**4]
    plain = generalized_advantages(pay.double(), trial.values, trial.valid, 0.5, 1.0)
    assert plain[:, 0, 0].tolist() == [0.5, 0.5**4]
