"""Policies that are shown a latent beside the observation, which adaptation may move.

The network sees (s, z), z = μ + σ ⊙ ε with ε drawn once an episode, or z = μ alone, a context. μ
and log σ are parameters like the others. Samples hold (s, ε) and not z, so that the latent is
reparameterised (Kingma and Welling 2014): a loss reaches μ and σ through π(a | s, z), by ∂z/∂μ = 1
and ∂z/∂σ = ε, and the density of z itself does not occur.

z enters the first layer only, and that linearly:

    s W + z W_z + b = s W + ε (σ ⊙ W_z) + (b + μ W_z),

so the network of (s, z) is an ordinary one of (s, ε) with another first layer. Its derivatives are
those of the ordinary one, carried through this small map; its cost does not grow with the samples.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from metarl.maths.distributions import Distribution
from metarl.maths.params import Params
from metarl.networks.images import ImageEncoder
from metarl.networks.mlp import Derivatives, MLPPolicy, PolicyPass
from metarl.networks.spaces import Sizes

MEAN, LOG_STD = "latent.mean", "latent.log_std"
_W_Z, _W, _B = "latent.weight", "layer0.weight", "layer0.bias"


@dataclass(frozen=True)
class LatentPolicy(MLPPolicy):
    """A feed-forward policy of an observation and a latent.

    Attributes:
        latent: Numbers of z.
        latent_std: σ before training; 0: z = μ, nothing of it is drawn, and there is no σ.
    """

    latent: int = 2
    latent_std: float = 1.0

    @property
    def drawn(self) -> int:
        """Numbers of ε."""
        return self.latent if self.latent_std > 0 else 0

    @property
    def latent_names(self) -> list[str]:
        """The parameters of z: μ, and log σ where it is drawn."""
        return [MEAN, LOG_STD] if self.drawn else [MEAN]

    @property
    def parameter_names(self) -> list[str]:
        """Those of the ordinary network, W_z, and those of z."""
        return [*super().parameter_names, _W_Z, *self.latent_names]

    @property
    def head_names(self) -> list[str]:
        """Those of its head: the last layer, and log σ of the actions with it."""
        return super().parameter_names[2 * len(self.hidden_sizes) :]

    @property
    def widest(self) -> int:
        """The width of the widest layer."""
        return max(super().widest, self.observation_dim + self.drawn)

    @property
    def noise_dim(self) -> int:
        """Random numbers that a step takes."""
        return self.action_dim + self.drawn

    def init(self, rng: np.random.Generator) -> Params:
        """As :meth:`MLPPolicy.init` of a network of (s, z), W_z ``[z, out]`` apart; μ is 0."""
        params = self._network(self.latent).init(rng)
        whole = params[_W]
        params[_W] = whole[: self.observation_dim].clone()
        params[_W_Z] = whole[self.observation_dim :].clone()
        params[MEAN] = torch.zeros(self.latent)
        if self.drawn:
            params[LOG_STD] = torch.full((self.latent,), self.latent_std).log()
        return params

    def draw_episode_noise(self, rng: np.random.Generator, lanes: int) -> np.ndarray:
        """The actions' where it is an episode's, and ε: float32 ``[B, ...]``."""
        actions = super().draw_episode_noise(rng, lanes)
        epsilon = rng.standard_normal((lanes, self.drawn), dtype=np.float32)
        return np.concatenate([actions, epsilon], axis=-1)

    def with_noise(self, observations: Tensor, noise: Tensor) -> tuple[Tensor, Tensor]:
        """(s, ε) ``[M, B, ·]``, and the noise of the actions ``[M, B, a]``."""
        actions, epsilon = noise.split([self.action_dim, self.drawn], dim=-1)
        return torch.cat([observations, epsilon], dim=-1), actions

    def __call__(self, params: Mapping[str, Tensor], observation: Tensor) -> Distribution:
        """π(· | s, z) over ``[M, N]`` actions, for (s, ε) ``[M, N, ·]``."""
        return self._network(self.drawn)(_folded(params), observation)

    def through(self, params: Mapping[str, Tensor], observations: Tensor) -> PolicyPass:
        """π(· | s, z), to be differentiated."""
        return _LatentPass(self._network(self.drawn), params, observations)

    def _network(self, beside: int) -> MLPPolicy:
        """An ordinary policy, with so many inputs beside the observation."""
        return MLPPolicy(
            self.observation_dim + beside,
            self.action_dim,
            self.discrete,
            self.hidden_sizes,
            self.activation,
            self.initial_std,
            self.min_std,
        )


def latent_policy(sizes: Sizes, encoder: ImageEncoder | None, **settings: Any) -> LatentPolicy:
    """A policy of these sizes, see :func:`metarl.networks.images.feedforward_policy`.

    Raises:
        ValueError: images are observed.
    """
    if encoder is not None:
        raise ValueError(
            "its latent stands beside numbers and not beside images, which maml and its variants "
            "without a latent, and rl2, can see"
        )
    return LatentPolicy(*sizes, **settings)


def _folded(params: Mapping[str, Tensor]) -> Params:
    """The parameters of the ordinary network: W̃ = (W, σ ⊙ W_z), b̃ = b + μ W_z."""
    std = params[LOG_STD].exp() if LOG_STD in params else None
    return _join(params, std, params[_W_Z], _times(params[MEAN], params[_W_Z]))


def _join(
    params: Mapping[str, Tensor], std: Tensor | None, weight: Tensor, shift: Tensor
) -> Params:
    """The network's parameters with σ ⊙ W_z below W, and b shifted."""
    own = {name: p for name, p in params.items() if not name.startswith("latent.")}
    own[_B] = params[_B] + shift
    if std is not None:
        own[_W] = torch.cat([params[_W], std.unsqueeze(-1) * weight], dim=1)
    return own


