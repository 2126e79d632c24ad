"""Meta-SGD (Li, Zhou, Chen and Li 2017): the step sizes are learned with the parameters.

    θ'_m = θ − α ⊙ ∇L_m(θ),   min over (θ, α) of E_task[ L_task(θ') ]

Every parameter has a step size of its own, which may become negative: the adaptation learns a
direction as well as a length. Here α = α_k r, with MAML's step sizes α_k as the unit and rates r
that begin at 1 and are learned: ∂J/∂r = −Σ_k α_k E_task[∇L_task(θ_k) ⊙ ∂J/∂θ_{k+1}]. All steps
share them.
"""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

import torch
from pydantic import BaseModel, Field

from metarl.adaptation.inner_loop import RATE
from metarl.adaptation.meta_objective import MetaObjective
from metarl.algorithms.gradient_algorithm import because
from metarl.algorithms.surrogate_algorithm import SurrogateAlgorithm, SurrogateConfig
from metarl.maths.params import Params


class MetaSGDConfig(SurrogateConfig):
    """What can be set of Meta-SGD; ``inner_lr`` is the unit of the rates."""

    name: Literal["meta_sgd"] = "meta_sgd"
    adaptation_steps: Annotated[
        int, Field(ge=1), because("without an adaptation step there is no rate to learn")
    ] = Field(1, description="inner gradient steps in training, which share the learned rates")


class MetaSGD(SurrogateAlgorithm):
    """Meta-SGD for policies."""

    config_class: ClassVar[type[BaseModel]] = MetaSGDConfig

    def initial_params(self, policy_params: Params) -> Params:
        """The policy's parameters, and a rate of 1 for each of them."""
        rates = {RATE + name: torch.ones_like(p) for name, p in policy_params.items()}
        return policy_params | rates

    def conclude(self, objective: MetaObjective) -> dict[str, float]:
        """What the rates have become."""
        metrics = super().conclude(objective)
        rates = torch.cat([p.flatten() for n, p in self.params.items() if n.startswith(RATE)])
        return metrics | {
            "rate/mean": float(rates.mean()),
            "rate/std": float(rates.std(correction=0)),
            "rate/negative": float((rates < 0).float().mean()),
        }
