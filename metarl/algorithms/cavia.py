"""Fast context adaptation via meta-learning (CAVIA, Zintgraf, Shiarlis, Kurin, Hofmann, Whiteson
2019).

The policy is shown a context φ beside the observation, 0 before adaptation. The inner step changes
φ alone and the outer loop the network alone,

    φ_0 = 0,   φ_{k+1} = φ_k − α_k ∇_φ L_task(θ, φ_k),   min_θ E_task[ L_task(θ, φ_K) ]

(section 3), so that a task is told by a few numbers, whose gradient is far less noisy than that of
all weights.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from metarl.adaptation.inner_loop import Rates
from metarl.adaptation.meta_objective import MetaObjective
from metarl.algorithms.maml import MAML, GradientBatch
from metarl.algorithms.settings.gradient import CAVIASettings
from metarl.maths.params import flatten
from metarl.networks.images import ImageEncoder
from metarl.networks.latent import LatentPolicy, latent_policy
from metarl.networks.spaces import Sizes


class CAVIA(MAML):
    """CAVIA for policies."""

    config_class = CAVIASettings
    config: CAVIASettings
    policy: LatentPolicy

    def make_policy(self, sizes: Sizes, encoder: ImageEncoder | None) -> LatentPolicy:
        """A policy with a context: a latent that is never drawn."""
        context = {"latent": self.config.context, "latent_std": 0.0}
        return latent_policy(sizes, encoder, **self.network_settings(), **context)

    def rates(self) -> Rates | None:
        """1 for the context, 0 for the network."""
        context = self.policy.latent_names
        return {name: float(name in context) for name in self.params}

    def objective(self, batch: GradientBatch) -> MetaObjective:
        """MAML's, as a function of the network alone."""
        parts = vars(super().objective(batch))
        return _OfTheNetwork(**parts, still=tuple(self.policy.latent_names))


@dataclass(frozen=True, eq=False)
class _OfTheNetwork(MetaObjective):
    """The objective and its curvature where the context before adaptation is 0, and stays so."""

    still: tuple[str, ...] = ()

    def loss_and_gradient(self, x: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """The gradient's part of the context is 0."""
        losses, gradient = super().loss_and_gradient(x)
        return losses, gradient * self._learned

    def curvature_product(self, v: Tensor) -> Tensor:
        """Likewise the product's."""
        return super().curvature_product(v * self._learned) * self._learned

    @property
    def _learned(self) -> Tensor:
        """1 for what the outer loop learns, 0 for the context ``[P]``."""
        learned = {n: torch.full_like(p, n not in self.still) for n, p in self.meta.policy.items()}
        return flatten(learned)
