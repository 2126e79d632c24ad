"""A policy's pass through samples, and the derivatives of losses on its distributions.

The chain rule is cut in two: autograd differentiates the loss with respect to the network's few
outputs, :class:`metarl.networks.mlp_pass.MLPPass` the network.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from metarl.maths.distributions import Distribution
from metarl.maths.params import Params
from metarl.networks.mlp_pass import Layers, MLPPass
from metarl.networks.passes import Derivatives

if TYPE_CHECKING:
    from metarl.networks.mlp import MLPPolicy


class PolicyPass:
    """A multilayer perceptron's :class:`metarl.networks.passes.Pass`.

    Args:
        policy: The policy.
        params: Stacked parameters ``[M, ...]``.
        observations: ``[M, N, o]``.

    Attributes:
        distribution: Over ``[M, N]`` actions, without history.
    """

    def __init__(
        self, policy: MLPPolicy, params: Mapping[str, Tensor], observations: Tensor
    ) -> None:
        self._policy = policy
        self._params = params
        with torch.no_grad():
            layers = policy.layers(params)
            self._network = MLPPass(layers, observations, policy.activation)
            self.distribution = policy.head(self._network.output, params)

    def differentiate(
        self, loss: Callable[[Distribution], Tensor], *, second_order: bool = False
    ) -> Derivatives:
        """Derivatives of a loss ``[M]`` of the distribution; a task's loss is of its own rows."""
        names = self._policy.distribution_names
        heads = {n: self._params[n].detach().requires_grad_() for n in names}
        output = self._network.output.detach().requires_grad_()
        ends = [output, *heads.values()]
        with torch.enable_grad():
            value = loss(self._policy.head(output, heads))
            # The sum over tasks: a task's parameters are its own.
            cotangents = torch.autograd.grad(
                value.sum(), ends, create_graph=second_order, materialize_grads=True
            )
        layers, deltas = self._network.pull_back(cotangents[0].detach())
        gradient = self._named(layers, [c.detach() for c in cotangents[1:]])
        if not second_order:
            return Derivatives(value.detach(), gradient, None)
        bends = self._network.bends(deltas)

        @torch.no_grad()
        def hessian_product(v: Mapping[str, Tensor]) -> Params:
            direction = self._policy.layers(v)
            tangents = self._network.push_forward(direction)
            # The loss's Hessian in the outputs is symmetric: its product is the transposed one's.
            moved, *moved_heads = torch.autograd.grad(
                cotangents,
                ends,
                grad_outputs=[tangents[-1], *(v[n] for n in heads)],
                retain_graph=True,
                materialize_grads=True,
            )
            layers = self._network.second_derivative(direction, tangents, moved, deltas, bends)
            return self._named(layers, moved_heads)

        return Derivatives(value.detach(), gradient, hessian_product)

    @torch.no_grad()
    def fisher_product(self, weights: Tensor, v: Mapping[str, Tensor]) -> Params:
        """F_m v_m of every task ``[M, ...]``, see :class:`metarl.networks.passes.Pass`.

        Gauss–Newton: F = E_s[Jᵀ G J] with J the Jacobian of the distribution's parameters and G
        their Fisher metric, which is the exact Hessian of the mean KL at the old parameters.
        """
        output_t = self._network.push_forward(self._policy.layers(v))[-1]
        tangent = self._policy.head_tangent(output_t, v, self._params)
        metric = self.distribution.fisher_product(tangent)  # type: ignore[arg-type]
        weighted = type(metric)(*(weights.unsqueeze(-1) * m for m in metric))
        output_c, heads = self._policy.head_cotangent(weighted, self._params)
        return self._named(self._network.pull_back(output_c)[0], list(heads.values()))

    def _named(self, layers: Layers, heads: list[Tensor]) -> Params:
        """Gradients under the parameters' names, in the parameters' order."""
        flat = [tensor for layer in layers for tensor in layer]
        return dict(zip(self._policy.parameter_names, [*flat, *heads], strict=True))
