"""Reptile (Nichol, Achiam and Schulman 2018) for policies.

Adapt to every task by several gradient steps, each on fresh episodes, and move the meta-parameters
towards where they led:

    θ ← θ + ε E_task[ θ_{K+1} − θ ],   θ_{k+1} = θ_k − α_k ∇L_task(θ_k; D_k),  k = 0..K,

or let Adam take −E_task[θ_{K+1} − θ] for a gradient (their section 3). No derivative passes through
the adaptation; what a first step gains from a second one enters by the steps themselves (their
section 5.1), so K must be at least 1. The last step, on the episodes after adaptation, is taken in
the update, so that no episode is wasted.
"""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, Literal

import torch
from gymnasium import spaces
from pydantic import BaseModel, Field

from metarl.algorithms.gradient_algorithm import (
    AdaptationConfig,
    GradientAlgorithm,
    GradientBatch,
    because,
)
from metarl.maths.adam import Adam, AdamState
from metarl.maths.finite import check_finite
from metarl.maths.params import flatten, mean_over_tasks, stack, unflatten


class ReptileConfig(AdaptationConfig):
    """What can be set of Reptile."""

    name: Literal["reptile"] = "reptile"
    adaptation_steps: Annotated[
        int, Field(ge=1), because("with the update's own step alone it is joint training")
    ] = Field(2, description="inner gradient steps in training; the update takes one more")
    inner_estimator: Annotated[
        Literal["log_prob"], because("Reptile takes no Hessian, in which alone the others differ")
    ] = Field("log_prob", description="inner objective: always the log-probability")
    outer: Annotated[
        Literal["sgd", "adam"],
        because("Reptile goes where adaptation led, and has no surrogate to improve"),
    ] = Field("sgd", description="what moves the meta-parameters")
    lr: float | None = Field(
        None,
        gt=0,
        description="ε, the share of the way to go, or Adam's step size; null: 1, for Adam 0.001",
    )


class Reptile(GradientAlgorithm):
    """Reptile."""

    config_class: ClassVar[type[BaseModel]] = ReptileConfig

    def __init__(
        self,
        config: ReptileConfig,
        observation_space: spaces.Space,
        action_space: spaces.Space,
        seed: int,
        device: torch.device | str = "cpu",
    ) -> None:
        super().__init__(config, observation_space, action_space, seed, device)
        self.adam = AdamState.fresh(flatten(self.params))

    def update(self, batch: GradientBatch) -> dict[str, float]:
        """Adapt once more, and follow the mean of the tasks.

        Raises:
            FloatingPointError: a loss or an adapted parameter is not finite.
        """
        theta = stack(self.params, len(batch.tasks))
        for k, samples in enumerate(batch.data):
            step = self.adaptation.step(theta, samples, k)
            theta = step.adapted
        x = flatten(self.params)
        towards = flatten(mean_over_tasks(theta)) - x
        check_finite("the loss is", step.loss, batch.tasks)
        check_finite("the meta-gradient is", towards)
        if self.config.outer == "adam":
            x, self.adam = Adam().step(x, -towards, self.adam, self.config.lr or 1e-3)
        else:
            x = x + (self.config.lr or 1.0) * towards
        self.params = unflatten(x, self.params)
        return {"gradient_norm": float(towards.norm())} | self._policy_metrics()

    def state_dict(self) -> dict[str, Any]:
        """The meta-parameters, and Adam's memory where it is the optimiser."""
        state = super().state_dict()
        return state | self.adam.state_dict() if self.config.outer == "adam" else state

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore what :meth:`state_dict` returned, to the bit.

        Raises:
            ValueError: if the parameters are not those of this policy.
        """
        super().load_state_dict(state)
        if self.config.outer == "adam":
            self.adam = AdamState.from_state(state, self.device)
