"""What networks of several kinds are made of."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch
from torch import Tensor


def linear(params: Mapping[str, Tensor], name: str, x: Tensor) -> Tensor:
    """x W + b ``[..., out]`` for the weight W ``[in, out]`` and the bias b of that name."""
    weight, bias = params[f"{name}.weight"], params[f"{name}.bias"]
    return torch.addmm(bias, x.flatten(0, -2), weight).view(*x.shape[:-1], -1)


def orthogonal(rng: np.random.Generator, n_in: int, n_out: int, gain: float) -> Tensor:
    """A weight ``[in, out]`` whose rows or columns, whichever are fewer, are orthonormal · gain."""
    tall = rng.standard_normal((max(n_in, n_out), min(n_in, n_out)))
    q, r = np.linalg.qr(tall)
    q = q * np.sign(np.diag(r))  # uniform over the orthogonal matrices (Mezzadri 2007)
    weight = q if n_in >= n_out else q.T
    return torch.from_numpy((gain * weight).astype(np.float32))
