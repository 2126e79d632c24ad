"""Adaptation: one gradient step on every task's own parameters, and its derivative.

For an inner loss L_m and a step size α, MAML adapts

    θ'_m = θ_m − α ∇L_m(θ_m),           (Finn et al. 2017, section 2.2)

whose Jacobian is I − α H_m with the symmetric Hessian H_m = ∇²L_m(θ_m). Products with it are all
that the outer loop needs: a chain of them pulls a gradient back to the meta-parameters (VJP), and
pushes a direction forward from them (JVP). All tasks go at once through stacked parameters.

Every parameter may have a rate r, on which its steps are scaled: α r in place of α. ANIL's rates
are 1 for the head and 0 for the rest (Raghu et al. 2020); Meta-SGD's are learned with the
parameters (Li et al. 2017), shared by all steps and changed by none.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from metarl.maths.distributions import Distribution
from metarl.maths.losses import dice_loss, log_prob_loss, ratio_loss
from metarl.maths.params import MetaParams, Params, concatenate
from metarl.maths.samples import Samples
from metarl.networks.mlp import MLPPolicy
from metarl.types import Estimator

Rates = Mapping[str, Tensor | float]


@dataclass(frozen=True)
class InnerStep:
    """One adaptation step that was taken, θ → θ'.

    Attributes:
        adapted: θ' ``[M, ...]``.
        loss: L_m(θ_m) ``[M]``.
        gradient: ∇L_m(θ_m) ``[M, ...]``.
    """

    adapted: Params
    loss: Tensor
    gradient: Params
    _step_size: float
    _rates: Rates | None
    _hessian_product: Callable[[Params], Params] | None

    def push_forward(self, v: Params, rate_tangents: Params | None = None) -> Params:
        """JVP: the change of θ' along a change v of θ, and of the learned rates ``[M, ...]``.

        dθ' = dθ − α r ⊙ H dθ − α dr ⊙ ∇L, without H in the first-order variant.
        """
        moved = dict(v)
        if self._hessian_product is not None:
            for n, h in self._hessian_product(v).items():
                rate = 1.0 if self._rates is None else self._rates[n]
                moved[n] = v[n] - self._step_size * rate * h
        for n, rate_tangent in (rate_tangents or {}).items():
            moved[n] = moved[n] - self._step_size * rate_tangent * self.gradient[n]
        return moved

    def pull_back(self, c: Params) -> Params:
        """VJP: the gradient with respect to θ of one, c, with respect to θ': c − H (α r ⊙ c)."""
        if self._rates is None:  # I − α H is its own transpose
            return self.push_forward(c)
        if self._hessian_product is None:
            return c
        scaled = {n: self._step_size * self._rates[n] * c[n] for n in self.gradient}
        return {n: c[n] - h for n, h in self._hessian_product(scaled).items()}

    def rates_gradient(self, c: Params) -> Params:
        """VJP: the gradient with respect to the rates of one with respect to θ': −α ∇L ⊙ c."""
        return {n: -self._step_size * g * c[n] for n, g in self.gradient.items()}


@dataclass(frozen=True)
class Adaptation:
    """The inner gradient step on a task's own samples, in training and in deployment alike.

    Attributes:
        policy: The policy to adapt. One of another kind need only offer ``widest``, a call, and
            ``through`` to a pass with the methods of :class:`metarl.networks.mlp.PolicyPass`; one
            that is to act, also what :class:`metarl.networks.mlp.PolicyActor` asks of it.
        step_sizes: α_k of step k; the last repeats.
        estimator: Of the inner loss. All have the policy gradient as their first derivative; the
            second ones differ. "log_prob": −E[log π Â], whose Hessian is biased (MAML's code);
            "lvc": −E[π/π_old Â], which lacks the dependence of later steps on earlier ones and has
            low variance (Rothfuss et al. 2019, section 5); "dice": unbiased
            (:func:`metarl.maths.losses.dice_loss`).
        rates: r of every parameter, by name; None: all are 1.
    """

    policy: MLPPolicy
    step_sizes: tuple[float, ...]
    estimator: Estimator = "log_prob"
    rates: Rates | None = None

    def step_size(self, k: int) -> float:
        """α_k."""
        return self.step_sizes[min(k, len(self.step_sizes) - 1)]

    def with_rates_of(self, meta: MetaParams) -> Adaptation:
        """The same step with the rates of these meta-parameters, where they are learned."""
        if meta.rates is None:
            return self
        return replace(self, rates={**(self.rates or {}), **meta.rates})

    def step(
        self, params: Params, samples: Samples, k: int, *, second_order: bool = False
    ) -> InnerStep:
        """θ'_m = θ_m − α_k r ⊙ ∇L_m(θ_m) for all tasks at once.

        Args:
            params: Stacked θ ``[M, ...]``.
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
        adapted = concatenate([step.adapted for step in steps], params)
        gradient = concatenate([step.gradient for step in steps], params)
        loss = torch.cat([step.loss for step in steps])
        return InnerStep(adapted, loss, gradient, self.step_size(k), self.rates, None)

    def _step(
        self, params: Params, samples: Samples, k: int, *, second_order: bool = False
    ) -> InnerStep:
        derivatives = self.policy.through(params, samples.observations).differentiate(
            lambda distribution: self.inner_loss(distribution, samples), second_order=second_order
        )
        size, adapted = self.step_size(k), {}
        for n, p in params.items():
            g = derivatives.gradient[n]
            adapted[n] = p.detach() - size * (g if self.rates is None else self.rates[n] * g)
        return InnerStep(
            adapted,
            derivatives.loss,
            derivatives.gradient,
            size,
            self.rates,
            derivatives.hessian_product,
        )

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