def _times(row: Tensor, matrix: Tensor) -> Tensor:
    """x W ``[M, h]`` of x ``[M, z]`` and W ``[M, z, h]``."""
    return torch.bmm(row.unsqueeze(1), matrix).squeeze(1)


class _LatentPass(PolicyPass):
    """π(· | s, z) of M tasks on their own samples: the pass of the ordinary network, carried on.

    Args:
        network: The ordinary policy, of (s, ε).
        params: Stacked parameters of the latent one ``[M, ...]``.
        inputs: (s, ε) ``[M, N, ·]``.
    """

    def __init__(self, network: MLPPolicy, params: Mapping[str, Tensor], inputs: Tensor) -> None:
        super().__init__(network, _folded(params), inputs)
        self._names = list(params)
        self._rows = params[_W].shape[1]  # of W
        self._mean, self._weight = params[MEAN], params[_W_Z]
        self._std = params[LOG_STD].exp() if LOG_STD in params else None

    def differentiate(
        self, loss: Callable[[Distribution], Tensor], *, second_order: bool = False
    ) -> Derivatives:
        """Derivatives of a loss ``[M]`` of the distribution; a task's loss is of its own rows."""
        found = super().differentiate(loss, second_order=second_order)
        gradient = self._pull_back(found.gradient)
        network_product = found.hessian_product
        if network_product is None:
            return Derivatives(found.loss, gradient, None)

        def hessian_product(v: Mapping[str, Tensor]) -> Params:
            # R{Jᵀ g} = Jᵀ R{g} + R{Jᵀ} g, where R{g} is the network's own product with J v.
            products = self._pull_back(network_product(self._push_forward(v)))
            bent = self._bend(found.gradient, v)
            return {n: x + bent[n] if n in bent else x for n, x in products.items()}

        return Derivatives(found.loss, gradient, hessian_product)

    def fisher_product(self, weights: Tensor, v: Mapping[str, Tensor]) -> Params:
        """F_m v_m ``[M, ...]``, see :meth:`PolicyPass.fisher_product`."""
        return self._pull_back(super().fisher_product(weights, self._push_forward(v)))

    def _push_forward(self, v: Mapping[str, Tensor]) -> Params:
        """J v: dW̃ = (dW, σ ⊙ (dW_z + d log σ ⊙ W_z)), db̃ = db + dμ W_z + μ dW_z."""
        shift = _times(v[MEAN], self._weight) + _times(self._mean, v[_W_Z])
        weight_t = v[_W_Z]
        if self._std is not None:
            weight_t = weight_t + v[LOG_STD].unsqueeze(-1) * self._weight
        return _join(v, self._std, weight_t, shift)

    def _pull_back(self, g: Mapping[str, Tensor]) -> Params:
        """Jᵀ g, from a gradient g of W̃ = (W, ε's rows), b̃ and the other layers."""
        of_w, of_noise = g[_W].split([self._rows, g[_W].shape[1] - self._rows], dim=1)
        of_weight = torch.einsum("mz,mh->mzh", self._mean, g[_B])
        found = {_W: of_w, _W_Z: of_weight, MEAN: _times(g[_B], self._weight.mT)}
        if self._std is not None:
            of_weight.addcmul_(self._std.unsqueeze(-1), of_noise)
            found[LOG_STD] = self._std * (self._weight * of_noise).sum(-1)
        return {n: found[n] if n in found else g[n] for n in self._names}

    def _bend(self, g: Mapping[str, Tensor], v: Mapping[str, Tensor]) -> Params:
        """R{Jᵀ} g: how Jᵀ changes along v; of the latent's parameters alone."""
        of_weight = torch.einsum("mz,mh->mzh", v[MEAN], g[_B])
        found = {_W_Z: of_weight, MEAN: _times(g[_B], v[_W_Z].mT)}
        if self._std is not None:
            of_noise, std_t = g[_W][:, self._rows :], self._std * v[LOG_STD]
            of_weight.addcmul_(std_t.unsqueeze(-1), of_noise)
            changed = std_t.unsqueeze(-1) * self._weight + self._std.unsqueeze(-1) * v[_W_Z]
            found[LOG_STD] = (changed * of_noise).sum(-1)
        return found
