"""Adaptation: one gradient step on every task's own parameters, and its derivative.

For an inner loss L_m and a step size α, MAML adapts

    θ'_m = θ_m − α ∇L_m(θ_m),           (Finn et al. 2017, eq. 1)

whose Jacobian is I − α H_m with the symmetric Hessian H_m = ∇²L_m(θ_m). Products with it are all
that the outer loop needs: a chain of them pulls a gradient back to the meta-parameters, and pushes
a direction forward from them. All tasks go at once through stacked parameters.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from metarl.distributions import Distribution
from metarl.losses import Samples, flat_samples, log_prob_loss, ratio_loss
from metarl.networks import MLPPolicy
from metarl.params import Params
from metarl.policy_pass import PolicyPass
from metarl.returns import discounted_sum, generalized_advantages, normalize
from metarl.types import Trajectory
from metarl.value import linear_baseline

Estimator = Literal["log_prob", "ratio"]


@dataclass(frozen=True)
class InnerStep:
    """One adaptation step that was taken, θ → θ'.

    Attributes:
        adapted: θ' ``[M, ...]``.
        loss: L_m(θ_m) ``[M]``.
    """

    adapted: Params
    loss: Tensor
    _step_size: float
    _hessian_product: Callable[[Params], Params] | None

    def jacobian_product(self, v: Params) -> Params:
        """(I − α H_m) v_m for every task ``[M, ...]``; v itself in the first-order variant.

        The Hessian is symmetric, so this is the Jacobian's product and its transpose's.
        """
        if self._hessian_product is None:
            return v
        hv = self._hessian_product(v)
        return {n: v[n] - self._step_size * h for n, h in hv.items()}


@dataclass(frozen=True)
class Adaptation:
    """How a task's own episodes become a gradient step, in training and in deployment alike.

    Attributes:
        policy: The policy to adapt.
        step_sizes: α_k of step k; the last repeats.
        estimator: Of the inner loss: "log_prob", −E[log π Â], or "ratio", −E[π/π.detach() Â].
            Their first derivatives agree, their second ones do not.
        discount: γ.
        gae_lambda: λ.
        normalize_advantages: To mean 0 and standard deviation 1 over a task's valid steps.
    """

    policy: MLPPolicy
    step_sizes: tuple[float, ...]
    estimator: Estimator = "log_prob"
    discount: float = 0.99
    gae_lambda: float = 1.0
    normalize_advantages: bool = True

    def step_size(self, k: int) -> float:
        """α_k."""
        return self.step_sizes[min(k, len(self.step_sizes) - 1)]

    def samples(self, trajectory: Trajectory) -> Samples:
        """Advantages of every task over its own linear baseline, as flat samples."""
        valid = trajectory.valid
        returns = discounted_sum(trajectory.rewards, self.discount)
        values = linear_baseline(trajectory.observations, returns, valid)
        advantages = generalized_advantages(
            trajectory.rewards, values, valid, self.discount, self.gae_lambda
        )
        if self.normalize_advantages:
            advantages = normalize(advantages, valid, dims=(1, 2))  # lanes and time, not tasks
        return flat_samples(trajectory.observations, trajectory.actions, advantages, valid)

    def loss(self, params: Params, samples: Samples) -> Tensor:
        """L_m(θ_m) ``[M]``."""
        return self._loss(self.policy(params, samples.observations), samples)

    def step(
        self, params: Params, samples: Samples, k: int, *, second_order: bool = False
    ) -> InnerStep:
        """θ'_m = θ_m − α_k ∇L_m(θ_m) for all tasks at once.

        Args:
            params: Stacked θ ``[M, ...]``.
            samples: The steps that each task's own θ_m sampled.
            k: Which adaptation step this is, from 0.
            second_order: Keep what :meth:`InnerStep.jacobian_product` needs.
        """
        if second_order:
            return self._step(params, samples, k, second_order=True)
        steps = [
            self._step({n: p[block] for n, p in params.items()}, samples.tasks(block), k)
            for block in samples.blocks(self.policy.widest)
        ]
        adapted = {n: torch.cat([step.adapted[n] for step in steps]) for n in params}
        loss = torch.cat([step.loss for step in steps])
        return InnerStep(adapted, loss, self.step_size(k), None)

    def _step(
        self, params: Params, samples: Samples, k: int, *, second_order: bool = False
    ) -> InnerStep:
        policy_pass = PolicyPass(self.policy, params, samples.observations)
        at = policy_pass.differentiate(
            lambda distribution: self._loss(distribution, samples), second_order=second_order
        )
        size = self.step_size(k)
        adapted = {n: p.detach() - size * at.gradient[n] for n, p in params.items()}
        return InnerStep(adapted, at.loss, size, at.hessian_product)

    def _loss(self, distribution: Distribution, samples: Samples) -> Tensor:
        if self.estimator == "log_prob":
            return log_prob_loss(distribution, samples)
        return ratio_loss(distribution, samples, distribution.log_prob(samples.actions).detach())
