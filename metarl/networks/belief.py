"""A belief about the task: the encoder that revises it at every step, and the policy it informs.

The belief is a Gaussian q(m | τ_:t) of a latent m; a policy is shown its mean and log variance.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from metarl.maths.distributions import DiagonalGaussian, Distribution, action_family
from metarl.maths.params import Params
from metarl.networks.input_features import InputFeatures
from metarl.networks.layers import layer_params, linear, perceptron, perceptron_params
from metarl.networks.memory_cores import LSTM, CoreMaker, Memory, MemoryCore
from metarl.networks.recurrent import RecurrentActor
from metarl.types import Decision, Inputs


@dataclass(frozen=True)
class BeliefEncoder:
    """τ_:t = (o_0, a_0, r_0, o_1, …, o_t) → memory → q(m | τ_:t) = N(μ, diag σ²).

    It is shown what a recurrent policy is shown, see :class:`metarl.types.Inputs`. The belief at a
    trial's first step is the network's output for the first observation at an empty memory.

    Attributes:
        features: Of its inputs.
        make_core: The kind of memory.
        width: H, of the memory's hidden states.
        latent: k, numbers of m.
    """

    features: InputFeatures
    make_core: CoreMaker = LSTM
    width: int = 64
    latent: int = 5

    @functools.cached_property
    def core(self) -> MemoryCore:
        """The memory."""
        return self.make_core(self.features.size, self.width, "encoder.core")

    @functools.cached_property
    def fed(self) -> InputFeatures:
        """What the memory is fed, its parameters named ``encoder.…``."""
        return replace(self.features, prefix="encoder.")

    def init(self, rng: np.random.Generator) -> Params:
        """Fresh parameters, named ``encoder.…``; the belief is nearly N(0, I) at first."""
        features = self.fed.init(rng)
        head = layer_params(rng, "encoder.belief", self.width, 2 * self.latent, 0.1)
        return features | self.core.init(rng) | head

    def sequence(self, params: Mapping[str, Tensor], inputs: Inputs) -> DiagonalGaussian:
        """The belief at every step of whole trials, ``[S, N, k]`` for inputs ``[S, N, ...]``."""
        x = self.fed(params, inputs)
        hidden, _ = self.core.sequence(params, x, self.core.initial(x.shape[1], x))
        return as_gaussian(self.belief(params, hidden))

    def belief(self, params: Mapping[str, Tensor], hidden: Tensor) -> Tensor:
        """(μ, log σ²) ``[..., 2k]`` of hidden states ``[..., H]``."""
        return linear(params, "encoder.belief", hidden)


def as_gaussian(belief: Tensor) -> DiagonalGaussian:
    """N(μ, diag σ²) of numbers (μ, log σ²) ``[..., 2k]``."""
    mean, log_variance = belief.chunk(2, dim=-1)
    return DiagonalGaussian(mean, 0.5 * log_variance)


@dataclass(frozen=True)
class BeliefPolicy:
    """(observation, belief) → π and V: a layer of tanh for each input, then one network for each.

    Attributes:
        encoder: Whose belief it is shown.
        embeddings: Widths for the observation and the belief; 0: as it is.
        head_sizes: Widths of the hidden layers of actor and critic.
        initial_std: σ before training, in units of the action's [−1, 1].
        min_std: A floor under σ; below it log σ is clamped.
    """

    encoder: BeliefEncoder
    embeddings: tuple[int, int] = (0, 0)
    head_sizes: tuple[int, ...] = (64, 64)
    initial_std: float = 1.0
    min_std: float = 1e-6

    @property
    def family(self) -> type[Distribution]:
        """The kind of distribution over actions."""
        family: type[Distribution] = action_family(self.encoder.features.discrete)
        return family

    @property
    def features(self) -> InputFeatures:
        """What the encoder's memory is fed."""
        return self.encoder.fed

    @property
    def core(self) -> MemoryCore:
        """The encoder's memory, which is the agent's."""
        return self.encoder.core

    @property
    def discrete(self) -> bool:
        """Whether actions are choices."""
        return bool(self.encoder.features.discrete)

    @property
    def action_dim(self) -> int:
        """a; the number of options, of all choices together."""
        return self.encoder.features.action_dim

    @property
    def action_shape(self) -> tuple[int, ...]:
        """Of one action."""
        return self.encoder.features.action_shape

    def init(self, rng: np.random.Generator) -> Params:
        """Fresh parameters: orthogonal weights, gains as :class:`RecurrentPolicy` has them."""
        params: Params = {}
        width = 0
        for (name, n_in), embedded in zip(self._inputs, self.embeddings, strict=True):
            if embedded:
                params |= layer_params(rng, f"embed_{name}", n_in, embedded, math.sqrt(2.0))
            width += embedded or n_in
        for head, n_out, gain in (("actor", self.action_dim, 0.01), ("critic", 1, 1.0)):
            sizes = (width, *self.head_sizes, n_out)
            params |= perceptron_params(rng, head, sizes, math.sqrt(2.0), gain)
        if not self.discrete:
            params["log_std"] = torch.full((self.action_dim,), math.log(self.initial_std))
        return params

    def __call__(
        self, params: Mapping[str, Tensor], observation: Tensor, belief: Tensor
    ) -> tuple[Distribution, Tensor]:
        """π over ``[...]`` actions and V ``[...]``, of observations ``[..., o]``.

        Args:
            params: See :meth:`init`.
            observation: As the agent is shown it.
            belief: (μ, log σ²) ``[..., 2k]``.
        """
        parts = []
        for (name, _), embedded, x in zip(
            self._inputs, self.embeddings, (observation, belief), strict=True
        ):
            parts.append(torch.tanh(linear(params, f"embed_{name}", x)) if embedded else x)
        x, hidden = torch.cat(parts, dim=-1), len(self.head_sizes)
        output = perceptron(params, "actor", hidden, x, torch.tanh)
        values = perceptron(params, "critic", hidden, x, torch.tanh).squeeze(-1)
        if self.discrete:
            family: Any = self.family
            return family(output), values
        log_std = params["log_std"].clamp(min=math.log(self.min_std))
        return DiagonalGaussian(output, log_std), values

    @property
    def _inputs(self) -> tuple[tuple[str, int], ...]:
        observed = self.encoder.features.observation_dim
        return ("observation", observed), ("belief", 2 * self.encoder.latent)


