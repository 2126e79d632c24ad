"""The derivatives by autograd are those of the hand-written pass."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from metarl.maths.distributions import SquaredErrorGaussian
from metarl.maths.params import Params, flatten
from metarl.networks.autograd_pass import AutogradPass
from metarl.networks.mlp import MLPPolicy, MLPRegression

POLICIES = {
    "gaussian": MLPPolicy(3, 2, hidden_sizes=(5, 4)),
    "categorical": MLPPolicy(3, 4, discrete=True, hidden_sizes=(5,), activation="relu"),
    "regression": MLPRegression(3, 2, hidden_sizes=(5, 4), activation="relu"),
}


def drawn(policy: MLPPolicy, seed: int, scale: float = 1.0) -> Params:
    """Random stacked parameters of two tasks, float64."""
    rng = np.random.default_rng(seed)
    shapes = {n: p.shape for n, p in policy.init(rng).items()}
    draws = {n: scale * rng.standard_normal((2, *shape)) for n, shape in shapes.items()}
    return {n: torch.from_numpy(x) for n, x in draws.items()}


@pytest.mark.parametrize("kind", POLICIES)
def test_autograd_agrees_with_the_pass_by_hand(kind: str) -> None:
    policy = POLICIES[kind]
    params, v = drawn(policy, 0, 0.5), drawn(policy, 1)
    rng = np.random.default_rng(2)
    x = torch.from_numpy(rng.standard_normal((2, 6, 3)))
    labels = torch.from_numpy(rng.integers(4, size=(2, 6)))
    numbers = torch.from_numpy(rng.standard_normal((2, 6, 2)))
    targets = labels if kind == "categorical" else numbers
    weights = torch.from_numpy(rng.dirichlet(np.ones(6), 2))
    by_hand, by_autograd = policy.through(params, x), AutogradPass(policy, params, x)
    for ours, theirs in zip(by_autograd.distribution, by_hand.distribution, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-12, atol=1e-12)
    derivatives = [
        p.differentiate(lambda d: -(weights * d.log_prob(targets)).sum(1), second_order=True)
        for p in (by_autograd, by_hand)
    ]
    torch.testing.assert_close(derivatives[0].loss, derivatives[1].loss)
    products = []
    for p, found in zip((by_autograd, by_hand), derivatives, strict=True):
        assert found.hessian_product is not None
        parts = (found.gradient, found.hessian_product(v), p.fisher_product(weights, v))
        products.append([flatten(part) for part in parts])
    for ours, theirs in zip(*products, strict=True):
        assert float(theirs.norm()) > 0.1
        torch.testing.assert_close(ours, theirs, rtol=1e-11, atol=1e-12)


def test_the_hessian_of_a_linear_loss_is_zero() -> None:
    """Where no gradient depends on the parameters there is nothing to differentiate."""
    params = {"a": torch.ones(2, 3)}
    line = AutogradPass(
        lambda p, x: SquaredErrorGaussian(x @ p["a"].unsqueeze(-1)), params, torch.ones(2, 4, 3)
    )
    found = line.differentiate(lambda d: d.mode().sum((1, 2)), second_order=True)
    assert found.hessian_product is not None
    assert found.gradient["a"].tolist() == [[4.0] * 3] * 2
    assert found.hessian_product(params)["a"].tolist() == [[0.0] * 3] * 2
