"""The agent of algorithms that read a support set whole, in one adaptation step."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from metarl.maths.distributions import Categorical, DiagonalGaussian, Distribution
from metarl.maths.samples import Samples
from metarl.types import AdaptationAxis

Predict = Callable[[Tensor], Distribution]
"""Inputs ``[M, Q, x]`` to distributions over targets ``[M, Q]``."""


class SupportSetAgent:
    """A :class:`metarl.types.FewShotAgent` whose :meth:`adapt` reads the support set.

    Args:
        after: From support sets to what they say.
        device: Where that is computed.
    """

    adaptation_axis: AdaptationAxis = "support_set"
    transductive = False

    def __init__(
        self,
        after: Callable[[Samples], Predict],
        device: torch.device | str = "cpu",
    ) -> None:
        self._after = after
        self.device = torch.device(device)

    @property
    def step_sizes(self) -> list[float]:
        """None: a support set is read, and no step has a size."""
        return []

    def begin(self, support: Samples) -> None:
        """Forget everything adapted, and expect these tasks' support sets."""
        self._support = support.map(lambda x: x.to(self.device))
        self._predict = _uninformed(self._support)

    def adapt(self) -> None:
        """Read the support set; to read it again changes nothing."""
        with torch.no_grad():
            self._predict = self._after(self._support)

    def predict(self, inputs: Tensor) -> Distribution:
        """Distributions over the targets of inputs ``[M, Q, x]``, on the CPU."""
        with torch.no_grad():
            predicted = self._predict(inputs.to(self.device))
        return type(predicted)(*(part.cpu() for part in predicted))


def _uninformed(support: Samples) -> Predict:
    """What is predicted without a support set: every class alike, or a standard Gaussian."""
    targets = support.actions
    if targets.ndim == 2:
        ways = int(targets.max()) + 1
        return lambda inputs: Categorical(inputs.new_zeros(*inputs.shape[:2], ways))

    def standard(inputs: Tensor) -> Distribution:
        zeros = inputs.new_zeros(*inputs.shape[:2], targets.shape[2])
        return DiagonalGaussian(zeros, zeros)

    return standard
