"""The outer objective of gradient-based meta-learning, seen through the adaptation.

For adaptation θ_{k+1} = θ_k − α_k ∇L_task(θ_k; D_k) from θ_0 = θ, the objective is

    J(θ) = Σ_k w_k E_task[ −E_{D_k}[ π_θk(a|s) / π_θk,old(a|s) Â ] ],

MAML's with all weight on the last step (Finn et al. 2017, eq. 4), the multi-step loss of Antoniou
et al. (2019) with weight on all of them. Its gradient and curvature are those of the adapted
policies, carried through the Jacobians I − α_k H_k of the steps.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from metarl.distributions import Distribution
from metarl.inner_loop import Adaptation, InnerStep
from metarl.losses import Samples, fisher_product, mean_kl, ratio_loss
from metarl.params import Params, flatten, mean_over_tasks, stack, unflatten


@dataclass(frozen=True)
class _Term:
    """One step's share: its data, and the policy π_θk,old that sampled them."""

    weight: float
    samples: Samples
    theta: Params
    old: Distribution
    old_log_prob: Tensor


class MetaObjective:
    """J around the parameters that sampled the data.

    Args:
        adaptation: The inner step.
        params: θ, not stacked.
        data: D_0, …, D_K, each sampled by its own θ_k.
        weights: w_0, …, w_K.
        second_order: Differentiate through the adaptation; else its Jacobians count as identity.
        curvature_every: Estimate the curvature, and only it, from every n-th sample. The adapted
            parameters at which it is taken are exact all the same.
    """

    def __init__(
        self,
        adaptation: Adaptation,
        params: Params,
        data: Sequence[Samples],
        weights: Sequence[float],
        *,
        second_order: bool = True,
        curvature_every: int = 1,
    ) -> None:
        self._adaptation = adaptation
        self._policy = adaptation.policy
        self._params = params
        self._data = data
        self._num_tasks = len(data[0].weights)
        self.steps = self._adapt(params, second_order)
        self._terms = {
            k: self._term(theta, samples, weight)
            for k, (theta, samples, weight) in enumerate(
                zip(self._thetas(params, self.steps), data, weights, strict=True)
            )
            if weight > 0
        }
        thin = [samples.thin(curvature_every) for samples in data]
        self._thin_samples = thin
        self._thin_steps = self.steps
        if curvature_every > 1:
            self._thin_steps = [
                adaptation.step(step.theta, thin[k], k, second_order=second_order)
                for k, step in enumerate(self.steps)
            ]

    def loss_and_gradient(self) -> tuple[Tensor, Tensor]:
        """Every task's loss ``[M]``, and ∇J ``[P]``."""
        losses = torch.zeros(self._num_tasks, device=self._data[0].weights.device)
        gradients: dict[int, Params] = {}
        for k, term in self._terms.items():
            theta = {name: p.detach().requires_grad_() for name, p in term.theta.items()}
            distribution = self._policy(theta, term.samples.observations)
            loss = term.weight * ratio_loss(distribution, term.samples, term.old_log_prob)
            # The sum over tasks: a task's parameters are its own.
            g = torch.autograd.grad(loss.sum(), list(theta.values()), materialize_grads=True)
            gradients[k] = dict(zip(theta, g, strict=True))
            losses = losses + loss.detach()
        return losses, self._pull_back(self.steps, gradients)

    def curvature_product(self, v: Tensor) -> Tensor:
        """F v ``[P]``, F the Hessian of Σ_k w_k E_task[KL(π_θk,old ‖ π_θk)] at θ.

        The Gauss–Newton product, exact at θ: each step's Fisher matrix between the Jacobians.
        """
        direction = stack(unflatten(v, self._params), self._num_tasks)
        products: dict[int, Params] = {}
        for k in range(len(self._data)):
            if k > 0:
                direction = self._thin_steps[k - 1].jacobian_product(direction)
            if k in self._terms:
                term = self._terms[k]
                product = fisher_product(self._policy, term.theta, self._thin_samples[k], direction)
                products[k] = {name: term.weight * p for name, p in product.items()}
        return self._pull_back(self._thin_steps, products)

    @torch.no_grad()
    def evaluate(self, candidate: Tensor) -> tuple[Tensor, Tensor]:
        """J and the mean KL from the old policies, at a candidate ``[P]``."""
        params = unflatten(candidate, self._params)
        thetas = self._thetas(params, self._adapt(params, second_order=False))
        loss, kl = candidate.new_zeros(()), candidate.new_zeros(())
        for k, term in self._terms.items():
            new = self._policy(thetas[k], term.samples.observations)
            new_loss = ratio_loss(new, term.samples, term.old_log_prob).mean()
            loss = loss + term.weight * new_loss
            kl = kl + term.weight * mean_kl(term.old, new, term.samples.weights).mean()
        return loss, kl

    def _term(self, theta: Params, samples: Samples, weight: float) -> _Term:
        with torch.no_grad():
            old = self._policy(theta, samples.observations)
            return _Term(weight, samples, theta, old, old.log_prob(samples.actions))

    @torch.enable_grad()
    def _adapt(self, params: Params, second_order: bool) -> list[InnerStep]:
        """Adapt all tasks from one θ through all steps on the data at hand."""
        theta = stack(params, self._num_tasks)
        steps: list[InnerStep] = []
        for k, samples in enumerate(self._data[:-1]):
            steps.append(self._adaptation.step(theta, samples, k, second_order=second_order))
            theta = steps[-1].adapted
        return steps

    def _thetas(self, params: Params, steps: Sequence[InnerStep]) -> list[Params]:
        """θ_0, …, θ_K, stacked."""
        return [stack(params, self._num_tasks), *(step.adapted for step in steps)]

    def _pull_back(self, steps: Sequence[InnerStep], at: Mapping[int, Params]) -> Tensor:
        """From each task's gradients with respect to its θ_k to the mean's with respect to θ."""
        total: Params = {}
        for k in range(len(steps), -1, -1):
            if k in at:
                total = {name: p + total[name] if total else p for name, p in at[k].items()}
            if k > 0 and total:
                total = steps[k - 1].jacobian_product(total)
        return flatten(mean_over_tasks(total))
