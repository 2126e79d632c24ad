"""Numerical solvers that know nothing of policies: conjugate gradient and a line search."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from torch import Tensor


def conjugate_gradient(
    product: Callable[[Tensor], Tensor], b: Tensor, steps: int, residual_tolerance: float = 1e-10
) -> Tensor:
    """Solve A x = b for a symmetric positive definite A given as v ↦ A v.

    Exact after as many steps as A has distinct eigenvalues, up to rounding (Hestenes and Stiefel,
    1952). ``b`` is not modified.

    Args:
        product: v ``[P]`` ↦ A v ``[P]``.
        b: Right-hand side ``[P]``.
        steps: The most products to spend, >= 1.
        residual_tolerance: Stop when ‖r‖² falls below this times ‖b‖².

    Returns:
        x ``[P]``.
    """
    x = b.new_zeros(b.shape)
    r = b.clone()
    p = b.clone()
    rr = r.dot(r)
    threshold = residual_tolerance * rr
    for _ in range(steps):
        if rr <= threshold:
            break
        ap = product(p)
        alpha = rr / p.dot(ap)
        x = x + alpha * p
        r = r - alpha * ap
        rr_next = r.dot(r)
        p = r + (rr_next / rr) * p
        rr = rr_next
    return x


class LineSearchResult(NamedTuple):
    """The outcome of :func:`backtracking_line_search`.

    Attributes:
        x: The accepted point, or the very starting tensor where none was.
        accepted: Whether any candidate was accepted.
        tries: Candidates evaluated.
    """

    x: Tensor
    accepted: bool
    tries: int


def backtracking_line_search(
    accept: Callable[[Tensor], bool], x: Tensor, step: Tensor, *, tries: int, ratio: float
) -> LineSearchResult:
    """The first x + ratio^j · step, j = 0, 1, …, that ``accept`` takes; else x itself, unchanged.

    Args:
        accept: Candidate ``[P]`` ↦ whether to take it.
        x: Starting point ``[P]``.
        step: The full step ``[P]``.
        tries: Candidates at most.
        ratio: Shrinkage from one candidate to the next, in (0, 1).
    """
    scale = 1.0
    for j in range(tries):
        candidate = x + scale * step
        if accept(candidate):
            return LineSearchResult(candidate, True, j + 1)
        scale *= ratio
    return LineSearchResult(x, False, tries)
