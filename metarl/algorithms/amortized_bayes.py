"""Amortised Bayesian meta-learning (Ravi and Beatson 2019), "amortised MAML".

The weights φ of a task's network have a prior that all tasks share, p(φ | θ) = N(μ_0, diag σ_0²)
with θ = (μ_0, σ_0), and an approximate posterior q(φ | D) = N(μ, diag σ²) that a few gradient steps
on the support set lead to. They begin at the prior itself, λ_0 = θ for λ = (μ, σ),

    λ_{k+1} = λ_k − α_k ∇_λ L(λ_k, θ; support),
    L(λ, θ; D) = −E_q(φ; λ)[log p(D | φ)] + w KL(q(φ; λ) ‖ p(φ | θ)),       (their section 3)

    min_θ  E_task[ L(λ_K, θ; support and query) ] − h log p(θ),             (eq. 4)

each L divided by the number of examples, as all losses here are. w = 1 is the evidence bound; less
of it stands for a likelihood that is sharper by so much. σ is learned and adapted as log σ.

It is MAML with L for a loss, so the inner loop is MAML's. θ comes into L twice, as where λ begins
and as the prior. The prior is therefore copied among the parameters that are adapted, at a rate of
0: the steps leave it, and their Hessians carry what it does to the posterior back to it; what the
meta-gradient says of the copies is added to what it says of θ. Each step draws L sets of weights,
with noise that is its own and the same for all tasks and along its derivatives.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import torch
from gymnasium import spaces
from torch import Tensor

from metarl.adaptation.inner_loop import Adaptation, InnerStep, Rates
from metarl.adaptation.meta_objective import MetaObjective
from metarl.agents.few_shot_agent import BayesianAgent, FewShotGradientAgent
from metarl.algorithms.few_shot import FewShot
from metarl.algorithms.maml import GradientBatch
from metarl.algorithms.settings.amortized_bayes import AmortizedBayesSettings
from metarl.experience.few_shot import FewShotSets
from metarl.maths.losses import judged
from metarl.maths.params import MetaParams, Params, detach, flatten
from metarl.maths.samples import Samples
from metarl.networks.bayesian import LOG_STD, MEAN, PRIOR, BayesianNetwork, antithetic
from metarl.random import Key
from metarl.types import ActionMode

_RATE = 0.01  # of the hyperprior Gamma(1, rate) of every precision 1/σ_0²


@dataclass(frozen=True)
class _DrawnAdaptation(Adaptation):
    """Every step with noise of its own."""

    def step(
        self, params: Params, samples: Samples, k: int, *, second_order: bool = False
    ) -> InnerStep:
        """As :meth:`Adaptation.step`."""
        policy: Any = self.policy
        now = replace(self, policy=policy.at(k))
        return Adaptation.step(now, params, samples, k, second_order=second_order)


class AmortizedBayes(FewShot):
    """Amortised Bayesian meta-learning.

    Attributes:
        meta: θ, μ_0 and log σ_0 of every weight.
    """

    config_class = AmortizedBayesSettings
    config: AmortizedBayesSettings

    def __init__(
        self,
        config: AmortizedBayesSettings,
        input_space: spaces.Space,
        target_space: spaces.Space,
        seed: int,
        device: torch.device | str = "cpu",
    ) -> None:
        super().__init__(config, input_space, target_space, seed, device)
        self._seed = seed

    def initial_meta(self, params: Params) -> MetaParams:
        """μ_0 as the network's parameters are, one σ_0 for all."""
        self._shapes = {n: p.shape for n, p in params.items()}
        log_std = math.log(self.config.initial_std)
        means = {MEAN + n: p for n, p in params.items()}
        return MetaParams(
            means | {LOG_STD + n: torch.full_like(p, log_std) for n, p in params.items()}
        )

    def rates(self) -> Rates | None:
        """1 for q, 0 for the prior."""
        return dict.fromkeys(self.params, 1.0) | {PRIOR + n: 0.0 for n in self.params}

    def deal(self, sets: FewShotSets, key: Key) -> list[Samples]:
        """The support set for each step, and all examples alike to judge the last by."""
        every = (torch.cat([a, b], dim=1) for a, b in zip(*map(_parts, sets), strict=True))
        inputs, targets, ones = every
        judging = Samples(inputs, targets, ones, ones / ones.shape[1])
        return [sets.support] * self.config.adaptation_steps + [judging]

    def objective(self, batch: GradientBatch) -> MetaObjective:
        """The bound, as a function of θ and of the copies of it that are the prior."""
        noise = self._noise(Key(self._seed, batch.iteration), self.config.samples)
        objective = super().objective(batch)
        drawn = self._drawn(objective.adaptation, noise)
        return replace(objective, adaptation=drawn, meta=MetaParams(_with_prior(self.params)))

    def _drawn(self, adaptation: Adaptation, noise: Callable[[int], Tensor]) -> Adaptation:
        """The same steps for the distribution of the network's weights."""
        weight, steps = self.config.kl_weight, self.config.adaptation_steps
        network: Any = BayesianNetwork(adaptation.policy, self._shapes, noise, weight, steps)
        return _DrawnAdaptation(network, adaptation.step_sizes, rates=self.rates())

    def _noise(self, key: Key, draws: int) -> Callable[[int], Tensor]:
        """ε ``[L, P]`` of every step, by its number."""
        size = sum(shape.numel() for shape in self._shapes.values())

        @functools.cache
        def noise(step: int) -> Tensor:
            drawn = antithetic(key.at(step).generator("action"), draws, size)
            return drawn.to(self.device)

        return noise

    def _loss_and_gradient(
        self, objective: MetaObjective, batch: GradientBatch, x: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        losses, gradient = super()._loss_and_gradient(objective, batch, x)
        of_theta, of_copies = gradient.view(2, -1)
        return losses, of_theta + of_copies + self.config.hyperprior_weight * self._hyperprior()

    def _hyperprior(self) -> Tensor:
        """∇ of −log p(θ) ``[P]``: of ½ μ_0² and 0.01/σ_0², the density being one of 1/σ_0²."""
        gradient = {
            n: p if n.startswith(MEAN) else -2.0 * _RATE * (-2.0 * p).exp()
            for n, p in self.params.items()
        }
        return flatten(gradient)

    def after_update(self, objective: MetaObjective) -> dict[str, float]:
        """How good the mean predictions for the queries were, and the mean σ_0."""
        known = objective.data[0].weights.shape[1]

        def of_queries(predicted: Any, samples: Samples) -> Tensor:
            queries, mean = samples.map(lambda x: x[:, known:]), predicted.predictive()
            found = judged(type(mean)(*(part[:, known:] for part in mean)), queries)
            return found / queries.weights.sum(1)

        metrics = {
            f"{self._measure}/step_{k}": float(values.mean())
            for k, values in objective.measure(of_queries).items()
        }
        stds = [p.exp() for n, p in self.params.items() if n.startswith(LOG_STD)]
        return metrics | {"weights/std": float(torch.cat([p.flatten() for p in stds]).mean())}

    def agent(self, mode: ActionMode, key: Key) -> FewShotGradientAgent:  # type: ignore[override]
        """The agent as it stands, with noise of its own."""
        adaptation = self._adaptation_with(self.config.evaluation_inner_lr or self.config.inner_lr)
        drawn = self._drawn(adaptation, self._noise(key, self.config.evaluation_samples))
        params = _with_prior(detach(self.params))
        by = self.config.network.normalised_by
        return BayesianAgent(drawn, params, self.device, by)


def _with_prior(theta: Params) -> Params:
    """θ, and copies of it."""
    return theta | {PRIOR + n: p for n, p in theta.items()}


def _parts(samples: Samples) -> tuple[Tensor, Tensor, Tensor]:
    return samples.observations, samples.actions, samples.advantages
