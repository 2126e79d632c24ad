"""What networks of several kinds are made of."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping

import numpy as np
import torch
from torch import Tensor

from metarl.maths.params import Params


def linear(params: Mapping[str, Tensor], name: str, x: Tensor) -> Tensor:
    """x W + b ``[..., out]`` for the weight W ``[in, out]`` and the bias b of that name."""
    weight, bias = params[f"{name}.weight"], params[f"{name}.bias"]
    return torch.addmm(bias, x.reshape(-1, x.shape[-1]), weight).view(*x.shape[:-1], -1)


def orthogonal(rng: np.random.Generator, n_in: int, n_out: int, gain: float) -> Tensor:
    """A weight ``[in, out]`` whose rows or columns, whichever are fewer, are orthonormal · gain."""
    tall = rng.standard_normal((max(n_in, n_out), min(n_in, n_out)))
    q, r = np.linalg.qr(tall)
    q = q * np.sign(np.diag(r))  # uniform over the orthogonal matrices (Mezzadri 2007)
    weight = q if n_in >= n_out else q.T
    return torch.from_numpy((gain * weight).astype(np.float32))


def layer_params(rng: np.random.Generator, name: str, n_in: int, n_out: int, gain: float) -> Params:
    """A layer of that name: an orthogonal weight, and no bias yet."""
    weight = orthogonal(rng, n_in, n_out, gain)
    return {f"{name}.weight": weight, f"{name}.bias": torch.zeros(n_out)}


def perceptron_params(
    rng: np.random.Generator, name: str, sizes: tuple[int, ...], gain: float, last_gain: float
) -> Params:
    """The layers ``<name>0``, ``<name>1``, … of a perceptron of these widths, input to output."""
    params: Params = {}
    for i, (n_in, n_out) in enumerate(itertools.pairwise(sizes)):
        last = i == len(sizes) - 2
        params |= layer_params(rng, f"{name}{i}", n_in, n_out, last_gain if last else gain)
    return params


def perceptron(
    params: Mapping[str, Tensor],
    name: str,
    hidden: int,
    x: Tensor,
    activation: Callable[[Tensor], Tensor],
) -> Tensor:
    """The output ``[..., out]`` of so many hidden layers of that name and a linear one."""
    for i in range(hidden):
        x = activation(linear(params, f"{name}{i}", x))
    return linear(params, f"{name}{hidden}", x)
