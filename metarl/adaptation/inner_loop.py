"""Adaptation: one gradient step on every task's own parameters, and its derivative.

For an inner loss L_m and a step size α, MAML adapts

    θ'_m = θ_m − α ∇L_m(θ_m),           (Finn et al. 2017, section 2.2)

whose Jacobian is I − α H_m with the symmetric Hessian H_m = ∇²L_m(θ_m). Products with it are all
that the outer loop needs: a chain of them pulls a gradient back to the meta-parameters, and pushes
a direction forward from them. All tasks go at once through stacked parameters.

Every parameter p may have a rate r_p, on which its steps are scaled: α r_p in place of α. ANIL's
rates are 1 for the head and 0 for the rest (Raghu et al. 2020), Meta-SGD's are learned with the
parameters (Li et al. 2017), as more meta-parameters under the names ``rate.<parameter>``, which all
steps share and none changes.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from metarl.maths.baseline import linear_baseline
from metarl.maths.distributions import Distribution
from metarl.maths.losses import dice_loss, log_prob_loss, ratio_loss
from metarl.maths.params import Params
from metarl.maths.returns import discounted_sum, generalized_advantages, normalize
from metarl.maths.samples import Samples, flat_samples
from metarl.networks.mlp import MLPPolicy
from metarl.networks.policy_pass import PolicyPass
from metarl.types import Trajectory

Estimator = Literal["log_prob", "lvc", "dice"]
RATE = "rate."
"""Before a parameter's name: its learned rate among the meta-parameters."""


@dataclass(frozen=True)
class InnerStep:
    """One adaptation step that was taken, θ → θ'.

    Attributes:
        adapted: θ' ``[M, ...]``, with learned rates as they were.
        loss: L_m(θ_m) ``[M]``.
        gradient: ∇L_m(θ_m) ``[M, ...]``.
    """

    adapted: Params
    loss: Tensor
    gradient: Params
    _step_size: float
    _rates: Mapping[str, Tensor | float] | None
    _hessian_product: Callable[[Params], Params] | None

    def push_forward(self, v: Params) -> Params:
        """The change of θ' along a change v of θ and of the learned rates ``[M, ...]``.

        dθ' = dθ − α r ⊙ H dθ − α dr ⊙ ∇L.
        """
        moved = dict(v)
        if self._hessian_product is not None:
            for n, h in self._hessian_product(v).items():
                rate = 1.0 if self._rates is None else self._rates[n]
                moved[n] = v[n] - self._step_size * rate * h
        for n, g in self.gradient.items():
            if RATE + n in v:
                moved[n] = moved[n] - self._step_size * v[RATE + n] * g
        return moved

    def pull_back(self, c: Params) -> Params:
        """From a gradient with respect to θ' (and the rates) to that with respect to θ and them.

        θ: c − H (α r ⊙ c); r: what c has for it − α ∇L ⊙ c, where the rates are learned.
        """
        if self._rates is None:  # I − α H is its own transpose
            return self.push_forward(c)
        pulled = dict(c)
        if self._hessian_product is not None:
            scaled = {n: self._step_size * self._rates[n] * c[n] for n in self.gradient}
            for n, h in self._hessian_product(scaled).items():
                pulled[n] = c[n] - h
        for n, g in self.gradient.items():
            if RATE + n in self.adapted:
                own = -self._step_size * g * c[n]
                pulled[RATE + n] = c[RATE + n] + own if RATE + n in c else own
        return pulled


@dataclass(frozen=True)
class Adaptation:
    """How a task's own episodes become a gradient step, in training and in deployment alike.

    Attributes:
        policy: The policy to adapt.
        step_sizes: α_k of step k; the last repeats.
        estimator: Of the inner loss. All have the policy gradient as their first derivative; the
            second ones differ. "log_prob": −E[log π Â], whose Hessian is biased (MAML's code);
            "lvc": −E[π/π_old Â], which lacks the dependence of later steps on earlier ones and has
            low variance (Rothfuss et al. 2019, section 5); "dice": unbiased
            (:func:`metarl.maths.losses.dice_loss`).
        discount: γ.
        gae_lambda: λ.
        normalize_advantages: To mean 0 and standard deviation 1 over a task's valid steps.
        frozen: Names of parameters that do not adapt.
    """

    policy: MLPPolicy
    step_sizes: tuple[float, ...]
    estimator: Estimator = "log_prob"
    discount: float = 0.99
    gae_lambda: float = 1.0
    normalize_advantages: bool = True
    frozen: frozenset[str] = frozenset()

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
        return flat_samples(
            trajectory.observations, trajectory.actions, advantages, valid, trajectory.log_probs
        )

    def step(
        self, params: Params, samples: Samples, k: int, *, second_order: bool = False
    ) -> InnerStep:
        """θ'_m = θ_m − α_k r ⊙ ∇L_m(θ_m) for all tasks at once.

        Args:
            params: Stacked θ ``[M, ...]``, with the rates where they are learned.
            samples: The steps that each task's own θ_m sampled.
            k: Which adaptation step this is, from 0.
            second_order: Keep what products with the Hessian need.
        """
        if second_order:
            return self._step(params, samples, k, second_order=True)
        steps = [
            self._step({n: p[block] for n, p in params.items()}, samples.tasks(block), k)
            for block in samples.blocks(self.policy.widest)
        ]
        adapted = {n: torch.cat([step.adapted[n] for step in steps]) for n in params}
        gradient = {n: torch.cat([step.gradient[n] for step in steps]) for n in steps[0].gradient}
        loss = torch.cat([step.loss for step in steps])
        return InnerStep(adapted, loss, gradient, self.step_size(k), self._rates(params), None)

    def _step(
        self, params: Params, samples: Samples, k: int, *, second_order: bool = False
    ) -> InnerStep:
        policy_pass = PolicyPass(self.policy, params, samples.observations)
        at = policy_pass.differentiate(
            lambda distribution: self.inner_loss(distribution, samples), second_order=second_order
        )
        size, rates = self.step_size(k), self._rates(params)
        adapted = {n: p.detach() for n, p in params.items()}
        for n, g in at.gradient.items():
            adapted[n] = adapted[n] - size * (g if rates is None else rates[n] * g)
        return InnerStep(adapted, at.loss, at.gradient, size, rates, at.hessian_product)

    def _rates(self, params: Params) -> Mapping[str, Tensor | float] | None:
        """r of every parameter; None where all are 1."""
        learned = {
            n.removeprefix(RATE): p.detach() for n, p in params.items() if n.startswith(RATE)
        }
        if learned:
            return learned
        if self.frozen:
            return {n: 0.0 if n in self.frozen else 1.0 for n in params}
        return None

    def inner_loss(self, distribution: Distribution, samples: Samples) -> Tensor:
        """L_m of the policy's distributions on its samples ``[M]``."""
        if self.estimator == "log_prob":
            return log_prob_loss(distribution, samples)
        if self.estimator == "dice":
            return dice_loss(distribution, samples)
        acted = samples.log_probs
        if acted is None:  # the policy at hand
            acted = distribution.log_prob(samples.actions).detach()
        return ratio_loss(distribution, samples, acted)
