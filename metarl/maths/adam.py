"""Adam on parameters as one vector, its memory a value of its own."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor


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
