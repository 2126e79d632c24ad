"""A stacked multilayer perceptron's pass through its inputs, and the derivatives of that pass.

Autograd arrives at the same numbers. By hand the products below cost little more than their matrix
products, two to three times less on a CPU: the passes are kept, every sum of two products is one
accumulation in place, and nothing that is constant is computed again.

``R`` below is the derivative along a direction of the parameters (Pearlmutter 1994).
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from metarl.types import Activation

Layers = Sequence[tuple[Tensor, Tensor]]  # of weight [M, in, out] and bias [M, out]


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


class MLPPass:
    """y = W_L φ(… φ(W_1 x + b_1) …) + b_L of M networks on N rows each. Takes no gradients.

    Args:
        layers: Stacked parameters.
        x: ``[M, N, in]``.
        activation: φ.

    Attributes:
        output: y ``[M, N, out]``.
    """

    def __init__(self, layers: Layers, x: Tensor, activation: Activation) -> None:
        self._layers = layers
        self._activation = activation
        self._inputs = [x]  # of every layer
        self._slopes: list[Tensor] = []  # φ′ of every hidden layer
        for weight, bias in layers[:-1]:
            h = activate_(torch.baddbmm(bias.unsqueeze(1), self._inputs[-1], weight), activation)
            self._inputs.append(h)
            # tanh′ = 1 − tanh²; relu′ is 1 where relu > 0, and relu is never below.
            slope = h.square().neg_().add_(1.0) if activation == "tanh" else h.sign()
            self._slopes.append(slope)
        weight, bias = layers[-1]
        self.output = torch.baddbmm(bias.unsqueeze(1), self._inputs[-1], weight)

    def push_forward(self, direction: Layers) -> list[Tensor]:
        """R of every hidden layer, then of the output ``[M, N, ·]``: the Jacobian's product."""
        tangents: list[Tensor] = []
        for i, (weight_t, bias_t) in enumerate(direction):
            z = torch.baddbmm(bias_t.unsqueeze(1), self._inputs[i], weight_t)
            if i > 0:
                z.baddbmm_(tangents[-1], self._layers[i][0])
            tangents.append(z.mul_(self._slopes[i]) if i < len(self._slopes) else z)
        return tangents

    def pull_back(self, cotangent: Tensor) -> tuple[Layers, list[Tensor]]:
        """The transposed Jacobian's product with ``[M, N, out]``.

        Returns:
            A gradient for every layer, and δ, the gradients with respect to every layer's
            output before its activation ``[M, N, ·]``.
        """
        deltas = [cotangent]
        for i in range(len(self._slopes), 0, -1):
            delta = torch.bmm(deltas[0], self._layers[i][0].mT).mul_(self._slopes[i - 1])
            deltas.insert(0, delta)
        gradients = [
            (torch.bmm(x.mT, delta), delta.sum(1))
            for x, delta in zip(self._inputs, deltas, strict=True)
        ]
        return gradients, deltas

    def bends(self, deltas: Sequence[Tensor]) -> list[Tensor | None]:
        """δ·φ″/φ′² of every hidden layer, what :meth:`second_derivative` needs of φ″.

        None where φ″ is zero.
        """
        if self._activation == "relu":
            return [None] * len(self._slopes)
        # tanh″ = −2 tanh·tanh′, and δ holds one factor of tanh′, R of the layer the other.
        return [
            torch.bmm(deltas[i + 1], self._layers[i + 1][0].mT).mul_(h).mul_(-2.0)
            for i, h in enumerate(self._inputs[1:])
        ]

    def second_derivative(
        self,
        direction: Layers,
        tangents: Sequence[Tensor],
        cotangent_t: Tensor,
        deltas: Sequence[Tensor],
        bends: Sequence[Tensor | None],
    ) -> Layers:
        """R of :meth:`pull_back`: how a gradient changes along a direction of the parameters.

        Args:
            direction: Of the parameters.
            tangents: From :meth:`push_forward`.
            cotangent_t: R of the cotangent ``[M, N, out]``.
            deltas: From :meth:`pull_back`.
            bends: From :meth:`bends`.
        """
        gradients: list[tuple[Tensor, Tensor]] = []
        delta_t = cotangent_t
        for i in range(len(self._layers) - 1, -1, -1):
            weight_tt = torch.bmm(self._inputs[i].mT, delta_t)
            if i > 0:
                weight_tt.baddbmm_(tangents[i - 1].mT, deltas[i])
            gradients.insert(0, (weight_tt, delta_t.sum(1)))
            if i > 0:
                below = torch.bmm(delta_t, self._layers[i][0].mT)
                below.baddbmm_(deltas[i], direction[i][0].mT).mul_(self._slopes[i - 1])
                bend = bends[i - 1]
                delta_t = below if bend is None else below.addcmul_(bend, tangents[i - 1])
        return gradients
