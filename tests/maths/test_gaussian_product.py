"""The product of Gaussian factors against its closed form, and against densities multiplied."""

from __future__ import annotations

import math

import numpy as np
import torch

from metarl.maths.gaussian_product import MIN_VARIANCE, Factors, standard_normal


def factors(mean: torch.Tensor, variance: torch.Tensor) -> Factors:
    """Of given means and variances: softplus is undone."""
    return Factors.of(torch.cat([mean, variance.expm1().log()], dim=-1))


def test_the_product_is_the_normalised_product_of_the_densities() -> None:
    rng = np.random.default_rng(0)
    mean = torch.from_numpy(rng.standard_normal((4, 1)))
    variance = torch.from_numpy(rng.uniform(0.3, 2.0, (4, 1)))
    z = torch.linspace(-12, 12, 24001, dtype=torch.float64)
    log_density = (-0.5 * (z - mean) ** 2 / variance).sum(0)
    density = log_density.exp() / torch.trapezoid(log_density.exp(), z)
    expected = torch.trapezoid(density * z, z)
    spread = torch.trapezoid(density * (z - expected) ** 2, z)
    found = factors(mean, variance).product(0).gaussian()
    torch.testing.assert_close(found.mean[0], expected, rtol=1e-8, atol=1e-8)
    torch.testing.assert_close((2 * found.log_std[0]).exp(), spread, rtol=1e-8, atol=1e-8)


def test_by_hand_and_in_any_order() -> None:
    mean = torch.tensor([[1.0, 0.0], [3.0, 2.0], [-1.0, 5.0]], dtype=torch.float64)
    variance = torch.tensor([[1.0, 0.5], [0.5, 0.5], [1.0, 0.25]], dtype=torch.float64)
    found = factors(mean, variance).product(0).gaussian()
    # 1/σ² = 1 + 2 + 1 = 4 and 2 + 2 + 4 = 8; μ = (1 + 6 − 1)/4 and (0 + 4 + 20)/8
    torch.testing.assert_close(found.mean, torch.tensor([1.5, 3.0], dtype=torch.float64))
    torch.testing.assert_close((2 * found.log_std).exp(), torch.tensor([0.25, 0.125]).double())
    order = torch.tensor([2, 0, 1])
    again = factors(mean[order], variance[order]).product(0).gaussian()
    torch.testing.assert_close(again.mean, found.mean)
    torch.testing.assert_close(again.log_std, found.log_std)


def test_nothing_seen_is_the_prior_and_certainty_has_a_floor() -> None:
    nothing = Factors(torch.zeros(2, 3), torch.zeros(2, 3)).gaussian()
    assert not nothing.mean.any()
    assert not nothing.log_std.any()
    sure = Factors.of(torch.tensor([0.5, -200.0])).gaussian()  # softplus(−200) is 0 in float32
    assert math.isclose((2 * sure.log_std).exp().item(), MIN_VARIANCE, rel_tol=1e-5)
    assert math.isclose(sure.mean.item(), 0.5, rel_tol=1e-6)


def test_the_kl_to_the_prior_by_hand() -> None:
    belief = factors(torch.tensor([[2.0]]), torch.tensor([[0.5]])).gaussian()
    expected = 0.5 * (0.5 + 4.0 - 1.0 - math.log(0.5))
    torch.testing.assert_close(belief.kl(standard_normal(belief)), torch.tensor([expected]))
