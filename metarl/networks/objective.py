"""Objectives of a policy's update, learned and written by hand, on sequences of experience.

An objective gives every step of a sequence a loss ℓ_t that depends on the policy through π_φ(s_t)
alone; the policy descends its mean. What it sees has no size that an environment decides: action
dimensions are pooled, and of a state it is told only what the critic thinks of it. So one objective
serves any environment with continuous actions.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from metarl.maths.params import Params
from metarl.maths.returns import discounted_sum, rounding
from metarl.networks.layers import layer_params, linear
from metarl.networks.memory_cores import LSTM

_FEATURES = 8  # of a step's action, and of what else is known of it
_LARGEST = 1000.0  # of a step's loss
_CLIP = 5.0  # standard deviations


class Steps(NamedTuple):
    """N sequences of T consecutive steps of each of M policies, padded at the tail.

    Attributes:
        actions: As they were played, in [−1, 1], ``[M, T, N, a]``.
        policy_actions: π_φ(s_t), through which the objective is differentiated, ``[M, T, N, a]``.
        rewards: ``[M, T, N]``.
        values: V(s_t) = Q(s_t, π_φ(s_t)), a constant, ``[M, T, N]``.
        next_values: V(s_{t+1}), a constant; 0 where the task's own rule ended the episode, but not
            where a time limit did: ``[M, T, N]``.
        valid: bool ``[M, T, N]``; False only on the tail.
        discount: γ.
    """

    actions: Tensor
    policy_actions: Tensor
    rewards: Tensor
    values: Tensor
    next_values: Tensor
    valid: Tensor
    discount: float

    @property
    def errors(self) -> Tensor:
        """δ_t = r_t + γ V(s_{t+1}) − V(s_t) ``[M, T, N]``, 0 where not valid."""
        delta = self.rewards + self.discount * self.next_values - self.values
        return torch.where(self.valid, delta, 0.0)

    def mean(self, losses: Tensor) -> Tensor:
        """Of losses ``[M, T, N]`` over each policy's valid steps ``[M]``."""
        return mean_of_valid(losses, self.valid)


def mean_of_valid(x: Tensor, valid: Tensor) -> Tensor:
    """``[M, T, N] -> [M]``, over what is valid."""
    return torch.where(valid, x, 0.0).sum((1, 2)) / valid.sum((1, 2))


def reinforce(batch: Sequence[Steps], gae_lambda: float = 0.97) -> list[Tensor]:
    """Off-policy REINFORCE, written by hand: ℓ_t = ‖a_t − π_φ(s_t)‖² Â_t / a.

    That is −log N(a_t; π_φ(s_t), σ²) · Â_t but for a factor, with the advantages Â_t of generalised
    advantage estimation within the sequence, bootstrapped where it ends, and divided by their root
    mean square over the batch.
    """
    losses = []
    for steps in batch:
        errors = steps.errors.transpose(1, 2)
        lag = discounted_sum(errors, steps.discount * gae_lambda).transpose(1, 2)
        advantages = lag / _root_mean_square(lag, steps)
        losses.append((steps.actions - steps.policy_actions).square().mean(-1) * advantages)
    return losses


