"""The hidden layers' activations, in place where no gradient is asked for."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from metarl.types import Activation


def activate_(z: Tensor, activation: Activation) -> Tensor:
    """φ(z); into z itself, unless autograd needs it.

    On a CPU NumPy's tanh is seven times as fast as PyTorch's, and as exact (2 units in the last
    place); it is taken wherever no gradient is.
    """
    if torch.is_grad_enabled() and z.requires_grad:
        return z.tanh() if activation == "tanh" else z.relu()
    if activation == "relu":
        return z.relu_()
    if z.device.type != "cpu":
        return z.tanh_()
    values = z.detach().numpy()
    np.tanh(values, out=values)
    return z
