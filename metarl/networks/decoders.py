"""What a latent says of the steps of a trial: decoders of rewards, next observations and tasks.

A decoder answers for T samples of m and K steps of each of N trials with −log p of what was there,
``[T, K, N]``, up to constants: ½ (x − x̂)² in the units of x where p is a Gaussian.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from metarl.maths.params import Params
from metarl.networks.layers import linear, perceptron, perceptron_params
from metarl.types import RewardDecoder


class DecodedSteps(NamedTuple):
    """Steps of trials that are decoded, ``[K, N, ...]``.

    Attributes:
        observations: ``[K, N, o]``, as the agent was shown them.
        actions: ``[K, N, a]``, choices one-hot.
        next_observations: What the step led to, ``[K, N, o]``.
        rewards: ``[K, N]``, in the units in which they are decoded.
        pays: Whether the reward was above 0, bool ``[K, N]``.
    """

    observations: Tensor
    actions: Tensor
    next_observations: Tensor
    rewards: Tensor
    pays: Tensor


@dataclass(frozen=True)
class StepDecoder:
    """(m, a step) → numbers, a perceptron with ReLU; m and step meet in its first layer.

    Attributes:
        name: Of its parameters.
        latent: k.
        step_size: Numbers of a step.
        hidden: Widths.
        outputs: Numbers that come out.
    """

    name: str
    latent: int
    step_size: int
    hidden: tuple[int, ...]
    outputs: int

    def init(self, rng: np.random.Generator) -> Params:
        """Fresh parameters: orthogonal weights, zero biases."""
        sizes = (self.latent + self.step_size, *self.hidden, self.outputs)
        return perceptron_params(rng, self.name, sizes, math.sqrt(2.0), 1.0)

    def __call__(self, params: Mapping[str, Tensor], m: Tensor, steps: Tensor) -> Tensor:
        """``[T, K, N, out]`` of samples ``[T, N, k]`` with steps ``[K, N, d]``, all pairs."""
        weight, bias = params[f"{self.name}0.weight"], params[f"{self.name}0.bias"]
        of_m, of_step = weight.split([self.latent, self.step_size])
        x = (m @ of_m).unsqueeze(1) + (steps @ of_step + bias).unsqueeze(0)
        for i in range(1, len(self.hidden) + 1):
            x = linear(params, f"{self.name}{i}", torch.relu(x))
        return x


@dataclass(frozen=True)
class Decoders:
    """The decoders of a model, whose −log p are added.

    Attributes:
        latent: k.
        observation_dim: o.
        action_dim: a.
        hidden: Widths of their hidden layers.
        rewards: "squared_error" of r given (m, o, a, o′); "bernoulli": whether r > 0, given the
            same; "bernoulli_by_state": whether r > 0, with one output for each entry of a one-hot
            o′, so that the reward is a function of m and the state reached; "none".
        states: Whether o′ is decoded, given (m, o, a).
        tasks: d, numbers of the task that is decoded from m; 0: none.
    """

    latent: int
    observation_dim: int
    action_dim: int
    hidden: tuple[int, ...]
    rewards: RewardDecoder = "squared_error"
    states: bool = False
    tasks: int = 0

    def init(self, rng: np.random.Generator) -> Params:
        """Fresh parameters of all but the task's decoder, which come with :meth:`init_tasks`."""
        params: Params = {}
        if self.rewards == "bernoulli_by_state":
            params |= self._of_m(rng, "rewards", self.observation_dim)
        elif self.rewards != "none":
            params |= self._of_rewards.init(rng)
        return params | (self._of_states.init(rng) if self.states else {})

    def init_tasks(self, rng: np.random.Generator) -> Params:
        """Fresh parameters of the task's decoder."""
        return self._of_m(rng, "tasks", self.tasks) if self.tasks else {}

    def negative_log_prob(
        self, params: Mapping[str, Tensor], m: Tensor, steps: DecodedSteps
    ) -> dict[str, Tensor]:
        """−log p of the steps' rewards and next observations, ``[T, K, N]`` each.

        Args:
            params: See :meth:`init`.
            m: ``[T, N, k]``.
            steps: K of each trial.
        """
        found, (observed, acted, reached, rewards, pays) = {}, steps
        if self.rewards == "bernoulli_by_state":
            logits = self.pays(params, m)  # [T, N, o]
            cell = reached.argmax(-1).unsqueeze(0).expand(len(m), -1, -1)  # [T, K, N]
            logits = logits.transpose(1, 2).gather(1, cell)
            found["rewards"] = _bernoulli(logits, pays)
        elif self.rewards != "none":
            told = torch.cat([observed, acted, reached], dim=-1)
            output = self._of_rewards(params, m, told).squeeze(-1)
            squared = self.rewards == "squared_error"
            error = 0.5 * (output - rewards).square() if squared else _bernoulli(output, pays)
            found["rewards"] = error
        if self.states:
            output = self._of_states(params, m, torch.cat([observed, acted], dim=-1))
            found["states"] = 0.5 * (output - reached).square().sum(-1)
        return found

    def pays(self, params: Mapping[str, Tensor], m: Tensor) -> Tensor:
        """The logit that reaching each state pays, ``[..., o]`` of m ``[..., k]``."""
        return perceptron(params, "rewards", len(self.hidden), m, torch.relu)

    def task_error(self, params: Mapping[str, Tensor], m: Tensor, tasks: Tensor) -> Tensor:
        """−log p of the task ``[T, N]`` for tasks ``[N, d]`` in the units of their deviation."""
        output = perceptron(params, "tasks", len(self.hidden), m, torch.relu)
        return 0.5 * (output - tasks).square().sum(-1)

    @property
    def _of_rewards(self) -> StepDecoder:
        told = 2 * self.observation_dim + self.action_dim
        return StepDecoder("rewards", self.latent, told, self.hidden, 1)

    @property
    def _of_states(self) -> StepDecoder:
        told, out = self.observation_dim + self.action_dim, self.observation_dim
        return StepDecoder("states", self.latent, told, self.hidden, out)

    def _of_m(self, rng: np.random.Generator, name: str, outputs: int) -> Params:
        sizes = (self.latent, *self.hidden, outputs)
        return perceptron_params(rng, name, sizes, math.sqrt(2.0), 1.0)


def _bernoulli(logits: Tensor, happened: Tensor) -> Tensor:
    """−log p of whether it happened."""
    return F.softplus(torch.where(happened, -logits, logits))
