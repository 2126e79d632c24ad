"""The outer objective of gradient-based meta-learning, seen through the adaptation.

For adaptation θ_{k+1} = θ_k − α_k ∇L_task(θ_k; D_k) from θ_0 = θ, the objective is a sum of losses
of the policies on the way,

    J(θ) = Σ_i E_task[ ℓ_i(π_θk(i); D_k(i)) ],

MAML's the surrogate of the last one alone (Finn et al. 2017, eq. 4), the multi-step loss of
Antoniou et al. (2019) that of all of them. Its gradient and curvature are those of the adapted
policies, carried through the Jacobians I − α_k H_k of the steps.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, partial
from typing import NamedTuple

import torch
from torch import Tensor

from metarl.adaptation.inner_loop import Adaptation, InnerStep
from metarl.maths.distributions import Distribution
from metarl.maths.losses import clipped_surrogate, mean_kl, ratio_loss
from metarl.maths.params import (
    MetaParams,
    Params,
    concatenate,
    flatten,
    mean_over_tasks,
    stack,
)
from metarl.maths.samples import Samples
from metarl.networks.mlp import PolicyPass


class Behaviour(NamedTuple):
    """π_θk,old, which sampled D_k: its distribution over ``[m, N]`` actions, their log-prob."""

    distribution: Distribution
    log_prob: Tensor


Loss = Callable[[Distribution, Behaviour, Samples], Tensor]
"""ℓ ``[m]`` of a policy on samples, given who sampled them."""


def surrogate(weight: float = 1.0, clip: float | None = None) -> Loss:
    """−w E[ρ Â], ρ = π/π_old; with a clip −w E[min(ρ Â, clip(ρ, 1 ± ε) Â)]."""

    def loss(new: Distribution, old: Behaviour, samples: Samples) -> Tensor:
        if clip is None:
            return weight * ratio_loss(new, samples, old.log_prob)
        log_prob = new.log_prob(samples.actions)
        steps = clipped_surrogate(log_prob, old.log_prob, samples.advantages, clip)
        return weight * (samples.weights * steps).sum(1)

    return loss


def kl_penalty(coefficient: float) -> Loss:
    """η E[KL(π_old ‖ π)]."""

    def loss(new: Distribution, old: Behaviour, samples: Samples) -> Tensor:
        return coefficient * mean_kl(old.distribution, new, samples.weights)

    return loss


@dataclass(frozen=True)
class Term:
    """One loss of the objective.

    Attributes:
        step: k, adaptation steps before the policy that it judges.
        samples: What it judges that policy on, sampled by it.
        loss: ℓ.
        kl_weight: Weight of this policy's KL in the trust region.
    """

    step: int
    samples: Samples
    loss: Loss
    kl_weight: float = 0.0

    def judge(self, old: Behaviour, new: Distribution) -> Tensor:
        """ℓ ``[m]`` of a policy beside the one that sampled."""
        return self.loss(new, old, self.samples)


@dataclass(frozen=True, eq=False)
class MetaObjective:
    """J around the parameters that sampled the data.

    Attributes:
        adaptation: The inner step.
        meta: The meta-parameters, not stacked.
        data: D_0, …, D_{K−1} of the adaptation steps, each sampled by its own θ_k.
        terms: Of the sum; at least one.
        second_order: Differentiate through the adaptation; else its Hessians count as zero.
        curvature_every: Estimate the curvature, and only it, from every n-th sample. The adapted
            parameters at which it is taken are exact all the same.
    """

    adaptation: Adaptation
    meta: MetaParams
    data: Sequence[Samples]
    terms: Sequence[Term]
    second_order: bool = True
    curvature_every: int = 1

    def loss_and_gradient(self, x: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Every task's loss ``[M]``, and ∇J ``[P]``, at θ or at other meta-parameters ``[P]``."""
        if x is None:
            derivatives = [(block.loss, block.gradient) for block in self._blocks]
        else:
            meta = self.meta.unflatten(x)
            derivatives = [block.differentiate(meta) for block in self._blocks]
        losses, gradients = zip(*derivatives, strict=True)
        return torch.cat(losses), self._mean(gradients)

    def curvature_product(self, v: Tensor) -> Tensor:
        """F v ``[P]``, F the Hessian of Σ_i w_i E_task[KL(π_θk,old ‖ π_θk)] at θ, w the KL weights.

        The Gauss–Newton product, exact at θ: each step's Fisher matrix between the Jacobians.
        """
        direction = self.meta.unflatten(v)
        return self._mean([curvature.product(direction) for curvature in self._curvature])

    def evaluate(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """J and the weighted mean KL from the old policies, at other meta-parameters ``[P]``."""
        losses, kls = self._evaluate(x)
        weighted = (term.kl_weight * kl.mean() for term, kl in zip(self.terms, kls, strict=True))
        return losses.mean(), torch.stack(list(weighted)).sum()

    def divergences(self, x: Tensor) -> dict[int, Tensor]:
        """Mean KL, nats, from every old policy that is judged to that at x ``[P]``, by its step."""
        kls = zip(self.terms, self._evaluate(x)[1], strict=True)
        return {term.step: kl.mean() for term, kl in kls}

    def measure(self, value: Callable[[Distribution, Samples], Tensor]) -> dict[int, Tensor]:
        """A quantity ``[M]`` of the old policies that are judged, by their step."""
        return {
            term.step: torch.cat([block.measure(i, value) for block in self._blocks])
            for i, term in enumerate(self.terms)
        }

    def _evaluate(self, x: Tensor) -> tuple[Tensor, list[Tensor]]:
        """Losses ``[M]``, and the KLs ``[M]`` of every term."""
        meta = self.meta.unflatten(x)
        losses, kls = zip(*(block.evaluate(meta) for block in self._blocks), strict=True)
        return torch.cat(losses), [torch.cat(of_term) for of_term in zip(*kls, strict=True)]

    @cached_property
    def _blocks(self) -> list[_Block]:
        return [
            _Block(self.adaptation, self.meta, data, terms, self.second_order)
            for _, data, terms in self._split(self.data, self.terms)
        ]

    @cached_property
    def _curvature(self) -> list[_Curvature]:
        # Each θ_k of all tasks. The passes that led here are gone: the curvature makes its own.
        thetas = [
            concatenate(of_blocks, self.meta.policy)
            for of_blocks in zip(*(block.thetas for block in self._blocks), strict=True)
        ]
        thinned = [samples.thin(self.curvature_every) for samples in self.data]
        weighted = [
            replace(term, samples=term.samples.thin(self.curvature_every))
            for term in self.terms
            if term.kl_weight > 0
        ]
        adaptation = self.adaptation.with_rates_of(self.meta)
        return [
            _Curvature(
                adaptation,
                [{name: p[tasks] for name, p in theta.items()} for theta in thetas],
                data,
                terms,
                self.second_order,
            )
            for tasks, data, terms in self._split(thinned, weighted)
        ]

    def _split(
        self, data: Sequence[Samples], terms: Sequence[Term]
    ) -> list[tuple[slice, list[Samples], list[Term]]]:
        """The tasks in blocks, the same for all data."""
        longest = max(
            [*data, *(term.samples for term in terms)],
            key=lambda samples: samples.weights.shape[1],
        )
        return [
            (
                tasks,
                [samples.tasks(tasks) for samples in data],
                [replace(term, samples=term.samples.tasks(tasks)) for term in terms],
            )
            for tasks in longest.blocks(self.adaptation.policy.widest)
        ]

    def _mean(self, blocks: Sequence[MetaParams]) -> Tensor:
        """The mean over all tasks, flat ``[P]``, of blocks ``[m, ...]``."""
        parts = zip(self.meta, zip(*blocks, strict=True), strict=True)
        means = [
            mean_over_tasks(concatenate(of_blocks, names))
            for names, of_blocks in parts
            if names is not None
        ]
        return torch.cat([flatten(mean) for mean in means])


@dataclass(eq=False)
class _Block:
    """The objective of a few tasks, each for itself: nothing is averaged over them yet.

    Attributes:
        thetas: θ_0, …, θ_K ``[m, ...]`` of the parameters that sampled the data.
        loss: ``[m]``, at them.
        gradient: Each task's own, with respect to the meta-parameters ``[m, ...]``.
    """

    _adaptation: Adaptation
    _meta: MetaParams
    _data: Sequence[Samples]
    _terms: Sequence[Term]
    _second_order: bool

    def __post_init__(self) -> None:
        steps, self.thetas = self._adapt(self._meta, self._second_order)
        passes = self._passes(self.thetas)
        self._behaviours = [
            Behaviour(p.distribution, p.distribution.log_prob(term.samples.actions))
            for p, term in zip(passes, self._terms, strict=True)
        ]
        self.loss, self.gradient = self._derive(self._meta, steps, passes)

    def differentiate(self, meta: MetaParams) -> tuple[Tensor, MetaParams]:
        """Losses ``[m]`` and their gradients ``[m, ...]`` at other meta-parameters."""
        steps, thetas = self._adapt(meta, self._second_order)
        return self._derive(meta, steps, self._passes(thetas))

    @torch.no_grad()
    def evaluate(self, meta: MetaParams) -> tuple[Tensor, list[Tensor]]:
        """Losses ``[m]``, and of every term the KL from the old policy ``[m]``, there likewise."""
        _, thetas = self._adapt(meta, second_order=False)
        loss, kls = torch.zeros_like(self.loss), []
        for term, old in zip(self._terms, self._behaviours, strict=True):
            new = self._adaptation.policy(thetas[term.step], term.samples.observations)
            loss = loss + term.judge(old, new)
            kls.append(mean_kl(old.distribution, new, term.samples.weights))
        return loss, kls

    def measure(self, i: int, value: Callable[[Distribution, Samples], Tensor]) -> Tensor:
        """A quantity ``[m]`` of the old policy that the i-th term judges."""
        return value(self._behaviours[i].distribution, self._terms[i].samples)

    def _adapt(self, meta: MetaParams, second_order: bool) -> tuple[list[InnerStep], list[Params]]:
        """All steps of all tasks on their data, and θ_0, …, θ_K ``[m, ...]``."""
        adaptation, steps = self._adaptation.with_rates_of(meta), []
        thetas = [stack(meta.policy, len(self._terms[0].samples.weights))]
        for k, samples in enumerate(self._data):
            steps.append(adaptation.step(thetas[k], samples, k, second_order=second_order))
            thetas.append(steps[k].adapted)
        return steps, thetas

    def _passes(self, thetas: Sequence[Params]) -> list[PolicyPass]:
        """Every term's policy on its samples."""
        policy = self._adaptation.policy
        return [policy.through(thetas[t.step], t.samples.observations) for t in self._terms]

    def _derive(
        self, meta: MetaParams, steps: Sequence[InnerStep], passes: Sequence[PolicyPass]
    ) -> tuple[Tensor, MetaParams]:
        loss = torch.zeros_like(self._terms[0].samples.weights[:, 0])
        gradients: dict[int, Params] = {}
        for term, old, policy in zip(self._terms, self._behaviours, passes, strict=True):
            derivatives = policy.differentiate(partial(term.judge, old))
            loss = loss + derivatives.loss
            gradients[term.step] = _add(gradients.get(term.step), derivatives.gradient)
        return loss, _pull_back(steps, gradients, meta)


class _Curvature:
    """The Fisher matrices of a few tasks' adapted policies, seen through their adaptation."""

    def __init__(
        self,
        adaptation: Adaptation,
        thetas: Sequence[Params],
        data: Sequence[Samples],
        terms: Sequence[Term],
        second_order: bool,
    ) -> None:
        self._num_tasks = len(terms[0].samples.weights)
        self._steps = [
            adaptation.step(theta, samples, k, second_order=second_order)
            for k, (theta, samples) in enumerate(zip(thetas[:-1], data, strict=True))
        ]
        # Of every term its step, its policy, and its weight on its rows.
        self._judged = [
            (
                term.step,
                adaptation.policy.through(thetas[term.step], term.samples.observations),
                term.kl_weight * term.samples.weights,
            )
            for term in terms
        ]

    def product(self, direction: MetaParams) -> MetaParams:
        """Each task's own F_m v ``[m, ...]`` for a direction v of the meta-parameters."""
        moved = [stack(direction.policy, self._num_tasks)]  # dθ_0, …, dθ_K
        for step in self._steps:
            moved.append(step.push_forward(moved[-1], direction.rates))
        products: dict[int, Params] = {}
        for k, policy, weights in self._judged:
            products[k] = _add(products.get(k), policy.fisher_product(weights, moved[k]))
        return _pull_back(self._steps, products, direction)


def _pull_back(
    steps: Sequence[InnerStep], gradients: Mapping[int, Params], meta: MetaParams
) -> MetaParams:
    """The VJP of the adaptation: gradients with respect to θ and rates of ones of each θ_k."""
    total: Params | None = None
    rates: Params | None = None
    for k in range(len(steps), -1, -1):
        if k in gradients:
            total = _add(total, gradients[k])
        if k > 0 and total is not None:
            if meta.rates is not None:
                rates = _add(rates, steps[k - 1].rates_gradient(total))
            total = steps[k - 1].pull_back(total)
    assert total is not None
    return MetaParams(total, rates)


def _add(a: Params | None, b: Params) -> Params:
    """a + b; b alone where there is no a yet."""
    return b if a is None else {name: p + a[name] for name, p in b.items()}
