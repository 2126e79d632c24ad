"""Policies as functions of explicit parameters, for one task or for a stack of tasks at once.

A stacked layer is one ``baddbmm`` over the task axis: M tasks cost one call, not M.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from gymnasium import spaces
from torch import Tensor

from metarl.distributions import Categorical, DiagonalGaussian, Distribution
from metarl.params import Params
from metarl.types import Decision, Inputs

Activation = Literal["tanh", "relu"]


@dataclass(frozen=True)
class MLPPolicy:
    """A feed-forward policy: observation → layers → Gaussian or categorical actions.

    The Gaussian's log σ is a parameter of its own, free of the observation; it adapts with the
    others. Its mean is ``action_scale`` times the network's output, so that one unit of the
    network can stand for the unit in which a task's own actions are natural.

    Attributes:
        observation_dim: o.
        action_dim: a; the number of actions where ``discrete``.
        discrete: Categorical instead of Gaussian.
        hidden_sizes: Widths of the hidden layers.
        activation: Of the hidden layers.
        initial_std: σ before training, in units of the action's [-1, 1].
        min_std: A floor under σ; below it log σ is clamped.
        action_scale: Actions per unit of the network's output.
        std_rate: log σ is this many times its parameter. It leaves the policies that can be
            expressed as they are, and makes a gradient step of size α move log σ by α·std_rate²
            times the derivative, so that the noise can adapt faster than the mean, or slower.
    """

    observation_dim: int
    action_dim: int
    discrete: bool = False
    hidden_sizes: tuple[int, ...] = (64, 64)
    activation: Activation = "tanh"
    initial_std: float = 1.0
    min_std: float = 1e-6
    action_scale: float = 1.0
    std_rate: float = 1.0

    @property
    def family(self) -> type[DiagonalGaussian] | type[Categorical]:
        """The kind of distribution over actions."""
        return Categorical if self.discrete else DiagonalGaussian

    @classmethod
    def for_spaces(
        cls, observation_space: spaces.Space, action_space: spaces.Space, **options: object
    ) -> MLPPolicy:
        """The policy for an environment's single spaces.

        Raises:
            ValueError: if the observation is not a flat Box, or the action neither a flat Box
                nor Discrete.
        """
        if not isinstance(observation_space, spaces.Box) or len(observation_space.shape) != 1:
            raise ValueError(f"observations must be a flat Box, not {observation_space}")
        if isinstance(action_space, spaces.Discrete):
            action_dim, discrete = int(action_space.n), True
        elif isinstance(action_space, spaces.Box) and len(action_space.shape) == 1:
            action_dim, discrete = action_space.shape[0], False
        else:
            raise ValueError(f"actions must be a flat Box or Discrete, not {action_space}")
        return cls(observation_space.shape[0], action_dim, discrete, **options)  # type: ignore[arg-type]

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
            log_std = math.log(self.initial_std) / self.std_rate
            params["log_std"] = torch.full((self.action_dim,), log_std)
        return params

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
        activation = torch.tanh if self.activation == "tanh" else torch.relu
        x = observation
        for i in range(len(self.hidden_sizes) + 1):
            if i > 0:
                x = activation(x)
            bias = params[f"layer{i}.bias"].unsqueeze(1)  # [M, 1, out]
            x = torch.baddbmm(bias, x, params[f"layer{i}.weight"])  # [M, N, out]
        if self.discrete:
            return Categorical(x)
        log_std = (self.std_rate * params["log_std"]).clamp(min=math.log(self.min_std))
        return DiagonalGaussian(self.action_scale * x, log_std.unsqueeze(1))


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
        """Noise for actions of the given leading shape: float32 ``[*shape, a]``."""
        return self.policy.family.noise(rng, (*shape, self.policy.action_dim))

    @torch.no_grad()
    def act(self, inputs: Inputs, noise: Tensor, carry: None) -> Decision:
        """Actions ``[M, B, a]`` (or ``[M, B]``) from the observation alone: nothing is carried."""
        distribution = self.policy(self.params, inputs.observations)
        action = distribution.sample(noise)
        return Decision(action, distribution.log_prob(action), None, None)
