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
from metarl.maths.params import MetaParams, Params, flatten, mean_over_tasks, stack
from metarl.maths.samples import Samples
from metarl.networks.passes import Pass


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
        trust: Weight of this policy's KL in the trust region; of a step's terms one may have it.
    """

    step: int
    samples: Samples
    loss: Loss
    trust: float = 0.0

    def judge(self, old: Behaviour, new: Distribution) -> Tensor:
        """ℓ ``[m]`` of a policy beside the one that sampled."""
        return self.loss(new, old, self.samples)


class MetaObjective:
    """J around the parameters that sampled the data.

    Args:
        adaptation: The inner step.
        meta: The meta-parameters, not stacked.
        data: D_0, …, D_{K−1} of the adaptation steps, each sampled by its own θ_k.
        terms: Of the sum; at least one.
        second_order: Differentiate through the adaptation; else its Hessians count as zero.
        curvature_every: Estimate the curvature, and only it, from every n-th sample. The adapted
            parameters at which it is taken are exact all the same.
    """

    def __init__(
        self,
        adaptation: Adaptation,
        meta: MetaParams,
        data: Sequence[Samples],
        terms: Sequence[Term],
        *,
        second_order: bool = True,
        curvature_every: int = 1,
    ) -> None:
        self._adaptation = adaptation
        self._meta = meta
        self._data = data
        self._terms = terms
        self._second_order = second_order
        self._curvature_every = curvature_every
        self._blocks = [
            _Block(adaptation, meta, block_data, block_terms, second_order)
            for _, block_data, block_terms in self._split(data, terms)
        ]

    def loss_and_gradient(self, x: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Every task's loss ``[M]``, and ∇J ``[P]``, at θ or at other meta-parameters ``[P]``."""
        if x is None:
            found = [(block.loss, block.gradient) for block in self._blocks]
        else:
            meta = self._meta.of(x)
            found = [block.differentiate(meta) for block in self._blocks]
        losses, gradients = zip(*found, strict=True)
        return torch.cat(losses), self._mean(gradients)

    def curvature_product(self, v: Tensor) -> Tensor:
        """F v ``[P]``, F the Hessian of Σ_i trust_i E_task[KL(π_θk,old ‖ π_θk)] at θ.

        The Gauss–Newton product, exact at θ: each step's Fisher matrix between the Jacobians.
        """
        direction = self._meta.of(v)
        return self._mean([curvature.product(direction) for curvature in self._curvature])

    def evaluate(self, candidate: Tensor) -> tuple[Tensor, Tensor]:
        """J and the trusted mean KL from the old policies, at a candidate ``[P]``."""
        losses, kls = self._evaluate(candidate)
        trusted = (term.trust * kl.mean() for term, kl in zip(self._terms, kls, strict=True))
        return losses.mean(), torch.stack(list(trusted)).sum()

    def divergences(self, candidate: Tensor) -> list[Tensor]:
        """The mean KL from the old policy of every term to that at a candidate, nats."""
        return [kl.mean() for kl in self._evaluate(candidate)[1]]

    def _evaluate(self, candidate: Tensor) -> tuple[Tensor, list[Tensor]]:
        """Losses ``[M]``, and the KLs ``[M]`` of every term."""
        meta = self._meta.of(candidate)
        losses, kls = zip(*(block.evaluate(meta) for block in self._blocks), strict=True)
        return torch.cat(losses), [torch.cat(of_term) for of_term in zip(*kls, strict=True)]

    @cached_property
    def _curvature(self) -> list[_Curvature]:
        # Each θ_k of all tasks. The passes that led here are gone: the curvature makes its own.
        thetas = [
            {name: torch.cat([block.thetas[k][name] for block in self._blocks]) for name in theta}
            for k, theta in enumerate(self._blocks[0].thetas)
        ]
        every = self._curvature_every
        data = [samples.thin(every) for samples in self._data]
        terms = [
            replace(term, samples=term.samples.thin(every))
            for term in self._terms
            if term.trust > 0
        ]
        return [
            _Curvature(
                self._adaptation.at(self._meta),
                [{name: p[tasks] for name, p in theta.items()} for theta in thetas],
                block_data,
                block_terms,
                self._second_order,
            )
            for tasks, block_data, block_terms in self._split(data, terms)
        ]

    def _split(
        self, data: Sequence[Samples], terms: Sequence[Term]
    ) -> list[tuple[slice, list[Samples], list[Term]]]:
        """The tasks in blocks, for all data alike."""
        every = [*data, *(term.samples for term in terms)]
        longest = max(every, key=lambda samples: samples.weights.shape[1])
        return [
            (
                tasks,
                [samples.tasks(tasks) for samples in data],
                [replace(term, samples=term.samples.tasks(tasks)) for term in terms],
            )
            for tasks in longest.blocks(self._adaptation.policy.widest)
        ]

    def _mean(self, blocks: Sequence[MetaParams]) -> Tensor:
        """The mean over all tasks, flat ``[P]``, of blocks ``[m, ...]``."""
        parts = zip(self._meta, zip(*blocks, strict=True), strict=True)
        return torch.cat(
            [
                flatten(mean_over_tasks({n: torch.cat([b[n] for b in of_blocks]) for n in like}))
                for like, of_blocks in parts
                if like is not None
            ]
        )


