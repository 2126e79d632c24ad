"""From a trajectory to the samples of a gradient step, and the losses on them."""

from __future__ import annotations

import math

import pytest
import torch

from metarl.adaptation.inner_loop import Adaptation
from metarl.experience.advantages import AdvantageEstimator
from metarl.maths.baseline import linear_baseline
from metarl.maths.distributions import DiagonalGaussian
from metarl.maths.losses import log_prob_loss, mean_kl, ratio_loss
from metarl.maths.returns import discounted_sum, generalized_advantages
from metarl.maths.samples import Samples
from metarl.networks.mlp import MLPPolicy
from metarl.types import Trajectory


def make_trajectory() -> Trajectory:
    """Two tasks of very different rewards, three lanes, some of which end early."""
    g = torch.Generator().manual_seed(0)
    m, b, t = 2, 3, 6
    valid = (torch.arange(t) < torch.tensor([6, 2, 4]).view(1, b, 1)).expand(m, b, t)
    rewards = torch.randn(m, b, t, generator=g) * torch.tensor([1.0, 100.0]).view(m, 1, 1)
    return Trajectory(
        observations=torch.randn(m, b, t, 2, generator=g),
        actions=torch.randn(m, b, t, 1, generator=g),
        log_probs=torch.randn(m, b, t, generator=g),
        rewards=rewards * valid,
        terminated=torch.zeros(m, b, t, dtype=torch.bool),
        truncated=torch.zeros(m, b, t, dtype=torch.bool),
        valid=valid,
    )


def test_advantages_are_normalized_per_task_over_valid_steps() -> None:
    samples = AdvantageEstimator(0.99, 1.0, normalize=True).samples(make_trajectory())
    assert samples.advantages.shape == (2, 12)
    for a in samples.advantages:  # 12 valid steps a task: no padding is left
        assert float(a.mean()) == pytest.approx(0.0, abs=1e-5)
        assert float(a.square().mean()) == pytest.approx(1.0, abs=1e-4)


def test_unnormalized_advantages_are_those_over_each_tasks_own_baseline() -> None:
    trajectory = make_trajectory()
    samples = AdvantageEstimator(0.9, 0.8, normalize=False).samples(trajectory)
    for m in range(2):
        one = {name: getattr(trajectory, name)[m : m + 1] for name in ("observations", "valid")}
        rewards = trajectory.rewards[m : m + 1]
        values = linear_baseline(one["observations"], discounted_sum(rewards, 0.9), one["valid"])
        expected = generalized_advantages(rewards, values, one["valid"], 0.9, 0.8)
        torch.testing.assert_close(
            samples.advantages[m], expected[one["valid"]], rtol=1e-4, atol=1e-4
        )


def test_the_last_step_size_repeats() -> None:
    adaptation = Adaptation(MLPPolicy(2, 1), (0.5, 0.25))
    assert [adaptation.step_size(k) for k in range(4)] == [0.5, 0.25, 0.25, 0.25]


def test_the_kl_goes_from_the_old_policy_to_the_new() -> None:
    # KL(N(0,1) ‖ N(0,2²)) = log 2 + 1/8 − 1/2, and the reverse is 2 − 1/2 − log 2.
    old = DiagonalGaussian(torch.zeros(1, 1, 1), torch.zeros(1, 1, 1))
    new = DiagonalGaussian(torch.zeros(1, 1, 1), torch.full((1, 1, 1), math.log(2.0)))
    assert float(mean_kl(old, new, torch.ones(1, 1))) == pytest.approx(math.log(2) - 3 / 8)


def test_losses_are_weighted_means_over_a_tasks_valid_steps() -> None:
    distribution = DiagonalGaussian(torch.zeros(1, 3, 1), torch.zeros(1, 1, 1))
    weights = torch.tensor([[0.5, 0.5, 0.0]])
    advantages = torch.tensor([[2.0, -1.0, 77.0]])
    samples = Samples(
        torch.zeros(1, 3, 1), torch.tensor([[[1.0], [2.0], [3.0]]]), advantages, weights
    )
    c = 0.5 * math.log(2 * math.pi)
    log_prob = [-0.5 - c, -2.0 - c]
    expected = -(0.5 * 2 * log_prob[0] - 0.5 * log_prob[1])
    assert float(log_prob_loss(distribution, samples)) == pytest.approx(expected, abs=1e-6)
    old = torch.tensor([[log_prob[0] - math.log(3.0), log_prob[1], 0.0]])  # ratios 3 and 1
    assert float(ratio_loss(distribution, samples, old)) == pytest.approx(-(3.0 - 0.5), rel=1e-5)
