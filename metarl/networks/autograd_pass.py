"""Any functional network's pass through its inputs, with the derivatives that adaptation needs.

What :class:`metarl.networks.mlp.PolicyPass` is to multilayer perceptrons, by autograd alone: every
gradient by a reverse pass, and a product with a Hessian by a reverse pass through that one.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from metarl.maths.distributions import Distribution
from metarl.maths.params import Params
from metarl.networks.mlp import Derivatives

Network = Callable[[Mapping[str, Tensor], Tensor], Distribution]
"""Stacked parameters ``[M, ...]`` and inputs ``[M, N, x]`` to a distribution over ``[M, N]``."""


class AutogradPass:
    """M networks on their own inputs, under parameters that stay as they are.

    Args:
        network: The function.
        params: Stacked parameters ``[M, ...]``.
        inputs: ``[M, N, x]``.

    Attributes:
        distribution: Over targets ``[M, N]``, without history.
    """

    def __init__(self, network: Network, params: Mapping[str, Tensor], inputs: Tensor) -> None:
        self._params = {n: p.detach().requires_grad_() for n, p in params.items()}
        with torch.enable_grad():
            self._output: Any = network(self._params, inputs)
        self.distribution: Any = _detached(self._output)

    def differentiate(
        self, loss: Callable[[Distribution], Tensor], *, second_order: bool = False
    ) -> Derivatives:
        """Derivatives of a loss ``[M]`` of the distribution; a task's loss is of its own rows."""
        with torch.enable_grad():
            value = loss(self._output)
            # The sum over tasks: a task's parameters are its own.
            gradient = self._pull_back([value.sum()], None, create_graph=second_order)
        found = {n: g.detach() for n, g in gradient.items()}
        if not second_order:
            return Derivatives(value.detach(), found, None)

        def hessian_product(v: Mapping[str, Tensor]) -> Params:
            bent = [n for n, g in gradient.items() if g.requires_grad]
            return self._pull_back([gradient[n] for n in bent], [v[n] for n in bent])

        return Derivatives(value.detach(), found, hessian_product)

    def fisher_product(self, weights: Tensor, v: Mapping[str, Tensor]) -> Params:
        """F_m v_m ``[M, ...]``, see :meth:`metarl.networks.mlp.PolicyPass.fisher_product`.

        J v is the derivative of the linear map c ↦ Jᵀc, which a reverse pass gives.
        """
        weights, family = weights.unsqueeze(-1), type(self.distribution)
        with torch.enable_grad():
            outputs = torch.broadcast_tensors(*self._output)
            dummies = [torch.zeros_like(x, requires_grad=True) for x in outputs]
            transposed = self._pull_back(outputs, dummies, create_graph=True)
            moved = [n for n, g in transposed.items() if g.requires_grad]
            tangents = torch.autograd.grad(
                [transposed[n] for n in moved], dummies, [v[n] for n in moved]
            )
        metric = self.distribution.fisher_product(family(*tangents))
        return self._pull_back(outputs, [weights * part for part in metric])

    def _pull_back(
        self,
        outputs: Sequence[Tensor],
        cotangents: Sequence[Tensor] | None,
        *,
        create_graph: bool = False,
    ) -> Params:
        """The transposed Jacobian's product, under the parameters' names; the graph is kept."""
        if not outputs:
            return {n: torch.zeros_like(p) for n, p in self._params.items()}
        leaves = tuple(self._params.values())
        found = torch.autograd.grad(
            tuple(outputs),
            leaves,
            cotangents,
            retain_graph=True,
            create_graph=create_graph,
            materialize_grads=True,
        )
        return dict(zip(self._params, found, strict=True))


def _detached(part: Any) -> Any:
    """A tensor, or a distribution made of such, without history."""
    return part.detach() if isinstance(part, Tensor) else type(part)(*map(_detached, part))
