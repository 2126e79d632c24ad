"""Adam on parameters as one vector, its memory a value of its own."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor

from metarl.maths.finite import check_finite
from metarl.maths.params import Params, flatten, to_device, unflatten


class AdamState(NamedTuple):
    """What Adam remembers.

    Attributes:
        step: Updates so far.
        mean: Running mean of the gradient ``[P]``.
        square: Running mean of its square ``[P]``.
    """

    step: int
    mean: Tensor
    square: Tensor

    @classmethod
    def fresh(cls, x: Tensor) -> AdamState:
        """Before the first update of parameters ``[P]``."""
        return cls(0, torch.zeros_like(x), torch.zeros_like(x))

    def state_dict(self) -> dict[str, Any]:
        """As a checkpoint holds it, on the CPU."""
        moments = {"mean": self.mean.cpu(), "square": self.square.cpu()}
        return {"adam": moments, "adam_step": self.step}

    @classmethod
    def from_state(cls, state: Mapping[str, Any], device: torch.device | str) -> AdamState:
        """What :meth:`state_dict` returned, which may stand among other things."""
        moments = state["adam"]
        return cls(
            int(state["adam_step"]), moments["mean"].to(device), moments["square"].to(device)
        )


@dataclass(frozen=True)
class Adam:
    """Adam (Kingma and Ba 2015, algorithm 1) on parameters as one vector.

    Attributes:
        beta1: Decay of the gradient's running mean.
        beta2: Decay of its square's.
        eps: Added to the square root.
    """

    beta1: float = 0.9
    beta2: float = 0.999
    eps: float = 1e-5

    def step(
        self, x: Tensor, gradient: Tensor, state: AdamState, lr: float
    ) -> tuple[Tensor, AdamState]:
        """x − lr · m̂ / (√v̂ + ε) ``[P]``, and the next state; the arguments stay as they are."""
        step = state.step + 1
        mean = torch.lerp(state.mean, gradient, 1.0 - self.beta1)
        square = torch.lerp(state.square, gradient.square(), 1.0 - self.beta2)
        root = (square / (1.0 - self.beta2**step)).sqrt() + self.eps
        return x - lr / (1.0 - self.beta1**step) * mean / root, AdamState(step, mean, square)


class Learned:
    """Parameters that Adam moves, kept with its memory as one vector.

    Args:
        params: Fresh ones.
        device: Where they live.
        eps: Adam's.
        max_norm: Longer gradients are shortened to it; None: never.
    """

    def __init__(
        self,
        params: Mapping[str, Tensor],
        device: torch.device | str,
        eps: float = 1e-8,
        max_norm: float | None = None,
    ) -> None:
        self.params: Params = to_device(params, device)
        self._max_norm = max_norm
        self._adam = Adam(eps=eps)
        self._memory = AdamState.fresh(flatten(self.params))

    def step(self, what: str, loss: Callable[[Params], Tensor], lr: float) -> None:
        """One step down a loss of the parameters.

        Args:
            what: The loss, for the refusal: "the critics' loss".
            loss: A scalar.
            lr: Step size.

        Raises:
            FloatingPointError: the gradient is not finite.
        """
        leaf, params = self.recorded()
        self.descend(what, loss(params), leaf, lr)

    def recorded(self) -> tuple[Tensor, Params]:
        """A vector that records what is computed of it, and the parameters as its parts."""
        leaf = flatten(self.params).requires_grad_()
        return leaf, unflatten(leaf, self.params)

    def descend(self, what: str, loss: Tensor, leaf: Tensor, lr: float) -> None:
        """One step down a loss that was computed of what :meth:`recorded` gave.

        Args:
            what: See :meth:`step`.
            loss: A scalar.
            leaf: The vector.
            lr: Step size.

        Raises:
            FloatingPointError: the gradient is not finite.
        """
        self._move(what, torch.autograd.grad(loss, leaf)[0], lr, leaf.detach())

    def move(self, what: str, gradient: Tensor, lr: float) -> None:
        """One step against the gradient of a loss, which the caller has found, ``[P]``.

        Raises:
            FloatingPointError: it is not finite.
        """
        self._move(what, gradient, lr, flatten(self.params))

    def _move(self, what: str, gradient: Tensor, lr: float, x: Tensor) -> None:
        check_finite(f"the gradient of {what} is", gradient)
        if self._max_norm is not None:
            gradient = gradient * (self._max_norm / (gradient.norm() + 1e-6)).clamp(max=1.0)
        x, self._memory = self._adam.step(x, gradient, self._memory, lr)
        self.params = unflatten(x, self.params)

    def state_dict(self) -> dict[str, Any]:
        """The parameters, and Adam's memory."""
        return {"params": to_device(self.params, "cpu"), **self._memory.state_dict()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore what :meth:`state_dict` returned, to the bit."""
        device = next(iter(self.params.values())).device
        self.params = to_device(state["params"], device)
        self._memory = AdamState.from_state(state, device)


def states(learned: Mapping[str, Learned]) -> dict[str, Any]:
    """Several by their names, as a checkpoint holds them.

    That is ``params``, each called ``<name>.<parameter>``, and ``optimisers`` by their names.
    """
    found = {name: part.state_dict() for name, part in learned.items()}
    params = {
        f"{name}.{of}": p for name, state in found.items() for of, p in state.pop("params").items()
    }
    return {"params": params, "optimisers": found}


def load_states(learned: Mapping[str, Learned], state: Mapping[str, Any]) -> None:
    """Restore what :func:`states` returned, which may stand among other things, to the bit."""
    for name, part in learned.items():
        params = {of: state["params"][f"{name}.{of}"] for of in part.params}
        part.load_state_dict({"params": params, **state["optimisers"][name]})
