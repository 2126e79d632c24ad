"""What a memory is fed at every step: what the agent is shown, embedded."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from metarl.maths.distributions import Choices
from metarl.maths.params import Params
from metarl.networks.images import ImageEncoder
from metarl.networks.layers import layer_params, linear
from metarl.types import Inputs


@dataclass(frozen=True)
class InputFeatures:
    """(observation, previous action, previous reward, start of episode) → one row of numbers.

    Each input is embedded by a layer of its own (linear, ReLU) or taken as it is; discrete actions
    are one-hot.

    Attributes:
        observation_dim: o.
        action_dim: a; the number of options, of all choices together, where ``discrete``.
        discrete: Whether actions are choices: True for one, or the sizes of several.
        embeddings: Widths for the observation, the action, the reward; 0: as it is.
        encoder: Whose features stand for the observation where it is an image; else None.
        prefix: The names of its embeddings' parameters begin with it.
    """

    observation_dim: int
    action_dim: int
    discrete: Choices
    embeddings: tuple[int, int, int] = (0, 0, 0)
    encoder: ImageEncoder | None = None
    prefix: str = ""

    @property
    def action_shape(self) -> tuple[int, ...]:
        """Of one action."""
        if isinstance(self.discrete, tuple):
            return (len(self.discrete),)
        return () if self.discrete else (self.action_dim,)

    @property
    def input_sizes(self) -> dict[str, int]:
        """Widths of the inputs before embedding; the start of an episode is never embedded."""
        seen = self.observation_dim if self.encoder is None else self.encoder.feature_dim
        return {"observation": seen, "action": self.action_dim, "reward": 1}

    @property
    def size(self) -> int:
        """Width of the row: the inputs after embedding, and the start flag."""
        sizes = zip(self.embeddings, self.input_sizes.values(), strict=True)
        return sum(embedded or plain for embedded, plain in sizes) + 1

    def init(self, rng: np.random.Generator) -> Params:
        """Fresh parameters of what is embedded: orthogonal weights of gain √2, zero biases."""
        params: Params = {} if self.encoder is None else self.encoder.init(rng)
        for (name, n_in), width in zip(self.input_sizes.items(), self.embeddings, strict=True):
            if width:
                name = f"{self.prefix}embed_{name}"
                params |= layer_params(rng, name, n_in, width, math.sqrt(2.0))
        return params

    def __call__(self, params: Mapping[str, Tensor], inputs: Inputs) -> Tensor:
        """The row of every step ``[..., size]``, in the dtype of the rewards."""
        observation, action, reward, start = inputs
        if self.encoder is not None:
            observation = self.encoder.shared(params, observation)
        action = one_hot_actions(action, self.discrete, self.action_dim)
        parts = []
        plain = (observation, action.to(observation.dtype), reward.unsqueeze(-1))
        for name, x, width in zip(self.input_sizes, plain, self.embeddings, strict=True):
            embedding = f"{self.prefix}embed_{name}"
            parts.append(torch.relu(linear(params, embedding, x)) if width else x)
        return torch.cat([*parts, start.unsqueeze(-1).to(observation.dtype)], dim=-1)


def one_hot_actions(action: Tensor, discrete: Choices, action_dim: int) -> Tensor:
    """Actions as numbers ``[..., a]``: continuous ones as they are, choices one-hot side by side.

    Args:
        action: ``[..., a]``; int64 ``[...]`` of one choice, ``[..., d]`` of several. −1, no action,
            becomes all zeros.
        discrete: True for one choice, or the sizes of several.
        action_dim: a.
    """
    if isinstance(discrete, tuple):
        choices = zip(action.unbind(-1), discrete, strict=True)
        return torch.cat([_one_hot(choice, n) for choice, n in choices], dim=-1)
    return _one_hot(action, action_dim) if discrete else action


def _one_hot(action: Tensor, n: int) -> Tensor:
    return F.one_hot(action + 1, n + 1)[..., 1:]
