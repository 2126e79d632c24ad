"""The few-shot agent of every gradient-based algorithm: it adapts by the training's own step."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from metarl.adaptation.inner_loop import Adaptation
from metarl.maths.params import Params, stack, to_device
from metarl.maths.samples import Samples, task_blocks
from metarl.types import AdaptationAxis, NormalisedBy


def told_the_support(adaptation: Adaptation, support: Samples) -> Adaptation:
    """The same step, of a network that normalises by so many first rows."""
    network: Any = adaptation.policy
    return replace(adaptation, policy=network.normalised_by(support.weights.shape[1]))


class FewShotGradientAgent:
    """A :class:`metarl.types.FewShotAgent` whose :meth:`adapt` is one gradient step a task.

    Args:
        adaptation: The gradient step.
        params: The meta-parameters, not stacked.
        device: Where it adapts and predicts.
        normalised_by: Whose statistics a query set is normalised by; None: nothing is normalised.

    Attributes:
        transductive: A prediction depends on the other queries, by their statistics.
    """

    adaptation_axis: AdaptationAxis = "gradient_step"

    def __init__(
        self,
        adaptation: Adaptation,
        params: Params,
        device: torch.device | str = "cpu",
        normalised_by: NormalisedBy | None = None,
    ) -> None:
        self.adaptation = adaptation
        self.device = torch.device(device)
        self._by_support = normalised_by == "support"
        self.transductive = normalised_by == "query"
        self.meta_params = to_device(params, self.device)
        self.params: Params = {}
        self.adaptation_step = 0

    @property
    def step_sizes(self) -> list[float]:
        """Sizes of the first adaptation steps; the last repeats."""
        return list(self.adaptation.step_sizes)

    def begin(self, support: Samples) -> None:
        """Start every task from the meta-parameters, with its support set."""
        self._support = support.map(lambda x: x.to(self.device))
        if self._by_support:
            self.adaptation = told_the_support(self.adaptation, support)
        self.params = stack(self.meta_params, len(support.weights))
        self.adaptation_step = 0

    @torch.no_grad()
    def predict(self, inputs: Tensor) -> Any:
        """A distribution over targets ``[M, Q]`` for inputs ``[M, Q, x]``, on the CPU.

        Raises:
            ValueError: before :meth:`begin`.
        """
        if not self.params:
            raise ValueError("call begin(support) before predict()")
        shown, known = inputs.to(self.device), 0
        if self._by_support:
            known = self._support.weights.shape[1]
            shown = torch.cat([self._support.observations, shown], dim=1)
        distribution = self.predictive(shown)
        return type(distribution)(*(part[:, known:].cpu() for part in distribution))

    def predictive(self, inputs: Tensor) -> Any:
        """The network's distribution as the parameters stand, where they are."""
        return self.adaptation.policy(self.params, inputs)

    def adapt(self) -> None:
        """One gradient step of every task on its support set.

        Raises:
            ValueError: before :meth:`begin`.
        """
        if not self.params:
            raise ValueError("call begin(support) before adapt()")
        step = self.adaptation.step(self.params, self._support, self.adaptation_step)
        self.params = step.adapted
        self.adaptation_step += 1


class BayesianAgent(FewShotGradientAgent):
    """The same of a :class:`metarl.networks.bayesian.BayesianNetwork`."""

    def predictive(self, inputs: Tensor) -> Any:
        """The mean over the weights' distribution, with noise of the adaptation step's own."""
        policy: Any = self.adaptation.policy
        network = policy.at(self.adaptation_step)
        bytes_per_task = inputs.shape[1] * network.widest * inputs.element_size()
        parts = [  # few tasks at once, since each has many draws
            network({n: p[block] for n, p in self.params.items()}, inputs[block]).predictive()
            for block in task_blocks(len(inputs), bytes_per_task, self.device)
        ]
        return type(parts[0])(*map(torch.cat, zip(*parts, strict=True)))
