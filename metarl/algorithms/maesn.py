"""Structured exploration by a latent (MAESN, Gupta, Mendonca, Liu, Abbeel and Levine 2018).

The policy is shown a latent z beside the observation, drawn once an *episode*, so that whole
episodes differ and not single actions. The inner step adapts its mean and deviation along with the
parameters, by step sizes that are learned for each of them as in Meta-SGD,

    z ~ N(μ, σ²),   (θ, μ, log σ)_{k+1} = (θ, μ, log σ)_k − α ⊙ ∇L_task((θ, μ, log σ)_k),
    min over (θ, μ, log σ, α) of E_task[ L_task((θ, μ, log σ)_K) ] + w KL( N(μ, σ²) ‖ N(0, 1) ),

with the KL of the latent before adaptation (section 4). The gradient reaches μ and σ through
π(a | s, μ + σ ε), see :mod:`metarl.networks.latent`. In the paper every training task keeps a μ and
σ of its own before adaptation, and a new one begins at N(0, 1); here tasks are drawn anew, so they
share these two, which is what a new task begins at.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from metarl.adaptation.inner_loop import Rates
from metarl.adaptation.meta_objective import MetaObjective
from metarl.algorithms.maml import GradientBatch
from metarl.algorithms.meta_sgd import MetaSGD
from metarl.algorithms.settings.gradient import MAESNSettings
from metarl.maths.params import MetaParams, Params
from metarl.networks.images import ImageEncoder
from metarl.networks.latent import LOG_STD, MEAN, LatentPolicy, latent_policy
from metarl.networks.spaces import Sizes


class MAESN(MetaSGD):
    """MAESN for policies."""

    config_class = MAESNSettings
    config: MAESNSettings
    policy: LatentPolicy

    def make_policy(self, sizes: Sizes, encoder: ImageEncoder | None) -> LatentPolicy:
        """A policy with a latent that is drawn."""
        config, settings = self.config, self.network_settings()
        of_z = {"latent": config.latent, "latent_std": config.latent_std}
        return latent_policy(sizes, encoder, **settings, **of_z)

    def initial_meta(self, params: Params) -> MetaParams:
        """The parameters, and a rate of 1 for each that adapts."""
        names = params if self.config.adapted == "all" else self.policy.latent_names
        return MetaParams(params, {name: torch.ones_like(params[name]) for name in names})

    def rates(self) -> Rates | None:
        """The learned ones; 0 for what does not adapt."""
        return dict.fromkeys(self.params, 0.0) | dict(self.meta.rates or {})

    def objective(self, batch: GradientBatch) -> MetaObjective:
        """Meta-SGD's, and the KL from the prior."""
        parts = vars(super().objective(batch))
        return _NearPrior(**parts, prior_weight=self.config.prior_weight)

    def after_update(self, objective: MetaObjective) -> dict[str, float]:
        """As Meta-SGD's, and the latent before adaptation: |μ|, and the mean of σ."""
        return super().after_update(objective) | {
            "latent/mean": float(self.params[MEAN].norm()),
            "latent/std": float(self.params[LOG_STD].exp().mean()),
        }


@dataclass(frozen=True, eq=False)
class _NearPrior(MetaObjective):
    """An objective, and w KL(N(μ, σ²) ‖ N(0, 1)) of the latent before adaptation."""

    prior_weight: float = 0.0

    def loss_and_gradient(self, x: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """The penalty is in every task's loss."""
        losses, gradient = super().loss_and_gradient(x)
        at = (self.meta.vector() if x is None else x).detach().requires_grad_()
        with torch.enable_grad():
            penalty = self._penalty(at)
        return losses + penalty.detach(), gradient + torch.autograd.grad(penalty, at)[0]

    def evaluate(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Likewise."""
        loss, kl = super().evaluate(x)
        return loss + self._penalty(x), kl

    def _penalty(self, x: Tensor) -> Tensor:
        """w ½ Σ (σ² + μ² − 1 − 2 log σ)."""
        at = self.meta.unflatten(x).policy
        kl = 0.5 * ((2.0 * at[LOG_STD]).exp() + at[MEAN].square() - 1.0) - at[LOG_STD]
        return self.prior_weight * kl.sum()
