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

from typing import Any

from metarl.adaptation.meta_objective import MetaObjective, Term, kl_penalty
from metarl.algorithms.maml import MAML, GradientBatch
from metarl.algorithms.settings.gradient import ProMPSettings
from metarl.maths.params import check_state


class ProMP(MAML):
    """ProMP for policies."""

    config_class = ProMPSettings
    optimiser_state = (*MAML.optimiser_state, "kl_coefficients")
    config: ProMPSettings

    def __init__(self, config: ProMPSettings, *args: Any, **options: Any) -> None:
        super().__init__(config, *args, **options)
        self.kl_coefficients = [config.kl_coefficient] * config.adaptation_steps

    def terms(self, batch: GradientBatch) -> list[Term]:
        """The adapted policies' clipped surrogates, and the penalties on those before each step."""
        penalties = [
            Term(k, batch.data[k], kl_penalty(coefficient))
            for k, coefficient in enumerate(self.kl_coefficients)
        ]
        return penalties + super().terms(batch)

    def after_update(self, objective: MetaObjective) -> dict[str, float]:
        """η follows the KL that the update brought."""
        metrics = super().after_update(objective)
        divergences = objective.divergences(self.meta.vector())
        for k in range(len(self.kl_coefficients)):
            kl = float(divergences[k])
            if kl < self.config.kl_target / 1.5:
                floor = self.config.kl_coefficient / 1024
                self.kl_coefficients[k] = max(self.kl_coefficients[k] / 2, floor)
            elif kl > self.config.kl_target * 1.5:
                self.kl_coefficients[k] *= 2
            metrics[f"kl/before_step_{k + 1}"] = kl
            metrics[f"kl/coefficient_{k + 1}"] = self.kl_coefficients[k]
        return metrics

    def state_dict(self) -> dict[str, Any]:
        """MAML's state, and the penalties' coefficients."""
        return super().state_dict() | {"kl_coefficients": list(self.kl_coefficients)}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """As :meth:`MAML.load_state_dict`."""
        check_state(state, ProMP.state_dict(self))
        super().load_state_dict(state)
        self.kl_coefficients = [float(x) for x in state["kl_coefficients"]]
