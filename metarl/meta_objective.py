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
from metarl.losses import Samples, mean_kl, ratio_loss
from metarl.params import Params, flatten, mean_over_tasks, stack, unflatten
from metarl.policy_pass import PolicyPass


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
        self._params = params
        self._blocks = [
            _Block(adaptation, params, block_data, weights, second_order)
            for _, block_data in _split(data, adaptation.policy.widest)
        ]
        # Each θ_k of all tasks. The passes that led here are gone: the curvature makes its own.
        thetas = [
            {name: torch.cat([block.thetas[k][name] for block in self._blocks]) for name in params}
            for k in range(len(data))
        ]
        thin = [samples.thin(curvature_every) for samples in data]
        self._curvature = [
            _Curvature(
                adaptation,
                [{name: p[tasks] for name, p in theta.items()} for theta in thetas],
                block_data,
                weights,
                second_order,
            )
            for tasks, block_data in _split(thin, adaptation.policy.widest)
        ]

    def loss_and_gradient(self) -> tuple[Tensor, Tensor]:
        """Every task's loss ``[M]``, and ∇J ``[P]``."""
        losses = torch.cat([block.loss for block in self._blocks])
        return losses, _mean([block.gradient for block in self._blocks])

    def curvature_product(self, v: Tensor) -> Tensor:
        """F v ``[P]``, F the Hessian of Σ_k w_k E_task[KL(π_θk,old ‖ π_θk)] at θ.

        The Gauss–Newton product, exact at θ: each step's Fisher matrix between the Jacobians.
        """
        direction = unflatten(v, self._params)
        return _mean([curvature.product(direction) for curvature in self._curvature])

    def evaluate(self, candidate: Tensor) -> tuple[Tensor, Tensor]:
        """J and the mean KL from the old policies, at a candidate ``[P]``."""
        params = unflatten(candidate, self._params)
        parts = [block.evaluate(params) for block in self._blocks]
        loss, kl = (torch.cat(x).mean() for x in zip(*parts, strict=True))
        return loss, kl


@dataclass(frozen=True)
class _Term:
    """One step's share: its data, and the policy π_θk,old that sampled them."""

    weight: float
    samples: Samples
    old: Distribution
    old_log_prob: Tensor

    def loss(self, distribution: Distribution) -> Tensor:
        """w_k L_m ``[m]``."""
        return self.weight * ratio_loss(distribution, self.samples, self.old_log_prob)


class _Block:
    """The objective of a few tasks, each for itself: nothing is averaged over them yet.

    Attributes:
        thetas: θ_0, …, θ_K ``[m, ...]``.
        loss: ``[m]``.
        gradient: Each task's own, with respect to θ ``[m, ...]``.
    """

    def __init__(
        self,
        adaptation: Adaptation,
        params: Params,
        data: Sequence[Samples],
        weights: Sequence[float],
        second_order: bool,
    ) -> None:
        self._adaptation = adaptation
        self._data = data
        steps = self._adapt(params, second_order)
        self.thetas = self._thetas(params, steps)
        self.loss = torch.zeros_like(data[0].weights[:, 0])
        self._terms: dict[int, _Term] = {}
        gradients: dict[int, Params] = {}
        for k, weight in enumerate(weights):
            if weight == 0:
                continue
            here = PolicyPass(adaptation.policy, self.thetas[k], data[k].observations)
            old_log_prob = here.distribution.log_prob(data[k].actions)
            self._terms[k] = _Term(weight, data[k], here.distribution, old_log_prob)
            at = here.differentiate(self._terms[k].loss)
            self.loss = self.loss + at.loss
            gradients[k] = at.gradient
        self.gradient = _pull_back(steps, gradients)

    @torch.no_grad()
    def evaluate(self, params: Params) -> tuple[Tensor, Tensor]:
        """Losses ``[m]`` and KLs from the old policies ``[m]`` at a candidate for θ."""
        thetas = self._thetas(params, self._adapt(params, second_order=False))
        loss, kl = torch.zeros_like(self.loss), torch.zeros_like(self.loss)
        for k, term in self._terms.items():
            new = self._adaptation.policy(thetas[k], term.samples.observations)
            loss = loss + term.loss(new)
            kl = kl + term.weight * mean_kl(term.old, new, term.samples.weights)
        return loss, kl

    def _adapt(self, params: Params, second_order: bool) -> list[InnerStep]:
        """Adapt all tasks from one θ through all steps on the data at hand."""
        theta = stack(params, len(self._data[0].weights))
        steps: list[InnerStep] = []
        for k, samples in enumerate(self._data[:-1]):
            steps.append(self._adaptation.step(theta, samples, k, second_order=second_order))
            theta = steps[-1].adapted
        return steps

    def _thetas(self, params: Params, steps: Sequence[InnerStep]) -> list[Params]:
        """θ_0, …, θ_K, stacked."""
        return [stack(params, len(self._data[0].weights)), *(step.adapted for step in steps)]


class _Curvature:
    """The Fisher matrices of a few tasks' adapted policies, seen through their adaptation."""

    def __init__(
        self,
        adaptation: Adaptation,
        thetas: Sequence[Params],
        data: Sequence[Samples],
        weights: Sequence[float],
        second_order: bool,
    ) -> None:
        self._num_tasks = len(data[0].weights)
        self._steps = [
            adaptation.step(theta, samples, k, second_order=second_order)
            for k, (theta, samples) in enumerate(zip(thetas[:-1], data[:-1], strict=True))
        ]
        self._passes = {
            k: PolicyPass(adaptation.policy, thetas[k], data[k].observations)
            for k, weight in enumerate(weights)
            if weight > 0
        }
        # The weight of a term is one on its rows.
        self._rows = {k: weights[k] * data[k].weights for k in self._passes}

    def product(self, direction: Params) -> Params:
        """Each task's own F_m v ``[m, ...]`` for a direction v of θ."""
        moved = stack(direction, self._num_tasks)
        products: dict[int, Params] = {}
        for k in range(len(self._steps) + 1):
            if k > 0:
                moved = self._steps[k - 1].jacobian_product(moved)
            if k in self._passes:
                products[k] = self._passes[k].fisher_product(self._rows[k], moved)
        return _pull_back(self._steps, products)


def _split(data: Sequence[Samples], width: int) -> list[tuple[slice, list[Samples]]]:
    """The tasks in blocks, for all steps alike."""
    longest = max(data, key=lambda samples: samples.weights.shape[1])
    return [(b, [samples.tasks(b) for samples in data]) for b in longest.blocks(width)]


def _pull_back(steps: Sequence[InnerStep], at: Mapping[int, Params]) -> Params:
    """From each task's gradients with respect to its θ_k to those with respect to θ."""
    total: Params = {}
    for k in range(len(steps), -1, -1):
        if k in at:
            total = {name: p + total[name] if total else p for name, p in at[k].items()}
        if k > 0 and total:
            total = steps[k - 1].jacobian_product(total)
    return total


def _mean(blocks: Sequence[Params]) -> Tensor:
    """The mean over all tasks, flat ``[P]``, of blocks ``[m, ...]``."""
    names = blocks[0]
    return flatten(mean_over_tasks({n: torch.cat([b[n] for b in blocks]) for n in names}))