class BeliefOutputs(NamedTuple):
    """One step of all lanes: π over ``[M, B]``, V ``[M, B]``, the memory, (μ, log σ²) in rows."""

    distribution: Distribution
    values: Tensor
    memory: Memory
    belief: Tensor


class BeliefActor(RecurrentActor):
    """A policy and the encoder it believes, as the rollout wants them.

    The trial that it plays holds the belief behind the observation, as it was: (o, μ, log σ²).

    Args:
        policy: The function.
        params: The policy's and the encoder's, on the CPU; later changes of them are not seen.
        moments: By which inputs are normalised: the observation's columns, then the reward.
    """

    def act(self, inputs: Inputs, noise: Tensor, carry: Memory | None) -> Decision:
        """Actions and values ``[M, B]`` for inputs ``[M, B, ...]``; the carry is the memory."""
        distribution, value, memory, belief = self.step(inputs, carry)
        action = distribution.sample(noise)
        seen = torch.cat([inputs.observations, belief], dim=-1)
        return Decision(action, distribution.log_prob(action), value, memory, seen)

    @torch.no_grad()
    def step(self, inputs: Inputs, memory: Memory | None) -> BeliefOutputs:  # type: ignore[override]
        """One step of all lanes, inputs ``[M, B, ...]``; it may write into the memory."""
        hidden, _, memory = self.remember(inputs, memory)
        belief = self.policy.encoder.belief(self.params, hidden)
        distribution, values = self.policy(self.params, inputs.observations, belief)
        return BeliefOutputs(distribution, values, memory, belief)