class _Block:
    """The objective of a few tasks, each for itself: nothing is averaged over them yet.

    Attributes:
        thetas: θ_0, …, θ_K ``[m, ...]`` of the parameters that sampled the data.
        loss: ``[m]``, at them.
        gradient: Each task's own, with respect to the meta-parameters ``[m, ...]``.
    """

    def __init__(
        self,
        adaptation: Adaptation,
        meta: MetaParams,
        data: Sequence[Samples],
        terms: Sequence[Term],
        second_order: bool,
    ) -> None:
        self._adaptation = adaptation
        self._data = data
        self._terms = terms
        self._second_order = second_order
        steps, self.thetas = self._adapt(meta, second_order)
        passes = self._passes(self.thetas)
        self._behaviours = [
            Behaviour(p.distribution, p.distribution.log_prob(term.samples.actions))
            for p, term in zip(passes, terms, strict=True)
        ]
        self.loss, self.gradient = self._derive(meta, steps, passes)

    def differentiate(self, meta: MetaParams) -> tuple[Tensor, MetaParams]:
        """Losses ``[m]`` and their gradients ``[m, ...]`` at other meta-parameters."""
        steps, thetas = self._adapt(meta, self._second_order)
        return self._derive(meta, steps, self._passes(thetas))

    @torch.no_grad()
    def evaluate(self, meta: MetaParams) -> tuple[Tensor, list[Tensor]]:
        """Losses ``[m]``, and of every term the KL from the old policy ``[m]``, at a candidate."""
        _, thetas = self._adapt(meta, second_order=False)
        loss, kls = torch.zeros_like(self.loss), []
        for term, old in zip(self._terms, self._behaviours, strict=True):
            new = self._adaptation.policy(thetas[term.step], term.samples.observations)
            loss = loss + term.judge(old, new)
            kls.append(mean_kl(old.distribution, new, term.samples.weights))
        return loss, kls

    def _adapt(self, meta: MetaParams, second_order: bool) -> tuple[list[InnerStep], list[Params]]:
        """All steps of all tasks on the data at hand, and θ_0, …, θ_K ``[m, ...]``."""
        adaptation, steps = self._adaptation.at(meta), []
        thetas = [stack(meta.policy, len(self._terms[0].samples.weights))]
        for k, samples in enumerate(self._data):
            steps.append(adaptation.step(thetas[k], samples, k, second_order=second_order))
            thetas.append(steps[k].adapted)
        return steps, thetas

    def _passes(self, thetas: Sequence[Params]) -> list[Pass]:
        """Of every term's policy through its samples."""
        policy = self._adaptation.policy
        return [policy.through(thetas[t.step], t.samples.observations) for t in self._terms]

    def _derive(
        self, meta: MetaParams, steps: Sequence[InnerStep], passes: Sequence[Pass]
    ) -> tuple[Tensor, MetaParams]:
        loss = torch.zeros_like(self._terms[0].samples.weights[:, 0])
        gradients: dict[int, Params] = {}
        for term, old, here in zip(self._terms, self._behaviours, passes, strict=True):
            at = here.differentiate(partial(term.judge, old))
            loss = loss + at.loss
            gradients[term.step] = _add(gradients.get(term.step), at.gradient)
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
        self._passes = {
            term.step: adaptation.policy.through(thetas[term.step], term.samples.observations)
            for term in terms
        }
        # The weight of a term is one on its rows.
        self._rows = {term.step: term.trust * term.samples.weights for term in terms}

    def product(self, direction: MetaParams) -> MetaParams:
        """Each task's own F_m v ``[m, ...]`` for a direction v of the meta-parameters."""
        moved = stack(direction.policy, self._num_tasks)
        products: dict[int, Params] = {}
        for k in range(len(self._steps) + 1):
            if k > 0:
                moved = self._steps[k - 1].push_forward(moved, direction.rates)
            if k in self._passes:
                products[k] = self._passes[k].fisher_product(self._rows[k], moved)
        return _pull_back(self._steps, products, direction)


def _pull_back(
    steps: Sequence[InnerStep], at: Mapping[int, Params], like: MetaParams
) -> MetaParams:
    """From each task's gradients with respect to its θ_k to those with respect to θ and rates."""
    total: Params | None = None
    rates: Params | None = None
    for k in range(len(steps), -1, -1):
        if k in at:
            total = _add(total, at[k])
        if k > 0 and total is not None:
            if like.rates is not None:
                rates = _add(rates, steps[k - 1].rates_gradient(total))
            total = steps[k - 1].pull_back(total)
    assert total is not None
    return MetaParams(total, rates)


def _add(a: Params | None, b: Params) -> Params:
    """a + b; b alone where there is no a yet."""
    return b if a is None else {name: p + a[name] for name, p in b.items()}
