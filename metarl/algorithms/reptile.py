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

from metarl.algorithms.maml import MAML, GradientBatch
from metarl.algorithms.settings.gradient import ReptileSettings
from metarl.algorithms.settings.outer import AdamSettings
from metarl.maths.adam import Adam
from metarl.maths.finite import check_finite
from metarl.maths.params import Params, flatten, mean_over_tasks, stack
from metarl.maths.samples import Samples


class Reptile(MAML):
    """Reptile: it collects and adapts as MAML does, and has another outer loop.

    There is no surrogate: nothing asks for :meth:`terms`, :meth:`objective`, :meth:`after_update`.
    """

    config_class = ReptileSettings
    config: ReptileSettings  # type: ignore[assignment]

    def update(self, batch: GradientBatch) -> dict[str, float]:
        """Adapt once more, and follow the mean of the tasks.

        Raises:
            FloatingPointError: a loss or an adapted parameter is not finite.
        """
        theta, adaptation = stack(self.params, len(batch.tasks)), self.adaptation
        for k, samples in enumerate(batch.data):
            before, step = theta, adaptation.step(theta, samples, k)
            theta = step.adapted
        x, outer = self.meta.vector(), self.config.outer
        lr = outer.lr_at(batch.iteration)
        displacement = flatten(mean_over_tasks(theta)) - x
        check_finite("the loss is", step.loss, batch.tasks)
        check_finite("the adaptation's displacement is", displacement)
        if isinstance(outer, AdamSettings):
            x, self.adam = Adam().step(x, -displacement, self.adam, lr)
        else:
            x = x + lr * displacement
        self.meta = self.meta.unflatten(x)
        self.moments = batch.moments or self.moments
        return {"gradient_norm": float(displacement.norm())} | self.judge_last(before, samples)

    def judge_last(self, theta: Params, samples: Samples) -> dict[str, float]:
        """Metrics of θ_K ``[M, ...]`` on D_K, and of the policy before adaptation."""
        return self._policy_metrics()
