"""Proximal meta-policy search (ProMP, Rothfuss, Lee, Clavera, Asfour and Abbeel 2019).

    J(θ) = J_clip(θ') − η KL(π_θ,old ‖ π_θ),   θ' = θ − α ∇L_LR(θ),            (section 6)

with PPO's clipped surrogate of the adapted policy, several gradient steps on the same data, and the
inner likelihood-ratio surrogate L_LR = −E[π_θ/π_θ,old Â], whose Hessian has low variance (LVC,
section 5) and which stays right as θ moves away from what sampled the data. The KL penalty on the
policies before each step keeps θ there; its coefficient halves or doubles after an iteration whose
KL was below target/1.5 or above 1.5 · target (Schulman et al. 2017, section 4), and stays above a
thousandth of its start, from less it would take too long to come back.
"""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, Literal

from pydantic import BaseModel, Field

from metarl.adaptation.meta_objective import MetaObjective, Term, kl_penalty
from metarl.algorithms.gradient_algorithm import GradientBatch, because
from metarl.algorithms.surrogate_algorithm import SurrogateAlgorithm, SurrogateConfig
from metarl.maths.params import flatten


class ProMPConfig(SurrogateConfig):
    """What can be set of ProMP."""

    name: Literal["promp"] = "promp"
    adaptation_steps: Annotated[
        int, Field(ge=1), because("without an adaptation step there is no KL before it to penalise")
    ] = Field(1, description="inner gradient steps in training")
    inner_estimator: Annotated[
        Literal["lvc"], because("ProMP is made of it; maml takes the others")
    ] = Field("lvc", description="inner objective: always the likelihood ratio")
    first_order: Annotated[
        Literal[False], because("ProMP's low-variance curvature is a second-order term")
    ] = Field(False, description="never: the second-order term is ProMP's own")
    outer: Annotated[
        Literal["ppo"],
        because("ProMP's objective is PPO's; trpo and adam go with maml and inner_estimator lvc"),
    ] = Field("ppo", description="what moves the meta-parameters")
    kl_coefficient: float = Field(
        5e-4, ge=0, description="η at the start, weight of the KL before each step; 0: none"
    )
    kl_target: float = Field(
        0.01,
        gt=0,
        description="KL of the policy before each step over an update, nats; η follows it",
    )


class ProMP(SurrogateAlgorithm):
    """ProMP."""

    config_class: ClassVar[type[BaseModel]] = ProMPConfig

    def __init__(self, config: ProMPConfig, *args: Any, **options: Any) -> None:
        super().__init__(config, *args, **options)
        self.kl_coefficients = [config.kl_coefficient] * config.adaptation_steps

    def terms(self, batch: GradientBatch) -> list[Term]:
        """The adapted policies' clipped surrogates, and the penalties on those before each step."""
        penalties = [
            Term(k, batch.data[k], kl_penalty(coefficient))
            for k, coefficient in enumerate(self.kl_coefficients)
        ]
        return penalties + super().terms(batch)

    def conclude(self, objective: MetaObjective) -> dict[str, float]:
        """η follows the KL that the update brought."""
        metrics = super().conclude(objective)
        steps = len(self.kl_coefficients)  # whose terms come first
        found = objective.divergences(flatten(self.params))[:steps]
        for k, kl in enumerate(map(float, found)):
            if kl < self.config.kl_target / 1.5:
                floor = self.config.kl_coefficient / 1024
                self.kl_coefficients[k] = max(self.kl_coefficients[k] / 2, floor)
            elif kl > self.config.kl_target * 1.5:
                self.kl_coefficients[k] *= 2
            metrics[f"kl/before_step_{k + 1}"] = kl
            metrics[f"kl/coefficient_{k + 1}"] = self.kl_coefficients[k]
        return metrics

    def state_dict(self) -> dict[str, Any]:
        """As the base's, and the penalties' coefficients."""
        return super().state_dict() | {"kl_coefficients": list(self.kl_coefficients)}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore what :meth:`state_dict` returned, to the bit.

        Raises:
            ValueError: if the parameters are not those of this policy.
        """
        super().load_state_dict(state)
        self.kl_coefficients = [float(x) for x in state["kl_coefficients"]]
