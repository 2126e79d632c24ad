"""Policies as functions of explicit parameters, for one task or for a stack of tasks at once.

A stacked layer is one ``baddbmm`` over the task axis: M tasks cost one call, not M.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from metarl.maths.distributions import (
    Choices,
    DiagonalGaussian,
    Distribution,
    SquaredErrorGaussian,
    action_family,
)
from metarl.maths.params import Params
from metarl.maths.running_moments import RunningMoments
from metarl.networks.mlp_pass import Layers, MLPPass, activate_
from metarl.types import Activation, Decision, Inputs, NoiseDrawn


@dataclass(frozen=True)
class MLPPolicy:
    """A feed-forward policy: observation → layers → Gaussian actions or choices.

    The Gaussian's log σ is a parameter of its own, free of the observation; it adapts with the
    others.

    Attributes:
        observation_dim: o.
        action_dim: a; the number of options, of all choices together, where ``discrete``.
        discrete: Categorical instead of Gaussian: True for one choice, or the sizes of several.
        hidden_sizes: Widths of the hidden layers.
        activation: Of the hidden layers.
        initial_std: σ before training, in units of the action's [-1, 1].
        min_std: A floor under σ; below it log σ is clamped.
        noise: Whether the noise of the actions is drawn anew at every step, or once an episode.
            At any one step actions are distributed alike.
    """

    observation_dim: int
    action_dim: int
    discrete: Choices = False
    hidden_sizes: tuple[int, ...] = (64, 64)
    activation: Activation = "tanh"
    initial_std: float = 1.0
    min_std: float = 1e-6
    noise: NoiseDrawn = "step"

    @property
    def family(self) -> type[Distribution]:
        """The kind of distribution over actions."""
        family: type[Distribution] = action_family(self.discrete)
        return family

    @property
    def parameter_names(self) -> list[str]:
        """The names of its parameters, first layer to last, and log σ."""
        layers = range(len(self.hidden_sizes) + 1)
        names = [f"layer{i}.{part}" for i in layers for part in ("weight", "bias")]
        return [*names, "log_std"] if self.family is DiagonalGaussian else names

    @property
    def head_names(self) -> list[str]:
        """Those of its head: the last layer, and log σ with it."""
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
        if self.family is DiagonalGaussian:
            params["log_std"] = torch.full((self.action_dim,), math.log(self.initial_std))
        return params

    @property
    def noise_dim(self) -> int:
        """Random numbers that a step takes, its own and the episode's."""
        return self.action_dim

    def draw_noise(self, rng: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
        """What is drawn anew at every step, float32 ``[*shape, a]``, or ``[*shape, 0]``."""
        each = self.action_dim if self.noise == "step" else 0
        return self.family.noise(rng, (*shape, each))

    def draw_episode_noise(self, rng: np.random.Generator, lanes: int) -> np.ndarray:
        """What stays as it is through an episode of every lane, float32 ``[B, ...]``."""
        once = self.action_dim if self.noise == "episode" else 0
        return self.family.noise(rng, (lanes, once))

    def with_noise(self, observations: Tensor, noise: Tensor) -> tuple[Tensor, Tensor]:
        """What the network is shown ``[M, B, ·]``, and the noise of the actions ``[M, B, a]``.

        Args:
            observations: ``[M, B, o]``.
            noise: Of a step, behind it that of the episode: ``[M, B, noise_dim]``.
        """
        return observations, noise

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
        if self.family is not DiagonalGaussian:
            family: Any = self.family
            return family(output)
        log_std = params["log_std"].clamp(min=math.log(self.min_std))
        return DiagonalGaussian(output, log_std.unsqueeze(1))


@dataclass(frozen=True)
class MLPRegression(MLPPolicy):
    """The same network as a function to be fitted by squared error: input → target."""

    @property
    def family(self) -> type[Distribution]:
        """The kind of distribution over targets."""
        return SquaredErrorGaussian


@dataclass(frozen=True)
class Derivatives:
    """Loss and derivatives of each of M tasks, at the parameters of the pass.

    Attributes:
        loss: L_m(θ_m) ``[M]``.
        gradient: ∇L_m(θ_m) ``[M, ...]``.
        hessian_product: v ``[M, ...]`` ↦ ∇²L_m(θ_m) v_m; None where only the first order was asked.
    """

    loss: Tensor
    gradient: Params
    hessian_product: Callable[[Mapping[str, Tensor]], Params] | None


class PolicyPass:
    """π(· | s) of M tasks on their own samples, under parameters that stay as they are.

    The chain rule is cut in two: autograd differentiates a loss with respect to the network's few
    outputs, :class:`metarl.networks.mlp_pass.MLPPass` the network.

    Args:
        policy: The policy.
        params: Stacked parameters ``[M, ...]``.
        observations: ``[M, N, o]``.

    Attributes:
        distribution: Over ``[M, N]`` actions, without history.
    """

    def __init__(
        self, policy: MLPPolicy, params: Mapping[str, Tensor], observations: Tensor
    ) -> None:
        self._policy = policy
        self._params = params
        with torch.no_grad():
            layers = policy.layers(params)
            self._network = MLPPass(layers, observations, policy.activation)
            self.distribution = policy.head(self._network.output, params)

    def differentiate(
        self, loss: Callable[[Distribution], Tensor], *, second_order: bool = False
    ) -> Derivatives:
        """Derivatives of a loss ``[M]`` of the distribution; a task's loss is of its own rows."""
        names = [n for n in self._params if n == "log_std"]
        heads = {n: self._params[n].detach().requires_grad_() for n in names}
        output = self._network.output.detach().requires_grad_()
        ends = [output, *heads.values()]
        with torch.enable_grad():
            value = loss(self._policy.head(output, heads))
            # The sum over tasks: a task's parameters are its own.
            cotangents = torch.autograd.grad(
                value.sum(), ends, create_graph=second_order, materialize_grads=True
            )
        layers, deltas = self._network.pull_back(cotangents[0].detach())
        gradient = self._named(layers, [c.detach() for c in cotangents[1:]])
        if not second_order:
            return Derivatives(value.detach(), gradient, None)
        bends = self._network.bends(deltas)

        @torch.no_grad()
        def hessian_product(v: Mapping[str, Tensor]) -> Params:
            direction = self._policy.layers(v)
            tangents = self._network.push_forward(direction)
            # The loss's Hessian in the outputs is symmetric: its product is the transposed one's.
            moved, *moved_heads = torch.autograd.grad(
                cotangents,
                ends,
                grad_outputs=[tangents[-1], *(v[n] for n in heads)],
                retain_graph=True,
                materialize_grads=True,
            )
            layers = self._network.second_derivative(direction, tangents, moved, deltas, bends)
            return self._named(layers, moved_heads)

        return Derivatives(value.detach(), gradient, hessian_product)

    @torch.no_grad()
    def fisher_product(self, weights: Tensor, v: Mapping[str, Tensor]) -> Params:
        """F_m v_m ``[M, ...]``, F the Fisher matrix of a task's policy at its own states.

        Gauss–Newton: F = E_s[Jᵀ G J] with J the Jacobian of the distribution's parameters and G
        their Fisher metric, which is the exact Hessian of the mean KL at the old parameters.

        Args:
            weights: Of the rows ``[M, N]``, summing to 1 over each task's.
            v: Stacked directions ``[M, ...]``.
        """
        weights = weights.unsqueeze(-1)
        output_t = self._network.push_forward(self._policy.layers(v))[-1]
        if not isinstance(self.distribution, DiagonalGaussian):
            of_output: Any = type(self.distribution)
            (metric_t,) = self.distribution.fisher_product(of_output(output_t))
            return self._named(self._network.pull_back(weights * metric_t)[0], [])
        # d log σ / d parameter [M, a]: none where the floor holds
        log_std = self._params["log_std"]
        slope = (log_std >= math.log(self._policy.min_std)).to(log_std.dtype)
        tangent = DiagonalGaussian(output_t, (slope * v["log_std"]).unsqueeze(1))
        metric = self.distribution.fisher_product(tangent)
        layers, _ = self._network.pull_back(weights * metric.mean)
        return self._named(layers, [slope * (weights * metric.log_std).sum(1)])

    def _named(self, layers: Layers, heads: list[Tensor]) -> Params:
        """Gradients under the parameters' names, in the parameters' order."""
        flat = [tensor for layer in layers for tensor in layer]
        return dict(zip(self._policy.parameter_names, [*flat, *heads], strict=True))


@dataclass(frozen=True)
class PolicyActor:
    """A policy with stacked parameters, as the rollout wants it: no gradients, on the CPU.

    Attributes:
        policy: The function.
        params: Stacked parameters on the CPU, ``[M, ...]``.
        moments: By which observations are normalised; None: they are not.
    """

    policy: MLPPolicy
    params: Params
    moments: RunningMoments | None = None

    def draw_noise(self, rng: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
        """The policy's, of an episode on every lane: float32 ``[T, B, ...]``."""
        once = self.policy.draw_episode_noise(rng, shape[1])
        steps = self.policy.draw_noise(rng, shape)
        if not once.size:
            return steps
        return np.concatenate([steps, np.broadcast_to(once, (shape[0], *once.shape))], axis=-1)

    @torch.no_grad()
    def act(self, inputs: Inputs, noise: Tensor, carry: None) -> Decision:
        """Actions ``[M, B, a]`` (or ``[M, B]``) from the observation alone: nothing is carried."""
        seen, noise = self.policy.with_noise(inputs.observations, noise)
        distribution = self.policy(self.params, seen)
        action = distribution.sample(noise)
        return Decision(action, distribution.log_prob(action), None, None, seen)

    def of_tasks(self, which: slice) -> PolicyActor:
        """That of some tasks, with parameters that are its own: it may be sent elsewhere."""
        params = {name: p[which].clone() for name, p in self.params.items()}
        return PolicyActor(self.policy, params, self.moments)
