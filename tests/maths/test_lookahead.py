"""The meta-gradient of a learned objective against unrolled ones and finite differences."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
import torch
from torch import Tensor

from metarl.maths.lookahead import look_ahead

STEP = 0.3


def loss(alpha: Tensor, phis: Sequence[Tensor]) -> Tensor:
    """Not quadratic in φ, and each φ of another length."""
    each = [(torch.tanh(phi * alpha[: len(phi)]) * alpha.sum()).sum() for phi in phis]
    return torch.stack(each).sum()


def worth(phis: Sequence[Tensor]) -> Tensor:
    return torch.stack([torch.cos(phi).prod() + phi.square().sum() for phi in phis]).mean()


@pytest.fixture
def numbers() -> tuple[Tensor, list[Tensor]]:
    torch.manual_seed(0)
    return torch.randn(4, dtype=torch.float64), [
        torch.randn(3, dtype=torch.float64),
        torch.randn(2, dtype=torch.float64),
    ]


def after_a_step(alpha: Tensor, phis: Sequence[Tensor]) -> Tensor:
    leaves = [phi.clone().requires_grad_() for phi in phis]
    gradients = torch.autograd.grad(loss(alpha, leaves), leaves, create_graph=True)
    return worth([phi - STEP * g for phi, g in zip(leaves, gradients, strict=True)])


def test_the_outer_gradient_is_the_unrolled_one(numbers: tuple[Tensor, list[Tensor]]) -> None:
    alpha, phis = numbers
    leaf = alpha.clone().requires_grad_()
    (unrolled,) = torch.autograd.grad(-after_a_step(leaf, phis), leaf)
    found = look_ahead(loss, worth, alpha, phis, STEP)
    assert (found.outer - unrolled).norm() / unrolled.norm() < 1e-12
    for phi, inner, ascent in zip(phis, found.inner, found.ascent, strict=True):
        own = phi.clone().requires_grad_()
        torch.testing.assert_close(inner, torch.autograd.grad(loss(alpha, [own]), own)[0])
        assert ascent.shape == phi.shape
    assert found.worth == worth(phis)
    torch.testing.assert_close(found.gain, after_a_step(alpha, phis).detach() - worth(phis))


def test_the_outer_gradient_is_that_of_finite_differences(
    numbers: tuple[Tensor, list[Tensor]],
) -> None:
    alpha, phis = numbers
    found = look_ahead(loss, worth, alpha, phis, STEP).outer
    small = 1e-6
    for i, direction in enumerate(torch.eye(len(alpha), dtype=torch.float64)):
        up, down = (after_a_step(alpha + s * small * direction, phis).detach() for s in (1, -1))
        assert float(-(up - down) / (2 * small)) == pytest.approx(float(found[i]), rel=1e-6)


def test_the_ascent_is_of_the_policies_before_their_step(
    numbers: tuple[Tensor, list[Tensor]],
) -> None:
    alpha, phis = numbers
    leaves = [phi.clone().requires_grad_() for phi in phis]
    expected = torch.autograd.grad(worth(leaves), leaves)
    for found, own in zip(look_ahead(loss, worth, alpha, phis, STEP).ascent, expected, strict=True):
        torch.testing.assert_close(found, own)
