"""The networks of off-policy learning: critics side by side, and an actor in (−1, 1).

Both read any parts side by side: an observation, an action, a latent, a memory's hidden state.
Hidden layers are ReLU. Parameters are drawn with numpy, so that every device starts from the same
numbers: weights and biases uniform within ±1/√(inputs), the last layer's within ±0.003 (Lillicrap
et al. 2016), so that values and actions are near 0 at first.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor

from metarl.maths.params import Params
from metarl.maths.squashed_gaussian import SquashedGaussian

_LAST = 3e-3
_LOG_STD = (-20.0, 2.0)


@dataclass(frozen=True)
class Critics:
    """Several critics Q_i of the same input, their weights stacked: one call for all of them.

    Attributes:
        input_size: Width of all parts together.
        hidden_sizes: Widths of the hidden layers.
        outputs: 1 for Q(s, a); the number of options for Q(s, ·) of discrete actions.
        count: How many critics; two for their minimum.
        name: Their parameters' names begin with it.
    """

    input_size: int
    hidden_sizes: tuple[int, ...]
    outputs: int = 1
    count: int = 2
    name: str = "critic"

    def init(self, rng: np.random.Generator) -> Params:
        """Fresh parameters: weights ``[count, in, out]``, biases ``[count, 1, out]``."""
        return init_layers(
            rng, self.name, self.input_size, self.hidden_sizes, self.outputs, (self.count,)
        )

    def __call__(self, params: Mapping[str, Tensor], *parts: Tensor) -> Tensor:
        """Q ``[count, ...]``, or ``[count, ..., outputs]`` of several, for parts ``[..., ·]``."""
        x = torch.cat(parts, dim=-1)
        q = self.rows(params, x.flatten(0, -2).expand(self.count, -1, -1))
        q = q.view(self.count, *x.shape[:-1], self.outputs)
        return q.squeeze(-1) if self.outputs == 1 else q

    def rows(self, params: Mapping[str, Tensor], rows: Tensor) -> Tensor:
        """Q of as many critics as parameters are stacked, each of its own rows ``[·, N, in]``."""
        return run_layers(params, self.name, len(self.hidden_sizes), rows)


@dataclass(frozen=True)
class SquashedActor:
    """π(· | parts), a :class:`SquashedGaussian` whose μ and log σ both depend on the input.

    Attributes:
        input_size: Width of all parts together.
        action_dim: a.
        hidden_sizes: Widths of the hidden layers.
        name: Its parameters' names begin with it.
    """

    input_size: int
    action_dim: int
    hidden_sizes: tuple[int, ...]
    name: str = "actor"
    discrete: ClassVar[bool] = False

    @property
    def action_shape(self) -> tuple[int, ...]:
        """Of one action."""
        return (self.action_dim,)

    def init(self, rng: np.random.Generator) -> Params:
        """Fresh parameters: weights ``[in, out]``, biases ``[1, out]``."""
        return init_layers(rng, self.name, self.input_size, self.hidden_sizes, 2 * self.action_dim)

    def __call__(self, params: Mapping[str, Tensor], *parts: Tensor) -> SquashedGaussian:
        """The distribution over ``[..., a]`` for parts ``[..., ·]``; log σ is within [−20, 2]."""
        x = torch.cat(parts, dim=-1)
        y = run_layers(params, self.name, len(self.hidden_sizes), x.flatten(0, -2))
        mean, log_std = y.view(*x.shape[:-1], -1).chunk(2, dim=-1)
        return SquashedGaussian(mean, log_std.clamp(*_LOG_STD))


@dataclass(frozen=True)
class DeterministicActor:
    """M policies π_m(s) = tanh(f_m(s)) without noise of their own (Lillicrap et al. 2016).

    Attributes:
        input_size: Width of an observation.
        action_dim: a.
        hidden_sizes: Widths of the hidden layers.
        name: Its parameters' names begin with it.
    """

    input_size: int
    action_dim: int
    hidden_sizes: tuple[int, ...]
    name: str = "actor"

    def init(self, rng: np.random.Generator) -> Params:
        """Fresh parameters of one: weights ``[in, out]``, biases ``[1, out]``."""
        return init_layers(rng, self.name, self.input_size, self.hidden_sizes, self.action_dim)

    def __call__(self, params: Mapping[str, Tensor], observations: Tensor) -> Tensor:
        """Actions ``[M, ..., a]`` of parameters ``[M, ...]`` for observations ``[M, ..., o]``."""
        return self.unsquashed(params, observations).tanh()

    def unsquashed(self, params: Mapping[str, Tensor], observations: Tensor) -> Tensor:
        """f_m(s), of which actions are the tanh."""
        rows = observations.flatten(1, -2)
        y = run_layers(params, self.name, len(self.hidden_sizes), rows)
        return y.view(*observations.shape[:-1], self.action_dim)


def init_layers(
    rng: np.random.Generator,
    name: str,
    n_in: int,
    hidden_sizes: tuple[int, ...],
    n_out: int,
    stacked: tuple[int, ...] = (),
) -> Params:
    """Fresh parameters of a ReLU network, or of a stack of them: see the module's docstring."""
    params: Params = {}
    sizes = (n_in, *hidden_sizes, n_out)
    for i, (before, after) in enumerate(itertools.pairwise(sizes)):
        bound = _LAST if i == len(hidden_sizes) else 1.0 / math.sqrt(before)
        for part, shape in (("weight", (before, after)), ("bias", (1, after))):
            drawn = rng.uniform(-bound, bound, (*stacked, *shape)).astype(np.float32)
            params[f"{name}{i}.{part}"] = torch.from_numpy(drawn)
    return params


def run_layers(params: Mapping[str, Tensor], name: str, hidden: int, x: Tensor) -> Tensor:
    """The output of a ReLU network for rows ``[N, in]``, or of a stack for ``[count, N, in]``."""
    multiply = torch.addmm if x.ndim == 2 else torch.baddbmm
    for i in range(hidden + 1):
        x = multiply(params[f"{name}{i}.bias"], x, params[f"{name}{i}.weight"])
        if i < hidden:
            x = torch.relu(x)
    return x
