"""A belief as a product of Gaussian factors, one for each thing seen, in whatever order."""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from metarl.maths.distributions import DiagonalGaussian

MIN_VARIANCE = 1e-7


class Factors(NamedTuple):
    """Diagonal Gaussian factors N(z; μ, σ²) by their natural parameters, which add up.

    Π_n N(z; μ_n, σ²_n) ∝ N(z; μ, σ²),  1/σ² = Σ_n 1/σ²_n,  μ/σ² = Σ_n μ_n/σ²_n.

    Attributes:
        precision: 1/σ² ``[..., z]``; 0 where nothing was seen.
        weighted: μ/σ² ``[..., z]``.
    """

    precision: Tensor
    weighted: Tensor

    @classmethod
    def of(cls, raw: Tensor) -> Factors:
        """From a network's output ``[..., 2z]``: μ, and σ² before softplus, floored at 1e-7."""
        mean, variance = raw.chunk(2, dim=-1)
        precision = F.softplus(variance).clamp(min=MIN_VARIANCE).reciprocal()
        return cls(precision, mean * precision)

    def product(self, dim: int) -> Factors:
        """The product along an axis."""
        return Factors(self.precision.sum(dim), self.weighted.sum(dim))

    def gaussian(self) -> DiagonalGaussian:
        """The normalised product; N(0, I) where nothing was seen."""
        seen = self.precision > 0
        precision = torch.where(seen, self.precision, 1.0)
        return DiagonalGaussian(self.weighted / precision, -0.5 * precision.log())


def standard_normal(like: DiagonalGaussian) -> DiagonalGaussian:
    """N(0, I), of the same shape."""
    return DiagonalGaussian(torch.zeros_like(like.mean), torch.zeros_like(like.mean))
