"""Matching networks (Vinyals, Blundell, Lillicrap, Kavukcuoglu and Wierstra 2016).

A query takes the labels of the support examples that it attends to,

    p(y = k | x) = Σ_i a(x, x_i) [y_i = k],   a(x, x_i) ∝ exp(s cos(f(x), f(x_i))),   (eq. 1)

trained on the very task that it is tested on: as many ways and shots (section 2.2). Support and
query share the network f: these are the networks without full context embeddings.

The scale s is learned, from 10. The paper has s = 1; but a cosine lies in [−1, 1], so the support's
only example of the right class could then never get more than e/(e + (n−1)/e) of n ways' attention:
65 % of five, 28 % of twenty.
"""

from __future__ import annotations

import math

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from metarl.agents.support_set_agent import Predict
from metarl.algorithms.prototypical_networks import PrototypicalNetworks
from metarl.algorithms.settings.embedding import MatchingSettings
from metarl.maths.distributions import Categorical, Distribution
from metarl.maths.params import Params
from metarl.random import Key

_INITIAL_SCALE = 10.0


class MatchingNetworks(PrototypicalNetworks):
    """Matching networks without full context embeddings."""

    config_class = MatchingSettings

    def initial_params(self, rng: np.random.Generator) -> Params:
        """The embedding's, and log s."""
        log_scale = torch.tensor(math.log(_INITIAL_SCALE))
        return super().initial_params(rng) | {"log_scale": log_scale}

    def predictor(self, params: Params, features: Tensor, targets: Tensor, key: Key) -> Predict:
        """Attention over the support set ``[M, S, f]``."""
        keys = params["log_scale"].exp() * F.normalize(features, dim=2)
        member = F.one_hot(targets).to(torch.bool)  # [M, S, ways]

        def predict(x: Tensor) -> Distribution:
            scores = torch.bmm(F.normalize(x, dim=2), keys.mT).unsqueeze(3)  # [M, Q, S, 1]
            of_class = scores.masked_fill(~member.unsqueeze(1), -math.inf)
            return Categorical(of_class.logsumexp(2))  # log of a class's attention, unnormalised

        return predict
