"""Soft Q-learning against hand computations, numerical integration and soft value iteration."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from metarl.maths.adam import Learned
from metarl.maths.distributions import DiagonalGaussian
from metarl.maths.soft_q import (
    actor_losses,
    critic_errors,
    polyak,
    soft_targets,
    target_entropy,
    temperature_losses,
)
from metarl.maths.squashed_gaussian import SquashedGaussian


def squashed(mean: float, log_std: float, dtype: torch.dtype = torch.float64) -> SquashedGaussian:
    return SquashedGaussian(torch.tensor([mean], dtype=dtype), torch.tensor([log_std], dtype=dtype))


@pytest.mark.parametrize(("mean", "log_std"), [(0.0, 0.0), (0.7, -1.0), (-1.5, 0.5), (2.0, -2.0)])
def test_the_squashed_density_integrates_to_one_and_to_its_mean(
    mean: float, log_std: float
) -> None:
    """Over u = atanh a, where the integrand is smooth: ∫ π(a) da = ∫ π(tanh u) (1 − tanh² u) du."""
    u = torch.linspace(-12.0, 12.0, 20001, dtype=torch.float64)
    a = torch.tanh(u)
    inside = a.abs() < 1 - 1e-7
    pi = squashed(mean, log_std)
    density = pi.log_prob(a.unsqueeze(1)).exp() * (1 - a.square())
    assert torch.trapezoid(torch.where(inside, density, 0.0), u) == pytest.approx(1.0, abs=1e-4)
    noise = torch.from_numpy(np.random.default_rng(0).standard_normal((200_000, 1)))
    expected = float(torch.trapezoid(torch.where(inside, density * a, 0.0), u))
    assert float(pi.sample(noise).mean()) == pytest.approx(expected, abs=0.01)


def test_log_prob_of_a_sample_is_that_of_the_change_of_variables() -> None:
    rng = np.random.default_rng(1)
    mean, log_std, noise = (torch.from_numpy(rng.standard_normal((50, 3))) for _ in range(3))
    pi = SquashedGaussian(mean, 0.3 * log_std)
    action, log_prob = pi.sample_and_log_prob(noise)
    assert torch.equal(action, pi.sample(noise))
    u = mean + (0.3 * log_std).exp() * noise
    plain = DiagonalGaussian(mean, 0.3 * log_std).log_prob(u)
    expected = plain - (1 - torch.tanh(u).square()).log().sum(-1)
    torch.testing.assert_close(log_prob, expected, rtol=1e-9, atol=1e-9)
    torch.testing.assert_close(pi.log_prob(action), expected, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("mean", [-60.0, -9.0, 9.0, 60.0])
def test_far_out_samples_lie_inside_and_their_log_prob_is_exact(mean: float) -> None:
    """log(1 − tanh² u) → 2 log 2 − 2|u|, where 1 − tanh² u itself is 0 in float32."""
    pi = squashed(mean, 0.0, torch.float32)
    pi = SquashedGaussian(pi.mean.requires_grad_(), pi.log_std)
    action, log_prob = pi.sample_and_log_prob(torch.zeros(1))
    assert -1 < action.item() < 1
    expected = -0.5 * math.log(2 * math.pi) + 2 * abs(mean) - 2 * math.log(2)
    assert log_prob.item() == pytest.approx(expected, rel=1e-6)
    (gradient,) = torch.autograd.grad(log_prob, pi.mean)
    assert float(gradient) == pytest.approx(2 * math.copysign(1, mean), rel=1e-4)
    assert pi.mode().item() == action.item()
    assert pi.log_prob(torch.tensor([math.copysign(1.0, mean)])).isfinite()


def test_targets_by_hand_terminals_and_time_limits() -> None:
    q = torch.tensor([[1.0, 5.0, math.nan], [2.0, 4.0, 7.0]])
    terminated = torch.tensor([0.0, 0.0, 1.0])
    y = soft_targets(
        torch.tensor([0.5, -1.0, 3.0]), terminated, q, torch.tensor([-2.0, 1.0, 0.0]), 0.1, 0.9
    )
    # 0.5 + 0.9·(1 + 0.2); −1 + 0.9·(4 − 0.1), a time limit like any other step; 3 and nothing more.
    torch.testing.assert_close(y, torch.tensor([1.58, 2.51, 3.0]))


def test_gradients_flow_where_they_must_and_nowhere_else() -> None:
    q, next_q, log_prob, log_alpha, reward = (
        torch.randn(shape, requires_grad=True) for shape in ((2, 4), (2, 4), (4,), (), (4,))
    )
    y = soft_targets(reward, torch.zeros(4), next_q, log_prob, log_alpha.exp(), 0.9)
    assert not y.requires_grad
    own = critic_errors(q, q.amin(0)).sum()  # a target that would carry a gradient is cut off
    (of_q,) = torch.autograd.grad(own, q)
    torch.testing.assert_close(of_q, 2 * (q - q.amin(0)).detach())
    losses = actor_losses(q, log_prob, log_alpha.exp()).sum()
    found = torch.autograd.grad(losses, [q, log_prob, log_alpha], allow_unused=True)
    assert found[2] is None
    torch.testing.assert_close(found[1], log_alpha.exp().detach().expand(4))
    smaller = (q == q.amin(0)).float()
    torch.testing.assert_close(found[0], -smaller)
    found = torch.autograd.grad(
        temperature_losses(log_alpha, log_prob, -1.0).mean(),
        [log_alpha, log_prob],
        allow_unused=True,
    )
    assert found[1] is None
    torch.testing.assert_close(found[0], -(log_prob.detach().mean() - 1.0))


def test_the_temperature_rises_while_the_entropy_is_too_low() -> None:
    assert target_entropy(6) == -6.0
    for log_prob, sign in ((8.0, 1), (4.0, -1)):  # entropy −8 is below −6, −4 above
        learned = Learned({"log_alpha": torch.zeros(())}, "cpu")
        sample = torch.full((3,), log_prob)
        learned.step(
            "it", lambda p, x=sample: temperature_losses(p["log_alpha"], x, -6.0).mean(), 0.01
        )
        assert float(learned.params["log_alpha"]) * sign > 0.009


def test_shapes_that_would_broadcast_are_refused() -> None:
    row, column = torch.zeros(4), torch.zeros(4, 1)
    with pytest.raises(ValueError, match="shapes differ"):
        soft_targets(column, row, torch.zeros(2, 4), row, 0.1, 0.9)
    with pytest.raises(ValueError, match="shapes differ"):
        critic_errors(torch.zeros(2, 4), column)
    with pytest.raises(ValueError, match="shapes differ"):
        actor_losses(torch.zeros(2, 4, 1), row, 0.1)


def test_target_networks_follow_slowly_and_carry_no_gradient() -> None:
    online = {"w": torch.tensor([1.0, 2.0], requires_grad=True)}
    target = polyak({"w": torch.zeros(2)}, online, 0.25)
    assert target["w"].tolist() == [0.25, 0.5]
    assert not target["w"].requires_grad


def test_iterated_targets_reach_the_soft_value_iteration_of_a_small_mdp() -> None:
    """Three states, two actions; one transition terminates. With π ∝ exp(Q/α), the soft-optimal
    policy, min_i Q_i − α log π is α log Σ_a exp(Q/α) whatever a is (Haarnoja et al. 2017)."""
    alpha, discount = 0.3, 0.9
    rewards = torch.tensor([[0.0, 1.0], [0.5, -0.2], [2.0, 0.1]], dtype=torch.float64)
    leads_to = torch.tensor([[1, 2], [0, 2], [0, 1]])
    terminated = torch.tensor([[0, 0], [0, 0], [1, 0]], dtype=torch.bool)

    value = np.zeros(3)  # in plain numpy: V(s) = α log Σ exp((r + γ V(s'))/α)
    for _ in range(400):
        backed_up = rewards.numpy() + discount * np.where(terminated, 0, value[leads_to])
        value = alpha * np.log(np.exp(backed_up / alpha).sum(1))

    q = torch.zeros(3, 2, dtype=torch.float64)
    for sweep in range(400):
        next_q = q[leads_to]  # [3, 2, options]
        log_pi = torch.log_softmax(next_q / alpha, dim=-1)
        option = sweep % 2  # which a' was drawn does not matter
        twins = torch.stack([next_q[..., option], next_q[..., option] + 5.0])
        q = soft_targets(rewards, terminated, twins, log_pi[..., option], alpha, discount)
    np.testing.assert_allclose(q.numpy(), backed_up, atol=1e-9)
