"""VERSA: amortised inference of a task's classifier (Gordon, Bronskill, Bauer, Nowozin and Turner
2019).

A network shared by all tasks reads the support set D and says how a linear layer on the embedding
f is to be distributed: for every class of its own, from the mean of that class's features alone,

    q(w_k, b_k | D) = N(μ_φ(h_k), diag σ_φ²(h_k)),   h_k = mean of f(x_i) over class k.  (section 3)

What is maximised is the predictive probability of query examples by Monte Carlo,

    max_(θ,φ)  E_task [ log (1/L) Σ_l p(y | x, w^l) ],   w^l ~ q(· | D).                (eq. 4)

A logit is linear in w and so a Gaussian itself: logits are drawn in place of weights, which is the
same in distribution for each query. A regression's h is the mean over the support set of what a
third network makes of (f(x_i), y_i), and its expectation over w needs no samples: y is Gaussian,
its mean E[w]·f(x) + E[b], its variance that of w·f(x) + b and ½, the squared error's, together.
"""

from __future__ import annotations

import numpy as np
import torch
from gymnasium import spaces
from torch import Tensor

from metarl.agents.support_set_agent import Predict
from metarl.algorithms.prototypical_networks import PrototypicalNetworks, class_means
from metarl.algorithms.settings.embedding import VersaSettings
from metarl.maths.distributions import Categorical, DiagonalGaussian, Distribution, mixture
from metarl.maths.params import Params
from metarl.networks.embedding import Perceptron
from metarl.random import Key

NOISE = 0.5  # variance of a regression's targets, whose −log p is the squared error


class VERSA(PrototypicalNetworks):
    """VERSA for classification, and for regression."""

    config_class = VersaSettings
    classes_only = False
    config: VersaSettings

    def initial_params(self, rng: np.random.Generator) -> Params:
        """The embedding's, and those of the amortisation networks."""
        params = self.embedding.init(rng)
        for network in self._amortisation():
            params |= network.init(rng)
        return params

    def _amortisation(self) -> tuple[Perceptron, ...]:
        """From h to μ and log σ of weights and bias; in regression, before it, from (f, y)."""
        f, hidden = self.embedding.feature_dim, self.config.amortisation_sizes
        if isinstance(self.target_space, spaces.Discrete):
            return (Perceptron((f, *hidden, 2 * (f + 1)), prefix="weights."),)
        (y,) = self.target_space.shape or ()
        return (
            Perceptron((hidden[-1], *hidden, 2 * y * (f + 1)), prefix="weights."),
            Perceptron((f + y, *hidden), prefix="pairs."),
        )

    def linear_weights(self, params: Params, features: Tensor, targets: Tensor) -> DiagonalGaussian:
        """q of every output's weights and, last, its bias ``[M, ways or y, f + 1]``."""
        network, *of_pairs = self._amortisation()
        if of_pairs:
            pairs = of_pairs[0](params, torch.cat([features, targets], dim=2))
            pooled = pairs.mean(1)  # [M, h]
        else:
            pooled = class_means(features, targets)  # [M, ways, f]
        out = network(params, pooled).view(len(features), -1, 2, features.shape[2] + 1)
        return DiagonalGaussian(out[:, :, 0], out[:, :, 1])

    def predictor(self, params: Params, features: Tensor, targets: Tensor, key: Key) -> Predict:
        """The predictive distribution under q: by L samples of the logits, or exact."""
        weights = self.linear_weights(params, features, targets)

        def predict(x: Tensor) -> Distribution:
            outputs = linear_outputs(weights, x)
            if targets.ndim == 3:
                variance = (2.0 * outputs.log_std).exp() + NOISE
                return DiagonalGaussian(outputs.mean, 0.5 * variance.log())
            # All tasks share the noise, so that nothing depends on how many are judged at once.
            shape = (self.config.samples, 1, *outputs.mean.shape[1:])
            noise = key.generator("action").standard_normal(shape, dtype=np.float32)
            return mixture(Categorical(outputs.sample(torch.from_numpy(noise).to(x))))

        return predict


def linear_outputs(weights: DiagonalGaussian, x: Tensor) -> DiagonalGaussian:
    """w·x + b ``[M, Q, n]`` of weights and biases ``[M, n, f + 1]``, features x ``[M, Q, f]``."""
    x = torch.cat([x, torch.ones_like(x[..., :1])], dim=2)
    variance = torch.bmm(x.square(), (2.0 * weights.log_std).exp().mT)
    return DiagonalGaussian(torch.bmm(x, weights.mean.mT), 0.5 * variance.log())
