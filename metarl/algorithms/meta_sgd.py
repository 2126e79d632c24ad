"""Meta-SGD (Li, Zhou, Chen and Li 2017): the step sizes are learned with the parameters.

    θ'_m = θ − α ⊙ ∇L_m(θ),   min over (θ, α) of E_task[ L_task(θ') ]

Every parameter has a step size of its own, which may become negative: the adaptation learns a
direction as well as a length. Here α = α_k r, with MAML's step sizes α_k as the unit and rates r
that begin at 1 and are learned: ∂J/∂r = −Σ_k α_k E_task[∇L_task(θ_k) ⊙ ∂J/∂θ_{k+1}]. All steps
share them.
"""

from __future__ import annotations

from typing import Any, ClassVar

import torch

from metarl.adaptation.meta_objective import MetaObjective
from metarl.algorithms.maml import MAML
from metarl.algorithms.settings.gradient import AdaptationSettings, MetaSGDSettings
from metarl.maths.params import MetaParams, Params, flatten

_FORMER_PREFIX = "rate."  # before a rate's name, when rates stood among the parameters


class MetaSGD(MAML):
    """Meta-SGD for policies."""

    config_class: ClassVar[type[AdaptationSettings]] = MetaSGDSettings

    def initial_meta(self, params: Params) -> MetaParams:
        """The policy's parameters, and a rate of 1 for each of them."""
        return MetaParams(params, {name: torch.ones_like(p) for name, p in params.items()})

    def after_update(self, objective: MetaObjective) -> dict[str, float]:
        """The learned rates' mean, deviation, and share below 0."""
        assert self.meta.rates is not None
        rates = flatten(self.meta.rates)
        return super().after_update(objective) | {
            "rate/mean": float(rates.mean()),
            "rate/std": float(rates.std(correction=0)),
            "rate/negative": float((rates < 0).float().mean()),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """As :meth:`MAML.load_state_dict`, also for what an earlier version returned."""
        if "rates" not in state:
            every = state["params"].items()
            params = {n: p for n, p in every if not n.startswith(_FORMER_PREFIX)}
            rates = {
                n.removeprefix(_FORMER_PREFIX): p for n, p in every if n.startswith(_FORMER_PREFIX)
            }
            state = state | {"params": params, "rates": rates}
        super().load_state_dict(state)
