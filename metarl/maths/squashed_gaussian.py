"""A Gaussian squashed by tanh into (−1, 1), the action distribution of soft actor-critic."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from metarl.maths.distributions import DiagonalGaussian

_LARGEST = 1.0 - 2.0**-24  # the largest float32 below 1: a sample lies inside


class SquashedGaussian(NamedTuple):
    """tanh(u) of u ~ N(μ, diag σ²), over actions of a dimensions in (−1, 1).

    log π(a) = log N(u; μ, σ²) − Σ_i log(1 − tanh² u_i) (Haarnoja et al. 2018, appendix C), where
    log(1 − tanh² u) = 2 (log 2 − u − softplus(−2u)) holds for any u, however large.

    Attributes:
        mean: μ ``[..., a]``.
        log_std: log σ ``[..., a]``.
    """

    mean: Tensor
    log_std: Tensor

    @staticmethod
    def noise(rng: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
        """The draws that :meth:`sample` consumes: standard normal, float32."""
        return rng.standard_normal(shape, dtype=np.float32)

    def sample(self, noise: Tensor) -> Tensor:
        """tanh(μ + σ·ε) ``[..., a]`` for ε standard normal."""
        return _inside(torch.tanh(self.mean + self.log_std.exp() * noise))

    def sample_and_log_prob(self, noise: Tensor) -> tuple[Tensor, Tensor]:
        """A sample and its log π ``[...]``, which needs no inverse of tanh."""
        u = self.mean + self.log_std.exp() * noise
        return _inside(torch.tanh(u)), self._log_prob(u)

    def mode(self) -> Tensor:
        """tanh(μ), the median ``[..., a]``: what the policy does without noise."""
        return _inside(torch.tanh(self.mean))

    def log_prob(self, action: Tensor) -> Tensor:
        """log π ``[...]`` of actions ``[..., a]``; those on the edge count as just inside."""
        return self._log_prob(torch.atanh(_inside(action)))

    def _log_prob(self, u: Tensor) -> Tensor:
        squeezed = 2.0 * (math.log(2.0) - u - F.softplus(-2.0 * u))
        return DiagonalGaussian(self.mean, self.log_std).log_prob(u) - squeezed.sum(-1)


def _inside(action: Tensor) -> Tensor:
    return action.clamp(-_LARGEST, _LARGEST)
