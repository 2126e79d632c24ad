"""Recurrent policies: one memory over a sequence of inputs, an actor head and a critic head.

:meth:`RecurrentPolicy.sequence` is one fused call over time, for the update; the rollout's way
through the same parameters, step by step, is :class:`RecurrentActor`.
"""

from __future__ import annotations

import functools
import itertools
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

import numpy as np
import torch
from torch import Tensor

from metarl.maths.distributions import Choices, DiagonalGaussian, Distribution, action_family
from metarl.maths.params import Params
from metarl.maths.running_moments import RunningMoments
from metarl.networks.images import ImageEncoder
from metarl.networks.input_features import InputFeatures
from metarl.networks.layers import perceptron, perceptron_params
from metarl.networks.memory_cores import LSTM, CoreMaker, Memory, MemoryCore
from metarl.types import Decision, Inputs

_BLOCK_BYTES = 8 * 2**20


class Outputs(NamedTuple):
    """What a sequence gives: π over ``[S, N]`` actions, values ``[S, N]``, its last memory.

    A policy without a critic has None for values.
    """

    distribution: Any
    values: Any
    memory: Memory


@dataclass(frozen=True)
class RecurrentPolicy:
    """(observation, previous action, previous reward, start of episode) → memory → π and V.

    Each input is embedded by a layer of its own (linear, ReLU) or taken as it is; discrete actions
    are one-hot. The heads are linear, or have hidden tanh layers of their own. The Gaussian's log σ
    is a parameter, free of the inputs. Nothing resets the memory but the caller.

    Attributes:
        observation_dim: o.
        action_dim: a; the number of options, of all choices together, where ``discrete``.
        discrete: Categorical instead of Gaussian: True for one choice, or the sizes of several.
        make_core: The kind of memory.
        width: H, of the memory's hidden states.
        embeddings: Widths for the observation, the action, the reward; 0: as it is.
        head_sizes: Widths of the heads' hidden layers.
        initial_std: σ before training, in units of the action's [−1, 1].
        min_std: A floor under σ; below it log σ is clamped.
        encoder: Whose features stand for the observation where it is an image; else None.
    """

    observation_dim: int
    action_dim: int
    discrete: Choices = False
    make_core: CoreMaker = LSTM
    width: int = 128
    embeddings: tuple[int, int, int] = (0, 0, 0)
    head_sizes: tuple[int, ...] = ()
    initial_std: float = 1.0
    min_std: float = 1e-6
    encoder: ImageEncoder | None = None

    @property
    def family(self) -> type[Distribution]:
        """The kind of distribution over actions."""
        family: type[Distribution] = action_family(self.discrete)
        return family

    @property
    def action_shape(self) -> tuple[int, ...]:
        """Of one action."""
        return self.features.action_shape

    @functools.cached_property
    def features(self) -> InputFeatures:
        """What the memory is fed at every step."""
        return InputFeatures(
            self.observation_dim, self.action_dim, self.discrete, self.embeddings, self.encoder
        )

    @functools.cached_property
    def core(self) -> MemoryCore:
        """The memory."""
        return self.make_core(self.features.size, self.width)

    def init(self, rng: np.random.Generator) -> Params:
        """Fresh parameters: orthogonal weights (Saxe et al. 2014), zero biases, log σ.

        Gains: √2 before a hidden layer, 1 for the critic, 0.01 for the last layer of the actor, so
        that all actions are near 0 at first (Andrychowicz et al. 2021). The memory's are the
        core's. Drawn with numpy, so that every device starts from the same numbers.
        """
        params = self.features.init(rng) | self.core.init(rng)
        for head, n_out, gain in (("actor", self.action_dim, 0.01), ("critic", 1, 1.0)):
            sizes = (self.width, *self.head_sizes, n_out)
            params |= perceptron_params(rng, head, sizes, math.sqrt(2.0), gain)
        if not self.discrete:
            params["log_std"] = torch.full((self.action_dim,), math.log(self.initial_std))
        return params

    def sequence(
        self,
        params: Mapping[str, Tensor],
        inputs: Inputs,
        memory: Memory | None = None,
        truncate_every: int | None = None,
    ) -> Outputs:
        """π and V at every step of N lanes, differentiable through all of time.

        On the CPU time goes by blocks whose tensors are small enough for the allocator to keep:
        larger ones are mapped and zeroed by the kernel on every use. Gradients cross blocks.

        Args:
            params: See :meth:`init`.
            inputs: ``[S, N, ...]``, padding at the tail; they are not normalised here.
            memory: Before the first step; None: that of a trial's start.
            truncate_every: Cut the gradient, and only it, after every so many steps: the memory
                goes on, and each step is credited to at most so many steps before it (truncated
                backpropagation, Williams and Peng 1990). None: never.
        """
        steps, lanes = inputs.observations.shape[:2]
        heads, values = [], []
        for begin, end in _blocks(steps, self._block_steps(inputs), truncate_every):
            x = self.features(params, Inputs(*(x[begin:end] for x in inputs)))
            memory = memory or self.core.initial(lanes, x)
            if truncate_every and begin % truncate_every == 0:
                memory = tuple(m.detach() for m in memory)
            hidden, memory = self.core.sequence(params, x, memory)
            heads.append(self.head(params, "actor", hidden))
            values.append(self.head(params, "critic", hidden).squeeze(-1))
        assert memory is not None  # a sequence has a step
        return Outputs(self.distribution(params, torch.cat(heads)), torch.cat(values), memory)

    def decide(
        self, params: Mapping[str, Tensor], hidden: Tensor, fed: Tensor
    ) -> tuple[Distribution, Tensor]:
        """See :class:`MemoryPolicy`; what the memory was fed does not matter by itself."""
        value = self.head(params, "critic", hidden).squeeze(-1)
        return self.distribution(params, self.head(params, "actor", hidden)), value

    def distribution(self, params: Mapping[str, Tensor], head: Tensor) -> Distribution:
        """π from the actor head's output ``[..., a]``."""
        if self.discrete:
            family: Any = self.family
            return family(head)
        return DiagonalGaussian(head, params["log_std"].clamp(min=math.log(self.min_std)))

    def head(self, params: Mapping[str, Tensor], name: str, x: Tensor) -> Tensor:
        """The output of the "actor" head or the "critic" head for hidden states ``[..., H]``."""
        return perceptron(params, name, len(self.head_sizes), x, torch.tanh)

    def _block_steps(self, inputs: Inputs) -> int:
        """Steps of a block whose largest tensor stays within bounds; all on a GPU."""
        steps, lanes = inputs.observations.shape[:2]
        if inputs.observations.is_cuda:
            return steps
        encoded = 0 if self.encoder is None else self.encoder.widest
        widest = max(self.core.widest, encoded)
        step_bytes = lanes * widest * inputs.previous_rewards.element_size()
        return max(1, _BLOCK_BYTES // step_bytes)


def normalized(inputs: Inputs, moments: RunningMoments) -> Inputs:
    """With previous rewards normalised by their moments; the observations have been before."""
    rewards = moments.normalize(inputs.previous_rewards.unsqueeze(-1)).squeeze(-1)
    return inputs._replace(previous_rewards=rewards)


class MemoryPolicy(Protocol):
    """What a :class:`RecurrentActor` asks of its policy."""

    @property
    def features(self) -> InputFeatures:
        """What the memory is fed."""

    @property
    def core(self) -> MemoryCore:
        """The memory."""

    @property
    def family(self) -> Any:
        """The kind of distribution over actions, which knows its noise."""

    @property
    def action_dim(self) -> int:
        """Numbers of noise for an action."""

    def decide(self, params: Mapping[str, Tensor], hidden: Tensor, fed: Tensor) -> tuple[Any, Any]:
        """π and V ``[...]``, or None, for hidden states ``[..., H]`` and what led to them."""


class RecurrentActor:
    """A recurrent policy, as the rollout wants it: single steps, no gradients, on the CPU.

    Args:
        policy: The function.
        params: On the CPU; later changes of them are not seen.
        moments: By which inputs are normalised: the observation's columns, then the reward.

    Attributes:
        moments: Those of the observation; None where it is not normalised.
    """

    def __init__(
        self, policy: MemoryPolicy, params: Params, moments: RunningMoments | None = None
    ) -> None:
        self.policy: Any = policy
        self.params = {name: p.detach().clone() for name, p in params.items()}
        self.moments = None if moments is None else moments.columns(slice(None, -1))
        if policy.features.encoder is not None:
            self.moments = None  # images are as they are
        self._reward_moments = None if moments is None else moments.columns(slice(-1, None))
        self._core = policy.core.prepare(self.params)

    def draw_noise(self, rng: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
        """Noise for actions of the given leading shape: float32 ``[*shape, a]``."""
        return self.policy.family.noise(rng, (*shape, self.policy.action_dim))

    def initial_memory(self, lanes: int) -> Memory:
        """That of N lanes at the start of a trial."""
        return self.policy.core.initial(lanes, next(iter(self.params.values())))

    def act(self, inputs: Inputs, noise: Tensor, carry: Memory | None) -> Decision:
        """Actions and values ``[M, B]`` for inputs ``[M, B, ...]``; the carry is the memory."""
        distribution, value, memory = self.step(inputs, carry)
        action = distribution.sample(noise)
        return Decision(action, distribution.log_prob(action), value, memory)

    def of_tasks(self, which: slice) -> RecurrentActor:
        """Itself: it knows no tasks."""
        return self

    @torch.no_grad()
    def step(self, inputs: Inputs, memory: Memory | None) -> Outputs:
        """One step of all lanes: π over ``[M, B]``, V ``[M, B]``, the next memory.

        It may write into the memory that it is given.
        """
        hidden, x, memory = self.remember(inputs, memory)
        distribution, value = self.policy.decide(self.params, hidden, x)
        return Outputs(distribution, value, memory)

    def remember(self, inputs: Inputs, memory: Memory | None) -> tuple[Tensor, Tensor, Memory]:
        """Hidden states ``[M, B, H]``, what the memory was fed, and the next memory."""
        shape = inputs.observations.shape[:2]
        rows = Inputs(*(x.flatten(0, 1) for x in inputs))
        if self._reward_moments is not None:
            rows = normalized(rows, self._reward_moments)
        memory = memory or self.initial_memory(len(rows.observations))
        x = self.policy.features(self.params, rows)
        hidden, memory = self.policy.core.step(self._core, x, memory)
        return hidden.view(*shape, -1), x.view(*shape, -1), memory


def _blocks(steps: int, longest: int, cut_every: int | None) -> list[tuple[int, int]]:
    """Bounds of consecutive blocks of [0, steps), with one at every multiple of ``cut_every``."""
    bounds = set(range(0, steps, cut_every or steps))
    for begin in sorted(bounds):
        bounds |= set(range(begin, min(begin + (cut_every or steps), steps), longest))
    return list(itertools.pairwise([*sorted(bounds), steps]))
