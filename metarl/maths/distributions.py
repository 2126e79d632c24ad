"""Action distributions as plain tuples of tensors with pure functions on them.

``torch.distributions`` validates its arguments on every call and cannot be differentiated in
forward mode as a whole; the families here can, and hold nothing but their parameters.
Log-probabilities are sums over the action's dimensions.
"""

from __future__ import annotations

import math
from functools import lru_cache
from typing import Any, ClassVar, NamedTuple, Self

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

_LOG_SQRT_2PI = 0.5 * math.log(2.0 * math.pi)
_NEVER = -1e9  # a logit; an infinite one would make 0 · ∞ of what is impossible


class DiagonalGaussian(NamedTuple):
    """N(μ, diag σ²) over actions of a dimensions.

    Attributes:
        mean: μ ``[..., a]``.
        log_std: log σ, broadcastable to ``[..., a]``.
    """

    mean: Tensor
    log_std: Tensor

    @staticmethod
    def noise(rng: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
        """The draws that :meth:`sample` consumes: standard normal, float32."""
        return rng.standard_normal(shape, dtype=np.float32)

    def sample(self, noise: Tensor) -> Tensor:
        """μ + σ·ε for ε ``[..., a]`` standard normal."""
        return self.mean + self.log_std.exp() * noise

    def mode(self) -> Tensor:
        """The most probable action ``[..., a]``."""
        return self.mean

    def log_prob(self, action: Tensor) -> Tensor:
        """Σ_i log N(a_i; μ_i, σ_i²) ``[...]`` for actions ``[..., a]``."""
        z = (action - self.mean) * (-self.log_std).exp()
        return -(0.5 * z.square() + self.log_std + _LOG_SQRT_2PI).sum(-1)

    def kl(self, other: DiagonalGaussian) -> Tensor:
        """KL(self ‖ other) ``[...]``."""
        ratio = (2.0 * (self.log_std - other.log_std)).exp()
        shift = ((self.mean - other.mean) * (-other.log_std).exp()).square()
        return (0.5 * (ratio + shift - 1.0) + other.log_std - self.log_std).sum(-1)

    def entropy(self) -> Tensor:
        """½ log(2πe σ²) summed over the action's dimensions ``[...]``."""
        return (self.log_std + _LOG_SQRT_2PI + 0.5).expand_as(self.mean).sum(-1)

    def fisher_product(self, tangent: DiagonalGaussian) -> DiagonalGaussian:
        """The Fisher metric of (μ, log σ) applied to a tangent: (σ⁻² dμ, 2 d log σ)."""
        return DiagonalGaussian(
            tangent.mean * (-2.0 * self.log_std).exp(), 2.0 * tangent.log_std.expand_as(self.mean)
        )


class Categorical(NamedTuple):
    """A distribution over n discrete actions.

    Attributes:
        logits: Unnormalised log-probabilities ``[..., n]``.
    """

    logits: Tensor

    @staticmethod
    def noise(rng: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
        """The draws that :meth:`sample` consumes: standard Gumbel, float32."""
        # standard_exponential is never 0 to the last bit of float64, so its log is finite.
        return -np.log(rng.standard_exponential(shape)).astype(np.float32)

    def sample(self, noise: Tensor) -> Tensor:
        """argmax(logits + Gumbel noise): int64 ``[...]``, exactly Categorical(softmax(logits))."""
        return (self.logits + noise).argmax(-1)

    def mode(self) -> Tensor:
        """The most probable action: int64 ``[...]``."""
        return self.logits.argmax(-1)

    def log_prob(self, action: Tensor) -> Tensor:
        """log softmax(logits)[action] ``[...]`` for int64 actions ``[...]``."""
        log_p = F.log_softmax(self.logits, dim=-1)
        return log_p.gather(-1, action.unsqueeze(-1)).squeeze(-1)

    def kl(self, other: Categorical) -> Tensor:
        """KL(self ‖ other) ``[...]``."""
        log_p = F.log_softmax(self.logits, dim=-1)
        return (log_p.exp() * (log_p - F.log_softmax(other.logits, dim=-1))).sum(-1)

    def entropy(self) -> Tensor:
        """−Σ p log p ``[...]``."""
        log_p = F.log_softmax(self.logits, dim=-1)
        return -(log_p.exp() * log_p).sum(-1)

    def fisher_product(self, tangent: Categorical) -> Categorical:
        """The Fisher metric of the logits applied to a tangent: p ⊙ (dz − Σ p dz)."""
        p = torch.softmax(self.logits, dim=-1)
        return Categorical(p * (tangent.logits - (p * tangent.logits).sum(-1, keepdim=True)))


class _Logits(NamedTuple):
    logits: Tensor


class CategoricalProduct(_Logits):
    """d independent choices, the i-th among n_i; a class for given sizes has them as ``sizes``.

    Attributes:
        logits: Of the first choice, then of the second, …, ``[..., Σ n_i]``.
    """

    __slots__ = ()
    sizes: ClassVar[tuple[int, ...]]

    @staticmethod
    def noise(rng: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
        """The draws that :meth:`sample` consumes: standard Gumbel, float32."""
        return Categorical.noise(rng, shape)

    def sample(self, noise: Tensor) -> Tensor:
        """int64 ``[..., d]`` for Gumbel noise ``[..., Σ n_i]``."""
        return type(self)(self.logits + noise).mode()

    def mode(self) -> Tensor:
        """The most probable choices: int64 ``[..., d]``."""
        return self._factors().mode()

    def log_prob(self, action: Tensor) -> Tensor:
        """Σ_i log p_i(a_i) ``[...]`` for int64 actions ``[..., d]``."""
        return self._factors().log_prob(action).sum(-1)

    def kl(self, other: CategoricalProduct) -> Tensor:
        """KL(self ‖ other) ``[...]``, the sum of the choices'."""
        return self._factors().kl(other._factors()).sum(-1)

    def entropy(self) -> Tensor:
        """The sum of the choices' ``[...]``."""
        return self._factors().entropy().sum(-1)

    def fisher_product(self, tangent: CategoricalProduct) -> Self:
        """The Fisher metric of the logits applied to a tangent, choice by choice."""
        moved = self._factors().fisher_product(tangent._factors()).logits
        parts = [moved[..., i, :n] for i, n in enumerate(self.sizes)]
        return type(self)(torch.cat(parts, dim=-1))

    def _factors(self) -> Categorical:
        """One distribution over ``[..., d]`` choices, their logits padded to the largest of n_i."""
        most = max(self.sizes)
        parts = [
            F.pad(part, (0, most - part.shape[-1]), value=_NEVER)
            for part in self.logits.split(self.sizes, dim=-1)
        ]
        return Categorical(torch.stack(parts, dim=-2))


class SquaredErrorGaussian(NamedTuple):
    """N(μ, ½ I) over targets of y dimensions, whose −log p is the squared error.

    Attributes:
        mean: μ ``[..., y]``.
    """

    mean: Tensor

    @staticmethod
    def noise(rng: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
        """The draws that :meth:`sample` consumes: standard normal, float32."""
        return rng.standard_normal(shape, dtype=np.float32)

    def sample(self, noise: Tensor) -> Tensor:
        """μ + ε/√2 for ε ``[..., y]`` standard normal."""
        return self.mean + math.sqrt(0.5) * noise

    def mode(self) -> Tensor:
        """The prediction μ ``[..., y]``."""
        return self.mean

    def log_prob(self, action: Tensor) -> Tensor:
        """−Σ_i (y_i − μ_i)² ``[...]``, without the normalising constant −½ y log π."""
        return -(action - self.mean).square().sum(-1)

    def kl(self, other: SquaredErrorGaussian) -> Tensor:
        """KL(self ‖ other) = ‖μ − μ'‖² ``[...]``."""
        return (self.mean - other.mean).square().sum(-1)

    def entropy(self) -> Tensor:
        """½ log(πe) a dimension ``[...]``."""
        return torch.full_like(self.mean, 0.5 + 0.5 * math.log(math.pi)).sum(-1)

    def fisher_product(self, tangent: SquaredErrorGaussian) -> SquaredErrorGaussian:
        """The Fisher metric of μ applied to a tangent: 2 dμ."""
        return SquaredErrorGaussian(2.0 * tangent.mean)


Distribution = DiagonalGaussian | Categorical | CategoricalProduct | SquaredErrorGaussian

Choices = bool | tuple[int, ...]
"""What an action is: numbers (False), one choice (True), or several, among so many each."""


@lru_cache
def action_family(choices: Choices) -> type[Any]:
    """The kind of distribution over actions that are numbers, one choice, or several."""
    if isinstance(choices, bool):
        return Categorical if choices else DiagonalGaussian
    return type("CategoricalProduct", (CategoricalProduct,), {"sizes": choices, "__slots__": ()})


def mixture(drawn: Distribution) -> Distribution:
    """The mean over the first axis, in equal parts, of distributions over ``[L, ...]``.

    Probabilities of classes are exact. Of Gaussians it is the one with the mixture's mean and
    variance, dimension by dimension.
    """
    if isinstance(drawn, Categorical):
        log_p = F.log_softmax(drawn.logits, dim=-1)
        return Categorical(log_p.logsumexp(0) - math.log(len(log_p)))
    assert not isinstance(drawn, CategoricalProduct)  # actions, which nobody averages
    between = drawn.mean.var(0, correction=0)
    if isinstance(drawn, DiagonalGaussian):
        within = (2.0 * drawn.log_std).exp().expand_as(drawn.mean).mean(0)
    else:
        within = torch.full_like(between, 0.5)
    return DiagonalGaussian(drawn.mean.mean(0), 0.5 * (within + between).log())
