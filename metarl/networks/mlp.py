"""Policies as functions of explicit parameters, for one task or for a stack of tasks at once.

A stacked layer is one ``baddbmm`` over the task axis: M tasks cost one call, not M.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from metarl.maths.distributions import Categorical, DiagonalGaussian, Distribution
from metarl.maths.params import Params
from metarl.networks.activations import activate_
from metarl.networks.policy_pass import PolicyPass
from metarl.types import Activation, Decision, Inputs


@dataclass(frozen=True)
class MLPPolicy:
    """A feed-forward policy: observation → layers → Gaussian or categorical actions.

    The Gaussian's log σ is a parameter of its own, free of the observation; it adapts with the
    others.

    Attributes:
        observation_dim: o.
        action_dim: a; the number of actions where ``discrete``.
        discrete: Categorical instead of Gaussian.
        hidden_sizes: Widths of the hidden layers.
        activation: Of the hidden layers.
        initial_std: σ before training, in units of the action's [-1, 1].
        min_std: A floor under σ; below it log σ is clamped.
    """

    observation_dim: int
    action_dim: int
    discrete: bool = False
    hidden_sizes: tuple[int, ...] = (64, 64)
    activation: Activation = "tanh"
    initial_std: float = 1.0
    min_std: float = 1e-6

    @property
    def family(self) -> type[DiagonalGaussian] | type[Categorical]:
        """The kind of distribution over actions."""
        return Categorical if self.discrete else DiagonalGaussian

    @property
    def parameter_names(self) -> list[str]:
        """The names of its parameters, first layer to last, and log σ."""
        layers = range(len(self.hidden_sizes) + 1)
        names = [f"layer{i}.{part}" for i in layers for part in ("weight", "bias")]
        return [*names, *self.distribution_names]

    @property
    def distribution_names(self) -> list[str]:
        """Those of its parameters that are the distribution's own, not the network's."""
        return [] if self.discrete else ["log_std"]

    @property
    def head_names(self) -> list[str]:
        """Those of its head: the last layer, and what is the distribution's own."""
        return self.parameter_names[2 * len(self.hidden_sizes) :]

    @property
    def widest(self) -> int:
        """The width of the widest layer."""
        return max(self.observation_dim, self.action_dim, *self.hidden_sizes)

    def init(self, rng: np.random.Generator) -> Params:
        """Fresh parameters: Glorot-uniform weights ``[in, out]``, zero biases, log σ.

        Drawn with numpy, so that every device starts from the same numbers.
        """
        params: Params = {}
        sizes = (self.observation_dim, *self.hidden_sizes, self.action_dim)
        for i, (n_in, n_out) in enumerate(itertools.pairwise(sizes)):
            bound = math.sqrt(6.0 / (n_in + n_out))
            weight = rng.uniform(-bound, bound, (n_in, n_out)).astype(np.float32)
            params[f"layer{i}.weight"] = torch.from_numpy(weight)
            params[f"layer{i}.bias"] = torch.zeros(n_out)
        if not self.discrete:
            params["log_std"] = torch.full((self.action_dim,), math.log(self.initial_std))
        return params

    def draw_noise(self, rng: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
        """Noise for actions of the given leading shape: float32 ``[*shape, a]``."""
        return self.family.noise(rng, (*shape, self.action_dim))

    def __call__(self, params: Mapping[str, Tensor], observation: Tensor) -> Distribution:
        """π(· | s) of every task under that task's own parameters.

        Args:
            params: Stacked parameters, every tensor ``[M, ...]``.
            observation: ``[M, N, o]``.

        Returns:
            A distribution over ``[M, N]`` actions.
        """
        if observation.ndim != 3:
            raise ValueError(f"observations must be [M, N, o], got {tuple(observation.shape)}")
        x = observation
        for i, (weight, bias) in enumerate(self.layers(params)):
            if i > 0:
                x = activate_(x, self.activation)
            x = torch.baddbmm(bias.unsqueeze(1), x, weight)  # [M, N, out]
        return self.head(x, params)

    def through(self, params: Mapping[str, Tensor], observations: Tensor) -> PolicyPass:
        """π(· | s), to be differentiated."""
        return PolicyPass(self, params, observations)

    def layers(self, params: Mapping[str, Tensor]) -> list[tuple[Tensor, Tensor]]:
        """The network's layers, first to last: weight ``[M, in, out]``, bias ``[M, out]``."""
        return [
            (params[f"layer{i}.weight"], params[f"layer{i}.bias"])
            for i in range(len(self.hidden_sizes) + 1)
        ]

    def head(self, output: Tensor, params: Mapping[str, Tensor]) -> Distribution:
        """The distribution over actions that the network's output ``[M, N, a]`` stands for."""
        if self.discrete:
            return Categorical(output)
        log_std = params["log_std"].clamp(min=math.log(self.min_std))
        return DiagonalGaussian(output, log_std.unsqueeze(1))

    def head_tangent(
        self, output_t: Tensor, direction: Mapping[str, Tensor], params: Mapping[str, Tensor]
    ) -> Distribution:
        """:meth:`head`'s derivative along a change of the output ``[M, N, a]`` and of params."""
        if self.discrete:
            return Categorical(output_t)
        log_std_t = self._std_slope(params) * direction["log_std"]
        return DiagonalGaussian(output_t, log_std_t.unsqueeze(1))

    def head_cotangent(
        self, gradient: Distribution, params: Mapping[str, Tensor]
    ) -> tuple[Tensor, Params]:
        """From gradients with respect to :meth:`head`'s result to the output's and the params'."""
        if isinstance(gradient, Categorical):
            return gradient.logits, {}
        log_std = self._std_slope(params) * gradient.log_std.sum(1)
        return gradient.mean, {"log_std": log_std}

    def _std_slope(self, params: Mapping[str, Tensor]) -> Tensor:
        """d log σ / d parameter ``[M, a]``: none where the floor holds."""
        free = params["log_std"] >= math.log(self.min_std)
        return free.to(params["log_std"].dtype)


@dataclass(frozen=True)
class PolicyActor:
    """A policy with stacked parameters, as the rollout wants it: no gradients, on the CPU.

    Attributes:
        policy: The function.
        params: Stacked parameters on the CPU, ``[M, ...]``.
    """

    policy: MLPPolicy
    params: Params

    def draw_noise(self, rng: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
        """The policy's."""
        return self.policy.draw_noise(rng, shape)

    @torch.no_grad()
    def act(self, inputs: Inputs, noise: Tensor, carry: None) -> Decision:
        """Actions ``[M, B, a]`` (or ``[M, B]``) from the observation alone: nothing is carried."""
        distribution = self.policy(self.params, inputs.observations)
        action = distribution.sample(noise)
        return Decision(action, distribution.log_prob(action), None, None)
