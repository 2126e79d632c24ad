"""Trust-region policy optimisation: a natural-gradient step of bounded KL, checked by a search."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from metarl.maths.solvers import backtracking_line_search, conjugate_gradient


@dataclass(frozen=True)
class TRPO:
    """Trust-region policy optimisation (Schulman et al. 2015).

    maximise improvement subject to mean KL <= max_kl: direction s from F s = −g by conjugate
    gradient, length √(2 max_kl / sᵀF s), then a line search on the true objective and KL.

    Attributes:
        max_kl: The trust region's size, nats.
        cg_steps: Conjugate-gradient steps.
        cg_damping: Added to the Fisher matrix's diagonal.
        line_search_steps: Candidates at most.
        line_search_ratio: Shrinkage between candidates.
    """

    max_kl: float
    cg_steps: int
    cg_damping: float
    line_search_steps: int
    line_search_ratio: float

    def step(
        self,
        x: Tensor,
        gradient: Tensor,
        fisher_product: Callable[[Tensor], Tensor],
        evaluate: Callable[[Tensor], tuple[Tensor, Tensor]],
        loss: Tensor,
    ) -> TRPOResult:
        """One update of the parameters.

        Args:
            x: Parameters ``[P]``.
            gradient: Of the loss at x ``[P]``.
            fisher_product: v ``[P]`` ↦ F v ``[P]`` at x.
            evaluate: Candidate ``[P]`` ↦ (loss, mean KL from the policy at x), scalars.
            loss: The loss at x, a scalar.

        Returns:
            The new parameters; x itself, to the bit, where no candidate both improves the loss
            and stays within ``max_kl``.
        """

        def damped(v: Tensor) -> Tensor:
            return fisher_product(v) + self.cg_damping * v

        direction = -conjugate_gradient(damped, gradient, self.cg_steps)
        curvature = direction.dot(damped(direction))
        step = direction * (2.0 * self.max_kl / curvature).sqrt()
        tried: list[tuple[Tensor, Tensor]] = []
        finite = bool(torch.isfinite(step).all()) and bool(curvature > 0)

        def accept(candidate: Tensor) -> bool:
            tried.append(evaluate(candidate))
            new_loss, kl = tried[-1]
            return bool((new_loss < loss) & (kl <= self.max_kl))

        tries = self.line_search_steps if finite else 0
        result = backtracking_line_search(
            accept, x, step, tries=tries, ratio=self.line_search_ratio
        )
        new_loss, kl = tried[-1] if result.accepted else (loss, torch.zeros_like(loss))
        return TRPOResult(result.x, result.accepted, float(new_loss), float(kl), len(tried))


class TRPOResult(NamedTuple):
    """What one TRPO update brought.

    Attributes:
        x: The parameters after it ``[P]``.
        accepted: Whether the line search took a candidate.
        loss: The loss at x.
        kl: The mean KL from before to after, nats.
        tries: Candidates evaluated.
    """

    x: Tensor
    accepted: bool
    loss: float
    kl: float
    tries: int
