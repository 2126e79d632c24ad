"""Algorithms that improve a surrogate of the adapted policies, seen through the adaptation.

An algorithm says what its objective is (:meth:`SurrogateAlgorithm.terms`); TRPO, PPO or Adam
move the meta-parameters.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any, ClassVar, Literal

import torch
from gymnasium import spaces
from pydantic import BaseModel, Field, model_validator

from metarl.adaptation.meta_objective import MetaObjective, Term, surrogate
from metarl.algorithms.gradient_algorithm import (
    AdaptationConfig,
    GradientAlgorithm,
    GradientBatch,
)
from metarl.maths.adam import Adam, AdamState
from metarl.maths.finite import check_finite
from metarl.maths.params import detach, flatten, unflatten
from metarl.maths.trpo import TRPO

OuterOptimiser = Literal["trpo", "ppo", "adam"]
_OF: dict[OuterOptimiser, tuple[str, ...]] = {
    "trpo": (
        "max_kl",
        "max_kl_decay",
        "cg_steps",
        "cg_damping",
        "curvature_every",
        "line_search_steps",
        "line_search_ratio",
    ),
    "ppo": ("lr", "clip", "outer_steps"),
    "adam": ("lr",),
}
"""The settings of each outer optimiser."""


class SurrogateConfig(AdaptationConfig):
    """The objective and the outer optimiser."""

    outer_weights: tuple[float, ...] | None = Field(
        None, description="weights of the returns after 0..K steps; null: the last alone counts"
    )
    first_order: bool = Field(False, description="drop the second-order term of the meta-gradient")
    outer: OuterOptimiser = Field("trpo", description="what moves the meta-parameters")
    max_kl: float = Field(0.01, gt=0, description="TRPO: trust region, nats")
    max_kl_decay: float = Field(
        1.0, gt=0, le=1, description="TRPO: factor on max_kl from one iteration to the next"
    )
    cg_steps: int = Field(10, ge=1, description="TRPO: conjugate-gradient steps")
    cg_damping: float = Field(1e-5, ge=0, description="TRPO: added to the Fisher diagonal")
    curvature_every: int = Field(
        1, ge=1, description="TRPO: estimate the curvature, and only it, from every n-th env step"
    )
    line_search_steps: int = Field(15, ge=1, description="TRPO: line-search candidates at most")
    line_search_ratio: float = Field(
        0.8, gt=0, lt=1, description="TRPO: shrinkage between candidates"
    )
    lr: float = Field(1e-3, gt=0, description="PPO and Adam: Adam's step size")
    clip: float = Field(0.2, gt=0, lt=1, description="PPO: ε of the ratio")
    outer_steps: int = Field(5, ge=1, description="PPO: gradient steps an iteration")

    @model_validator(mode="after")
    def _check_objective(self) -> SurrogateConfig:
        weights = self.outer_weights
        if weights is not None and (
            len(weights) != self.adaptation_steps + 1 or min(weights) < 0 or weights[-1] <= 0
        ):
            raise ValueError(
                f"outer_weights must be {self.adaptation_steps + 1} numbers >= 0, one for the "
                f"return before and after each step, the last > 0, not {list(weights)}"
            )
        if self.inner_estimator == "dice" and self.curvature_every > 1:
            raise ValueError(
                f"curvature_every is {self.curvature_every}, but must be 1 with inner_estimator "
                "dice, which follows an episode through all of its steps"
            )
        if self.first_order and self.inner_estimator != "log_prob":
            raise ValueError(
                f"inner_estimator is {self.inner_estimator}, but must be log_prob with "
                "first_order: that drops the Hessian, in which alone the estimators differ"
            )
        others = {name for names in _OF.values() for name in names} - set(_OF[self.outer])
        defaults = {n: f.default for n, f in type(self).model_fields.items() if n in others}
        idle = {n: x for n, x in defaults.items() if getattr(self, n) != x}
        if idle:
            given = " and ".join(f"{n} {getattr(self, n)}" for n in idle)
            usual = ", ".join(map(str, idle.values()))
            raise ValueError(
                f"{given} would do nothing, since outer is {self.outer}: leave out what belongs to "
                f"another outer optimiser, or give the default ({usual})"
            )
        return self

    def objective_weights(self) -> list[float]:
        """w_0, …, w_K of the objective, which sum to 1."""
        weights = self.outer_weights or (0.0,) * self.adaptation_steps + (1.0,)
        return [w / sum(weights) for w in weights]


class SurrogateAlgorithm(GradientAlgorithm):
    """Improves the policies after 0..K steps, each weighted; see the base for the arguments."""

    config_class: ClassVar[type[BaseModel]] = SurrogateConfig

    def __init__(
        self,
        config: Any,
        observation_space: spaces.Space,
        action_space: spaces.Space,
        seed: int,
        device: torch.device | str = "cpu",
    ) -> None:
        super().__init__(config, observation_space, action_space, seed, device)
        self.trpo = TRPO(
            config.max_kl,
            config.cg_steps,
            config.cg_damping,
            config.line_search_steps,
            config.line_search_ratio,
        )
        self.adam = AdamState.fresh(flatten(self.params))

    def terms(self, batch: GradientBatch) -> list[Term]:
        """The objective: what the policies after 0..K steps are judged by."""
        return [
            Term(k, samples, surrogate(weight, self.clip()), trust=weight)
            for k, (samples, weight) in enumerate(
                zip(batch.data, self.config.objective_weights(), strict=True)
            )
            if weight > 0
        ]

    def clip(self) -> float | None:
        """PPO's ε; None where the surrogate is not clipped."""
        return self.config.clip if self.config.outer == "ppo" else None

    def objective(self, batch: GradientBatch) -> MetaObjective:
        """The objective on a meta-iteration's data."""
        return MetaObjective(
            self.adaptation,
            self.params,
            batch.data[:-1],
            self.terms(batch),
            second_order=not self.config.first_order,
            curvature_every=self.config.curvature_every,
        )

    def update(self, batch: GradientBatch) -> dict[str, float]:
        """Move the meta-parameters by the outer optimiser.

        Raises:
            FloatingPointError: a loss or the gradient is not finite.
        """
        objective = self.objective(batch)
        if self.config.outer == "trpo":
            metrics = self._trust_region_step(objective, batch)
        else:
            metrics = self._adam_steps(objective, batch)
        return metrics | self.conclude(objective)

    def conclude(self, objective: MetaObjective) -> dict[str, float]:
        """What an algorithm has left to do once the meta-parameters have moved; its metrics."""
        return self._policy_metrics()

    def state_dict(self) -> dict[str, Any]:
        """The meta-parameters, and Adam's memory where it is the optimiser: TRPO has none."""
        state = super().state_dict()
        return state if self.config.outer == "trpo" else state | self.adam.state_dict()

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore what :meth:`state_dict` returned, to the bit.

        Raises:
            ValueError: if the parameters are not those of this policy.
        """
        super().load_state_dict(state)
        if self.config.outer != "trpo":
            self.adam = AdamState.from_state(state, self.device)

    def _trust_region_step(
        self, objective: MetaObjective, batch: GradientBatch
    ) -> dict[str, float]:
        losses, gradient = objective.loss_and_gradient()
        check_finite("the loss is", losses, batch.tasks)
        check_finite("the meta-gradient is", gradient)
        max_kl = self.config.max_kl * self.config.max_kl_decay**batch.iteration
        result = replace(self.trpo, max_kl=max_kl).step(
            flatten(self.params),
            gradient,
            objective.curvature_product,
            objective.evaluate,
            losses.mean(),
        )
        if result.accepted:
            self.params = detach(unflatten(result.x, self.params))
        return {
            "loss/outer_before": float(losses.mean()),
            "loss/outer_after": result.loss,
            "kl/outer": result.kl,
            "kl/limit": max_kl,
            "gradient_norm": float(gradient.norm()),
            "line_search/tries": float(result.tries),
            "line_search/accepted": float(result.accepted),
        }

    def _adam_steps(self, objective: MetaObjective, batch: GradientBatch) -> dict[str, float]:
        losses, gradient = objective.loss_and_gradient()
        check_finite("the loss is", losses, batch.tasks)
        check_finite("the meta-gradient is", gradient)
        metrics = {
            "loss/outer_before": float(losses.mean()),
            "gradient_norm": float(gradient.norm()),
        }
        x, adam = Adam().step(flatten(self.params), gradient, self.adam, self.config.lr)
        for _ in range(1, self.config.outer_steps if self.config.outer == "ppo" else 1):
            losses, gradient = objective.loss_and_gradient(x)
            check_finite("the loss is", losses, batch.tasks)
            check_finite("the meta-gradient is", gradient)
            x, adam = Adam().step(x, gradient, adam, self.config.lr)
        self.params, self.adam = detach(unflatten(x, self.params)), adam
        loss, kl = objective.evaluate(x)
        return metrics | {"loss/outer_after": float(loss), "kl/outer": float(kl)}
