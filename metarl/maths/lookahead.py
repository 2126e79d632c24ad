"""Meta-gradients of a learned objective: what one step of its own gradient leads to.

A policy's parameters φ take a step down an objective L_α that is learned itself,

    φ′ = φ − η ∇_φ L_α(φ),

and α ascends what the policy is worth after it, J(φ′) (Kirsch et al. 2020, eq. 6).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

Loss = Callable[[Tensor, Sequence[Tensor]], Tensor]
"""(α ``[P]``, several φ ``[Q]``) ↦ Σ L_α(φ), a scalar."""
Worth = Callable[[Sequence[Tensor]], Tensor]
"""Several φ ↦ J, a scalar."""


class Lookahead(NamedTuple):
    """A step of several policies, and what it says of the objective.

    Attributes:
        inner: ∇_φ L_α(φ) of each φ ``[Q]``.
        outer: The gradient in α of −J(φ′) ``[P]``.
        ascent: ∇J(φ) of each φ ``[Q]``.
        worth: J(φ).
        gain: J(φ′) − J(φ).
    """

    inner: list[Tensor]
    outer: Tensor
    ascent: list[Tensor]
    worth: Tensor
    gain: Tensor


def look_ahead(
    loss: Loss, worth: Worth, alpha: Tensor, phis: Sequence[Tensor], step_size: float
) -> Lookahead:
    """The exact gradient through one plain gradient step of several policies.

    ∂J(φ′)/∂α = −η ∂/∂α ⟨∇_φ L_α(φ), v⟩ with v = ∇J(φ′) held constant, since α reaches J through φ′
    alone. So neither J nor the policies are differentiated twice beyond L_α.

    Args:
        loss: L_α, twice differentiable.
        worth: J.
        alpha: α ``[P]``.
        phis: Several φ ``[Q]``; their lengths may differ.
        step_size: η.
    """
    leaf = alpha.detach().requires_grad_()
    before = [phi.detach().requires_grad_() for phi in phis]
    inner = torch.autograd.grad(loss(leaf, before), before, create_graph=True)
    after = [
        (phi - step_size * gradient).detach().requires_grad_()
        for phi, gradient in zip(before, inner, strict=True)
    ]
    reached = worth(after)
    towards = torch.autograd.grad(reached, after)
    along = sum((g * v).sum() for g, v in zip(inner, towards, strict=True))
    assert isinstance(along, Tensor)
    (outer,) = torch.autograd.grad(along * step_size, leaf)
    gradients = [gradient.detach() for gradient in inner]
    left = worth(before)
    ascent = list(torch.autograd.grad(left, before))
    return Lookahead(gradients, outer, ascent, left.detach(), (reached - left).detach())