@dataclass(frozen=True)
class ObjectiveNetwork:
    """A learned objective: an LSTM that reads a sequence from its end (Kirsch et al. 2020).

    Of step t it reads what the pairs (a_t, π_φ(s_t))_d of all action dimensions d have in common,
    each through the same layers and then averaged; the reward, V(s_t), V(s_{t+1}), the temporal
    difference δ_t, and where in the sequence the step stands. Since it reads backwards, it has seen
    what follows on a step. ℓ_t is within ±1000.

    Rewards and values are normalised over the batch, so that their units do not matter; δ_t, in
    which rewards and values have one unit, is divided by its root mean square. (The published
    network is not given δ_t, and cannot compute it of numbers that are normalised apart.)

    Attributes:
        width: Of the LSTM.
        hidden: Of the layers around it; half of each are rectified, half squared.
    """

    width: int = 32
    hidden: int = 32

    @property
    def _memory(self) -> LSTM:
        return LSTM(2 * _FEATURES, self.width, "memory")

    def init(self, rng: np.random.Generator) -> Params:
        """Fresh parameters, drawn with numpy."""
        params: Params = {}
        for name, n_in, n_out in (
            ("action", 2, _FEATURES),
            ("step", 5, _FEATURES),
            ("head", self.width, 1),
        ):
            params |= layer_params(rng, f"{name}0", n_in, self.hidden, 1.0)
            params |= layer_params(rng, f"{name}1", self.hidden, n_out, 1.0)
        return params | self._memory.init(rng)

    def __call__(self, params: Mapping[str, Tensor], batch: Sequence[Steps]) -> list[Tensor]:
        """ℓ of every step ``[M, T, N]``; M, T, N and a may differ between the batch's parts.

        Differentiable in the parameters and in ``policy_actions``, more than once.
        """
        longest = max(steps.valid.shape[1] for steps in batch)
        read = [self._features(params, steps) for steps in batch]
        x = torch.cat([_time_first(features, longest) for features in read], dim=1)
        valid = [_time_first(steps.valid.unsqueeze(-1), longest) for steps in batch]
        hidden = self._backwards(params, x, torch.cat(valid, dim=1).to(x))
        losses = _layers(params, "head", hidden).squeeze(-1)  # [T, Σ M·N]
        losses = _LARGEST * torch.tanh(losses / _LARGEST)
        found = []
        for steps, part in zip(
            batch, losses.split([v.shape[1] for v in valid], dim=1), strict=True
        ):
            m, t, n = steps.valid.shape
            found.append(part[:t].view(t, m, n).transpose(0, 1))
        return found

    def _features(self, params: Mapping[str, Tensor], steps: Steps) -> Tensor:
        """What is read of every step ``[M, T, N, 16]``."""
        pairs = torch.stack([steps.actions, steps.policy_actions], dim=-1)  # [M, T, N, a, 2]
        action = _layers(params, "action", pairs).mean(-2)
        length, errors = steps.valid.shape[1], steps.errors
        place = torch.arange(length).to(errors) / length
        columns = [
            _normalized(steps.rewards, steps.rewards, steps),
            _normalized(steps.next_values, steps.values, steps),
            _normalized(steps.values, steps.values, steps),
            errors / _root_mean_square(errors, steps),
            place.view(1, -1, 1).expand_as(errors),
        ]
        known = torch.stack(columns, dim=-1).clamp(-_CLIP, _CLIP)
        return torch.cat([action, _layers(params, "step", known)], dim=-1)

    def _backwards(self, params: Mapping[str, Tensor], x: Tensor, valid: Tensor) -> Tensor:
        """Hidden states ``[T, ·, width]`` that have read their step and all after it."""
        prepared = self._memory.prepare(params)
        memory = self._memory.initial(x.shape[1], x)
        hidden = []
        # Torch's fused sequence gives the same, and takes longer to be differentiated twice.
        for t in reversed(range(len(x))):
            after, memory = self._memory.step(prepared, x[t], memory)
            hidden.append(after)
            # A sequence begins with its last valid step, whatever stands behind it.
            memory = tuple(part * valid[t] for part in memory)
        return torch.stack(hidden[::-1])


def _layers(params: Mapping[str, Tensor], name: str, x: Tensor) -> Tensor:
    """Two layers; the first one's outputs half rectified, half squared."""
    rectified, squared = linear(params, f"{name}0", x).chunk(2, dim=-1)
    x = torch.cat([torch.relu(rectified), squared.square()], dim=-1)
    return linear(params, f"{name}1", x)


def _time_first(x: Tensor, steps: int) -> Tensor:
    """``[M, T, N, ·] -> [steps, M·N, ·]``, with zeros behind."""
    rows = x.transpose(0, 1).flatten(1, 2)
    return F.pad(rows, (0, 0, 0, 0, 0, steps - len(rows)))


def _normalized(x: Tensor, by: Tensor, steps: Steps) -> Tensor:
    """By the mean and deviation of something over each policy's valid steps, ``[M, T, N]``."""
    centre = steps.mean(by).view(-1, 1, 1)
    deviation = _root_mean_square(by - centre, steps)
    noise = rounding(torch.where(steps.valid, by, 0.0), (1, 2))
    return torch.where(steps.valid & (deviation > noise), (x - centre) / deviation, 0.0)


def _root_mean_square(x: Tensor, steps: Steps) -> Tensor:
    """Over each policy's valid steps, ``[M, 1, 1]``."""
    return steps.mean(x.square()).sqrt().clamp(min=1e-8).view(-1, 1, 1)
