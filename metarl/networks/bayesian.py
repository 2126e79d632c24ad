"""Networks whose parameters are Gaussian: predictions by weights drawn with given noise."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from metarl.maths.distributions import DiagonalGaussian, Distribution, mixture
from metarl.maths.params import Params
from metarl.networks.autograd_pass import AutogradPass

MEAN, LOG_STD, PRIOR = "mean.", "log_std.", "prior."
"""Before a parameter's name: its μ and log σ under q; before these, the same of the prior."""


class Variational(NamedTuple):
    """Predictions under q, where a network without q has a distribution.

    Attributes:
        drawn: By each of L draws of the weights, over targets ``[L, M, N]``.
        penalty: A row's share of KL(q ‖ prior), ``[M, 1]``.
    """

    drawn: Distribution
    penalty: Tensor

    def log_prob(self, targets: Tensor) -> Tensor:
        """E_q[log p(y | x, w)] less the penalty ``[M, N]``, whose sum is the evidence bound."""
        of_every_draw = targets.expand(len(self.drawn[0]), *targets.shape)
        return self.drawn.log_prob(of_every_draw).mean(0) - self.penalty

    def predictive(self) -> Distribution:
        """E_q[p(y | x, w)] over targets ``[M, N]``."""
        return mixture(self.drawn)


@dataclass(frozen=True)
class BayesianNetwork:
    """A network under q = N(μ, diag σ²) of its parameters, which an adaptation step moves.

    Of every parameter n of the network it has ``mean.n`` and ``log_std.n``, and the same of the
    prior, ``prior.mean.n`` and ``prior.log_std.n``.

    Attributes:
        network: What the drawn weights are for.
        shapes: Of its parameters, by name.
        noise: Adaptation steps before this ↦ ε ``[L, P]``, which all tasks share.
        kl_weight: Factor on KL(q ‖ prior).
        step: Adaptation steps so far.
    """

    network: Any
    shapes: Mapping[str, torch.Size]
    noise: Callable[[int], Tensor]
    kl_weight: float = 1.0
    step: int = 0

    @property
    def widest(self) -> int:
        """Numbers in the widest layer, in all draws together."""
        return int(self.network.widest * len(self.noise(self.step)))

    def at(self, step: int) -> BayesianNetwork:
        """The same after so many adaptation steps: with other noise."""
        return replace(self, step=step)

    def normalised_by(self, rows: int) -> BayesianNetwork:
        """As the network's."""
        return replace(self, network=self.network.normalised_by(rows))

    def __call__(self, params: Mapping[str, Tensor], inputs: Tensor) -> Variational:
        """Predictions for inputs ``[M, N, x]`` under stacked parameters ``[M, ...]``."""
        num_tasks, rows = inputs.shape[:2]
        noise = self.noise(self.step)
        draws, sizes = len(noise), [shape.numel() for shape in self.shapes.values()]
        weights: Params = {}
        for (n, shape), eps in zip(self.shapes.items(), noise.split(sizes, dim=1), strict=True):
            q = DiagonalGaussian(params[MEAN + n], params[LOG_STD + n])
            weights[n] = q.sample(eps.view(draws, 1, *shape)).flatten(0, 1)  # [L·M, ...]
        distribution = self.network(weights, inputs.repeat(draws, 1, 1))
        drawn = (part.unflatten(0, (draws, num_tasks)) for part in distribution)
        penalty = self.kl_weight / rows * self.kl(params)
        return Variational(type(distribution)(*drawn), penalty.unsqueeze(1))

    def through(self, params: Mapping[str, Tensor], inputs: Tensor) -> AutogradPass:
        """The same, to be differentiated."""
        network: Any = self
        return AutogradPass(network, params, inputs)

    def kl(self, params: Mapping[str, Tensor]) -> Tensor:
        """KL(q ‖ prior) of every task ``[M]``, nats."""

        def gaussian(whose: str) -> DiagonalGaussian:
            every = ([params[whose + part + n] for n in self.shapes] for part in (MEAN, LOG_STD))
            return DiagonalGaussian(*(torch.cat([p.flatten(1) for p in ps], 1) for ps in every))

        return gaussian("").kl(gaussian(PRIOR))


def antithetic(rng: np.random.Generator, draws: int, size: int) -> Tensor:
    """Standard normal noise ``[draws, size]``, every second draw the one before it with its sign
    changed, so that errors of odd order cancel between them.
    """
    half = torch.from_numpy(rng.standard_normal((-(-draws // 2), size), dtype=np.float32))
    return torch.stack([half, -half], dim=1).flatten(0, 1)[:draws]
