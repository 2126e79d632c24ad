"""E-MAML (Stadie, Yang, Houthooft, Chen, Duan, Wu, Abbeel and Sutskever 2018).

MAML takes the episodes before adaptation as given. But the meta-parameters chose how to play them,
and the adapted policy is better where they told more: the expectation over D_k ~ π_θk has a
gradient of its own,

    ∇J = MAML's + Σ_{k<K} E[ R(θ_K) ∇_θ log π_θk(D_k) ],   log π(D) = Σ_{B episodes} Σ_t log π(a|s).

Here it is one more surrogate on every D_k, with one advantage for all samples of a task: its return
after the last step over the mean of the meta-batch's other tasks, which is no function of D_k and
so leaves the gradient unbiased. Without ``normalize_advantages`` and with ``exploration_weight`` 1
the sum is the gradient of the expected return after adaptation, over the horizon (γ = λ = 1, every
episode as long as that, ``inner_estimator`` log_prob: the Hessians of the others hold part of the
same influence on D_k, and it would count twice; Rothfuss et al. 2019, section 4). Normalised, the
advantage is divided by its returns' standard deviation over the tasks, and its weight is a setting.
"""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from metarl.adaptation.meta_objective import Term, surrogate
from metarl.algorithms.maml import MAML, GradientBatch
from metarl.algorithms.settings.gradient import EMAMLSettings
from metarl.maths.returns import rounding


class EMAML(MAML):
    """E-MAML."""

    config_class = EMAMLSettings
    config: EMAMLSettings

    def terms(self, batch: GradientBatch) -> list[Term]:
        """MAML's terms, and the exploration of every step before the last."""
        credit = self.config.exploration_weight * self._credit(batch.returns[-1])
        explored = []
        for k, samples in enumerate(batch.data[:-1]):
            advantages = credit.unsqueeze(1).expand_as(samples.weights)
            judged = replace(samples, advantages=advantages)
            explored.append(Term(k, judged, surrogate(clip=self.config.outer.clip)))
        return super().terms(batch) + explored

    def _credit(self, returns: Tensor) -> Tensor:
        """Every task's advantage ``[M]`` for how its episodes before adaptation were played."""
        others = (returns.sum() - returns) / (len(returns) - 1)
        if self.config.normalize_advantages:
            std = returns.std()
            return torch.where(std > rounding(returns, (0,)), (returns - others) / std, 0.0)
        # A task's loss is a mean over B episodes and the likelihood of D_k a product over them.
        return self.config.episodes * (returns - others)
