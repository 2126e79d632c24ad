"""The agent of algorithms that read a support set whole, in one adaptation step."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from metarl.maths.distributions import Categorical, DiagonalGaussian, Distribution
from metarl.maths.samples import Samples, task_blocks
from metarl.types import AdaptationAxis

Predict = Callable[[Tensor], Distribution]
"""Features ``[M, Q, f]`` to distributions over targets ``[M, Q]``."""


class SupportSetAgent:
    """A :class:`metarl.types.FewShotAgent` whose :meth:`adapt` reads the support set.

    Args:
        embed: Features ``[M, N, f]`` of inputs ``[M, N, x]``, of each input for itself.
        read: What a support set's features and targets say of other features.
        widest: The numbers of an input's largest activation.
        device: Where both compute.
    """

    adaptation_axis: AdaptationAxis = "support_set"
    transductive = False

    def __init__(
        self,
        embed: Callable[[Tensor], Tensor],
        read: Callable[[Tensor, Tensor], Predict],
        widest: int,
        device: torch.device | str = "cpu",
    ) -> None:
        self._embed, self._read, self._widest = embed, read, widest
        self.device = torch.device(device)
        self._predict: Predict | None = None  # without the support set

    @property
    def step_sizes(self) -> list[float]:
        """None: a support set is read, and no step has a size."""
        return []

    def begin(self, support: Samples) -> None:
        """Forget everything adapted, and expect these tasks' support sets."""
        self._support = support.map(lambda x: x.to(self.device))
        self._predict = None

    @torch.no_grad()
    def adapt(self) -> None:
        """Read the support set; to read it again changes nothing."""
        features = self._features(self._support.observations)
        self._predict = self._read(features, self._support.actions)

    @torch.no_grad()
    def predict(self, inputs: Tensor) -> Distribution:
        """Distributions over the targets of inputs ``[M, Q, x]``, on the CPU."""
        if self._predict is None:
            return _uninformed(inputs, self._support.actions)
        predicted = self._predict(self._features(inputs.to(self.device)))
        return type(predicted)(*(part.cpu() for part in predicted))

    def _features(self, inputs: Tensor) -> Tensor:
        """In blocks of tasks whose activations stay in the cache."""
        bytes_per_task = inputs.shape[1] * self._widest * inputs.element_size()
        blocks = task_blocks(len(inputs), bytes_per_task, self.device)
        return torch.cat([self._embed(inputs[block]) for block in blocks])


def _uninformed(inputs: Tensor, targets: Tensor) -> Distribution:
    """What is predicted without a support set: every class alike, or a standard Gaussian."""
    if targets.ndim == 2:
        ways = int(targets.max()) + 1
        return Categorical(torch.zeros(*inputs.shape[:2], ways))
    zeros = torch.zeros(*inputs.shape[:2], targets.shape[2])
    return DiagonalGaussian(zeros, zeros)
