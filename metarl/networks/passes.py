"""What adaptation by gradient asks of a policy: derivatives of losses on its distributions.

:mod:`metarl.networks.policy_pass` takes those of a multilayer perceptron by hand. A policy of
another kind need only offer the same methods, such as from autograd.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from torch import Tensor

from metarl.maths.distributions import Distribution
from metarl.maths.params import Params


@dataclass(frozen=True)
class Derivatives:
    """Loss and derivatives of each of M tasks, at the parameters of the pass.

    Attributes:
        loss: L_m(θ_m) ``[M]``.
        gradient: ∇L_m(θ_m) ``[M, ...]``.
        hessian_product: v ``[M, ...]`` ↦ ∇²L_m(θ_m) v_m; None where only the first order was asked.
    """

    loss: Tensor
    gradient: Params
    hessian_product: Callable[[Mapping[str, Tensor]], Params] | None


class Pass(Protocol):
    """π(· | s) of M tasks on their own samples, under parameters that stay as they are."""

    @property
    def distribution(self) -> Distribution:
        """Over ``[M, N]`` actions, without history."""

    def differentiate(
        self, loss: Callable[[Distribution], Tensor], *, second_order: bool = False
    ) -> Derivatives:
        """Derivatives of a loss ``[M]`` of the distribution; a task's loss is of its own rows."""

    def fisher_product(self, weights: Tensor, v: Mapping[str, Tensor]) -> Params:
        """F_m v_m, F the Fisher matrix of a task's policy at its own states ``[M, ...]``.

        Args:
            weights: Of the rows ``[M, N]``, summing to 1 over each task's.
            v: Stacked directions ``[M, ...]``.
        """


class Policy(Protocol):
    """A function of stacked parameters ``[M, ...]`` and observations ``[M, N, o]``."""

    @property
    def widest(self) -> int:
        """Numbers a row in the largest intermediate tensor."""

    def draw_noise(self, rng: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
        """The random numbers for actions of the given leading shape, float32 ``[*shape, ...]``."""

    def __call__(self, params: Mapping[str, Tensor], observation: Tensor) -> Distribution:
        """π(· | s) over ``[M, N]`` actions."""

    def through(self, params: Mapping[str, Tensor], observations: Tensor) -> Pass:
        """The same, to be differentiated."""
