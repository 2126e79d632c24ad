"""The networks of recurrent off-policy learning: heads that read what one memory has of a trial.

Actor and critic have each a memory of its own, and each learns from its own loss alone: one memory
for both does not learn, since the critic's gradient is larger by far (Ni et al. 2022).
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from metarl.maths.distributions import Categorical, Choices
from metarl.maths.params import Params
from metarl.maths.running_moments import RunningMoments
from metarl.maths.squashed_gaussian import SquashedGaussian
from metarl.networks.critics import Critics, SquashedActor
from metarl.networks.input_features import InputFeatures
from metarl.networks.memory_cores import Memory, MemoryCore
from metarl.networks.recurrent import Outputs, RecurrentActor
from metarl.types import Inputs


@dataclass(frozen=True)
class History:
    """(observation, previous action, previous reward, start of episode) of every step → memory.

    What heads read at a step is h_t beside what the memory was fed there, x_t: a short way past it
    for what is to be seen now.

    Attributes:
        features: What the memory is fed.
        core: The memory.
    """

    features: InputFeatures
    core: MemoryCore

    @property
    def size(self) -> int:
        """Width of what heads read, h_t and x_t."""
        return self.core.width + self.features.size

    def init(self, rng: np.random.Generator) -> Params:
        """Fresh parameters of the embeddings and the memory."""
        return self.features.init(rng) | self.core.init(rng)

    def __call__(self, params: Mapping[str, Tensor], inputs: Inputs) -> Tensor:
        """(h_t, x_t) ``[S, N, size]`` for N trials from their start, inputs ``[S, N, ...]``."""
        x = self.features(params, inputs)
        hidden, _ = self.core.sequence(params, x, self.core.initial(x.shape[1], x))
        return torch.cat([hidden, x], dim=-1)


@dataclass(frozen=True)
class _HistoryPolicy:
    """What these policies share, see :class:`metarl.networks.recurrent.MemoryPolicy`.

    Attributes:
        history: Its memory.
    """

    history: History

    @property
    def features(self) -> InputFeatures:
        """What the memory is fed."""
        return self.history.features

    @property
    def core(self) -> MemoryCore:
        """The memory."""
        return self.history.core

    @property
    def action_dim(self) -> int:
        """Numbers of noise for an action."""
        return self.features.action_dim

    @property
    def discrete(self) -> Choices:
        """Whether an action is a choice."""
        return self.features.discrete


@dataclass(frozen=True)
class SquashedPolicy(_HistoryPolicy):
    """π(a_t | h_t, x_t), a Gaussian squashed into (−1, 1).

    Attributes:
        actor: Its head.
    """

    actor: SquashedActor
    family = SquashedGaussian

    @property
    def action_shape(self) -> tuple[int, ...]:
        """Of one action."""
        return (self.action_dim,)

    def init(self, rng: np.random.Generator) -> Params:
        """Fresh parameters: see :class:`History` and :class:`SquashedActor`."""
        return self.history.init(rng) | self.actor.init(rng)

    def sequence(self, params: Mapping[str, Tensor], inputs: Inputs) -> SquashedGaussian:
        """π at every step of N trials, over actions ``[S, N, a]``."""
        return self.actor(params, self.history(params, inputs))

    def decide(
        self, params: Mapping[str, Tensor], hidden: Tensor, fed: Tensor
    ) -> tuple[SquashedGaussian, None]:
        """π for h ``[..., H]`` and x; it has no values."""
        return self.actor(params, hidden, fed), None


@dataclass(frozen=True)
class GreedyPolicy(_HistoryPolicy):
    """Q(a | h_t, x_t) of n options; the best is played with probability 1 − ε + ε/n.

    Attributes:
        critic: One, with n outputs.
        epsilon: ε, the probability of an option drawn from all n alike.
    """

    critic: Critics
    epsilon: float = 0.0
    family = Categorical
    action_shape = ()

    def init(self, rng: np.random.Generator) -> Params:
        """Fresh parameters: see :class:`History` and :class:`Critics`."""
        return self.history.init(rng) | self.critic.init(rng)

    def values(self, params: Mapping[str, Tensor], inputs: Inputs) -> Tensor:
        """Q at every step of N trials, ``[S, N, n]``."""
        return self.critic(params, self.history(params, inputs)).squeeze(0)

    def decide(
        self, params: Mapping[str, Tensor], hidden: Tensor, fed: Tensor
    ) -> tuple[Categorical, Tensor]:
        """ε-greedy actions for h ``[..., H]`` and x, and the best value ``[...]``."""
        best, action = self.critic(params, hidden, fed).squeeze(0).max(-1)
        n = self.action_dim
        floor = math.log(self.epsilon / n) if self.epsilon else -math.inf
        logits = best.new_full((*best.shape, n), floor)
        most = math.log1p(self.epsilon / n - self.epsilon)
        return Categorical(logits.scatter(-1, action.unsqueeze(-1), most)), best


class HistoryActor(RecurrentActor):
    """Such a policy as the rollout wants it.

    It is shown observations and rewards as they are, since replay keeps them so, and normalises
    them itself.

    Args:
        policy: The function.
        params: On the CPU; later changes of them are not seen.
        moments: Of the observation's columns, then the reward; None: nothing is normalised.
    """

    def __init__(
        self,
        policy: SquashedPolicy | GreedyPolicy,
        params: Mapping[str, Tensor],
        moments: RunningMoments | None = None,
    ) -> None:
        super().__init__(policy, dict(params))
        self._input_moments = moments

    def step(self, inputs: Inputs, memory: Memory | None) -> Outputs:
        """One step of all lanes, inputs ``[M, B, ...]``; it may write into the memory."""
        return super().step(all_normalized(inputs, self._input_moments), memory)


def all_normalized(inputs: Inputs, moments: RunningMoments | None) -> Inputs:
    """With observations and previous rewards normalised, by moments of the columns of both."""
    if moments is None:
        return inputs
    observations = moments.columns(slice(None, -1)).normalize(inputs.observations)
    rewards = inputs.previous_rewards.unsqueeze(-1)
    rewards = moments.columns(slice(-1, None)).normalize(rewards).squeeze(-1)
    return inputs._replace(observations=observations, previous_rewards=rewards)
