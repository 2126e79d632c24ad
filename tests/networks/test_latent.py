"""Policies with a latent: what they see, and that their derivatives are autograd's."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from metarl.adaptation.inner_loop import Adaptation
from metarl.maths.params import Params, stack
from metarl.maths.samples import Samples
from metarl.networks.autograd_pass import AutogradPass
from metarl.networks.latent import LatentPolicy
from metarl.networks.mlp import MLPPolicy
from tests.networks.test_autograd_pass import drawn

F64 = torch.float64
POLICIES = {
    "latent": LatentPolicy(3, 2, hidden_sizes=(5, 4), latent=2),
    "latent-categorical": LatentPolicy(3, 4, True, (5,), "relu", latent=3),
    "latent-linear": LatentPolicy(3, 2, hidden_sizes=(), latent=1),
    "context": LatentPolicy(3, 2, hidden_sizes=(5, 4), latent=4, latent_std=0.0),
}


@pytest.mark.parametrize("kind", POLICIES)
def test_the_network_sees_the_observation_and_the_latent(kind: str) -> None:
    """As an ordinary one with W and W_z for a first layer would see (s, z)."""
    policy = POLICIES[kind]
    params, rng = drawn(policy, 0), np.random.default_rng(1)
    inputs = torch.from_numpy(rng.standard_normal((2, 6, 3 + policy.drawn)))
    z = params["latent.mean"].unsqueeze(1).expand(2, 6, policy.latent)
    if policy.drawn:
        z = z + params["latent.log_std"].exp().unsqueeze(1) * inputs[..., 3:]
    sizes = (3 + policy.latent, policy.action_dim, policy.discrete, policy.hidden_sizes)
    ordinary = MLPPolicy(*sizes, policy.activation)
    weight = torch.cat([params["layer0.weight"], params["latent.weight"]], dim=1)
    expected = ordinary(params | {"layer0.weight": weight}, torch.cat([inputs[..., :3], z], -1))
    for ours, theirs in zip(policy(params, inputs), expected, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("kind", POLICIES)
def test_derivatives_are_those_of_autograd(kind: str) -> None:
    policy = POLICIES[kind]
    params, v = drawn(policy, 0, 0.5), drawn(policy, 1)
    rng = np.random.default_rng(2)
    x = torch.from_numpy(rng.standard_normal((2, 6, 3 + policy.drawn)))
    targets = torch.from_numpy(rng.standard_normal((2, 6, 2)))
    if policy.discrete:
        targets = torch.from_numpy(rng.integers(4, size=(2, 6)))
    weights = torch.from_numpy(rng.dirichlet(np.ones(6), 2))

    def parts(found: AutogradPass | object) -> list[Params]:
        derived = found.differentiate(  # type: ignore[attr-defined]
            lambda d: -(weights * d.log_prob(targets)).sum(1), second_order=True
        )
        fisher = found.fisher_product(weights, v)  # type: ignore[attr-defined]
        return [derived.gradient, derived.hessian_product(v), fisher]

    ours, theirs = parts(policy.through(params, x)), parts(AutogradPass(policy, params, x))
    for mine, its in zip(ours, theirs, strict=True):
        assert list(mine) == list(params)
        for name in params:
            assert float(its[name].norm()) > 1e-3
            torch.testing.assert_close(mine[name], its[name], rtol=1e-11, atol=1e-12)


def test_the_inner_step_of_a_latent_by_hand() -> None:
    """π = N(w z, 1) with z = μ + σ ε: the step goes through z, and not through the density of z.

    Two episodes, ε = ±1, of one step each: z = μ ± σ. With δ = a − w z,
    ∂ log π/∂μ = w δ and ∂ log π/∂ log σ = w δ σ ε, where log N(z; μ, σ²) would give ε/σ and ε² − 1.
    """
    policy = LatentPolicy(1, 1, hidden_sizes=(), latent=1, latent_std=0.5)
    theta = {name: torch.zeros_like(p, dtype=F64) for name, p in fresh(policy).items()}
    theta["latent.weight"] += 2.0
    theta["latent.mean"] += 0.3
    theta["latent.log_std"] += math.log(0.5)
    epsilon = torch.tensor([[1.0, -1.0]], dtype=F64)
    z = 0.3 + 0.5 * epsilon
    delta, advantages = (torch.tensor([x], dtype=F64) for x in ([0.4, -0.1], [2.0, -3.0]))
    seen = torch.stack([torch.zeros(1, 2, dtype=F64), epsilon], dim=-1)
    samples = Samples(
        seen, (2.0 * z + delta).unsqueeze(-1), advantages, torch.full((1, 2), 0.5, dtype=F64)
    )
    adapted = Adaptation(policy, (0.1,)).step(stack(theta, 1), samples, 0).adapted
    through_mean = 0.5 * (2.0 * 0.4 * 2.0 + 2.0 * -0.1 * -3.0)
    through_std = 0.5 * (2.0 * 0.4 * 0.5 * 2.0 + 2.0 * -0.1 * -0.5 * -3.0)
    assert float(adapted["latent.mean"]) == pytest.approx(0.3 + 0.1 * through_mean, abs=1e-12)
    log_std = math.log(0.5) + 0.1 * through_std
    assert float(adapted["latent.log_std"]) == pytest.approx(log_std, abs=1e-12)
    of_density = 0.5 * float((epsilon * advantages).sum()) / 0.5
    assert abs(of_density - through_mean) > 1.0  # else the two could not be told apart


def fresh(policy: MLPPolicy) -> Params:
    return policy.init(np.random.default_rng(0))


def test_it_starts_from_the_prior_and_splits_the_noise() -> None:
    policy = LatentPolicy(3, 2, hidden_sizes=(4,), latent=2, latent_std=0.7)
    params = fresh(policy)
    assert params["latent.mean"].tolist() == [0.0, 0.0]
    assert params["latent.log_std"].exp().tolist() == pytest.approx([0.7, 0.7])
    assert list(params) == policy.parameter_names
    assert policy.head_names == ["layer1.weight", "layer1.bias", "log_std"]
    noise = torch.arange(8.0).view(1, 2, 4)
    seen, actions = policy.with_noise(torch.zeros(1, 2, 3), noise)
    assert actions.tolist() == [[[0.0, 1.0], [4.0, 5.0]]]
    assert seen[0, :, 3:].tolist() == [[2.0, 3.0], [6.0, 7.0]]
