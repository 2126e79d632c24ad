"""The family that adapts by gradient steps, on supervised few-shot tasks.

A task's support set stands where reinforcement learning has the episodes before adaptation, its
query set where it has those after (Finn et al. 2017, section 3.1 and algorithm 2):

    min_θ  E_task[ Σ_k w_k L(θ_k; query) ],   θ_{k+1} = θ_k − α_k ∇L(θ_k; support),  θ_0 = θ,

with L = −E[log p(y|x)], cross-entropy of classes or squared error; w_K = 1 and the others 0 in
MAML, the multi-step loss of Antoniou et al. (2019) where they are set. What is done differently for
it is in :class:`FewShot`; its subclasses are the very algorithms of the family besides.

Reptile (Nichol et al. 2018, section 6.1) deals the examples of a task, support and query together,
in random order into minibatches, one for each of its steps, and begins anew when they are used up.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any, ClassVar

import numpy as np
import torch
from gymnasium import spaces
from torch import Tensor

from metarl.adaptation.meta_objective import Behaviour, Loss, MetaObjective, Term
from metarl.agents.few_shot_agent import FewShotGradientAgent, told_the_support
from metarl.algorithms.anil import ANIL
from metarl.algorithms.maml import MAML, GradientBatch
from metarl.algorithms.meta_sgd import MetaSGD
from metarl.algorithms.reptile import Reptile
from metarl.algorithms.settings.few_shot import (
    AdaptedConvSettings,
    ConvSettings,
    FewShotANILSettings,
    FewShotFOMAMLSettings,
    FewShotMAMLSettings,
    FewShotMetaSGDSettings,
    FewShotReptileSettings,
    MLPSettings,
)
from metarl.experience.few_shot import FewShotSets, FewShotSource
from metarl.maths.adam import Adam, AdamState
from metarl.maths.distributions import Categorical, Distribution
from metarl.maths.losses import judged, log_prob_loss
from metarl.maths.params import Params, detach, to_device
from metarl.maths.samples import Samples
from metarl.networks.conv import ConvNetwork, image_shape
from metarl.networks.mlp import MLPPolicy, MLPRegression
from metarl.random import Key
from metarl.types import ActionMode, DataKind


def _network(
    settings: MLPSettings | AdaptedConvSettings,
    input_space: spaces.Space,
    target_space: spaces.Space,
) -> MLPPolicy | ConvNetwork:
    """The network from one space to the other.

    Raises:
        ValueError: it does not fit them.
    """
    discrete = isinstance(target_space, spaces.Discrete)
    if isinstance(settings, ConvSettings):
        if not discrete:
            raise ValueError(
                "network conv tells classes apart, and these targets are numbers; network mlp "
                "fits them"
            )
        classes = int(target_space.n)  # type: ignore[attr-defined]
        how = (settings.filters, settings.pooling, settings.norm)
        return ConvNetwork(image_shape(input_space, settings.pooling), classes, *how)
    assert input_space.shape is not None
    n_in, hidden = int(np.prod(input_space.shape)), settings.hidden_sizes
    if isinstance(target_space, spaces.Discrete):
        return MLPPolicy(n_in, int(target_space.n), True, hidden, settings.activation)
    assert target_space.shape is not None
    return MLPRegression(n_in, target_space.shape[0], False, hidden, settings.activation)


def supervised_loss(weight: float = 1.0) -> Loss:
    """w·−E[log p(y|x)], of which nothing depends on who predicted before."""

    def loss(new: Distribution, old: Behaviour, samples: Samples) -> Tensor:
        return weight * log_prob_loss(new, samples)

    return loss


class FewShot(MAML):
    """MAML on supervised few-shot tasks, a :class:`metarl.types.Algorithm`.

    Args:
        config: See :mod:`metarl.algorithms.settings.few_shot`.
        input_space: Of one input.
        target_space: Of one target.
        seed: Of the initial parameters.
        device: Where updates run, and predictions.

    Attributes:
        policy: The network.

    Raises:
        ValueError: the network does not fit the spaces.
    """

    learns_from: ClassVar[DataKind] = "examples"
    config_class: ClassVar[Any] = FewShotMAMLSettings
    config: Any

    def __init__(
        self,
        config: Any,
        input_space: spaces.Space,
        target_space: spaces.Space,
        seed: int,
        device: torch.device | str = "cpu",
    ) -> None:
        self.config = config
        self.device = torch.device(device)
        self.policy: Any = _network(config.network, input_space, target_space)
        self.moments = None
        params = self.policy.init(Key(seed).generator("init"))
        self.meta = self.initial_meta(to_device(params, self.device))
        self.adam = AdamState.fresh(self.meta.vector())

    def collect(self, source: FewShotSource, key: Key) -> GradientBatch:  # type: ignore[override]
        """Draw tasks and their support and query sets; nothing is adapted yet."""
        tasks = source.sample_tasks(self.config.tasks, key)
        sets = source.examples(tasks, self.config.queries, key, augment=True).to(self.device)
        drawn = sum(samples.weights.numel() for samples in sets)
        return GradientBatch(key.iteration, tasks, self.deal(sets, key), drawn, {}, ())

    def deal(self, sets: FewShotSets, key: Key) -> list[Samples]:
        """What each step learns on, and what the last one's outcome is judged by."""
        support, query = sets
        if self._by_support:  # its rows are there to be normalised by, and count 0
            query = Samples(
                torch.cat([support.observations, query.observations], dim=1),
                torch.cat([support.actions, query.actions], dim=1),
                torch.cat([support.advantages, query.advantages], dim=1),
                torch.cat([torch.zeros_like(support.weights), query.weights], dim=1),
            )
        return [support] * self.config.adaptation_steps + [query]

    def terms(self, batch: GradientBatch) -> list[Term]:
        """The query losses after 0..K steps: MAML's is of the last alone."""
        return [
            Term(k, batch.data[-1], supervised_loss(weight))
            for k, weight in enumerate(self.config.objective_weights())
            if weight > 0
        ]

    def objective(self, batch: GradientBatch) -> MetaObjective:
        """As :meth:`MAML.objective`, with a network that knows the support set."""
        objective = super().objective(batch)
        if not self._by_support:
            return objective
        adaptation = told_the_support(objective.adaptation, batch.data[0])
        return replace(objective, adaptation=adaptation)

    def _adam_steps(
        self, outer: Any, objective: MetaObjective, batch: GradientBatch, gradient: Tensor
    ) -> dict[str, float]:
        """One step of Adam; a second look at the loss would cost a third of an iteration."""
        lr = outer.lr_at(batch.iteration)
        x, self.adam = Adam().step(self.meta.vector(), gradient, self.adam, lr)
        self.meta = self.meta.unflatten(x).map(detach)
        return {"lr": lr}

    def after_update(self, objective: MetaObjective) -> dict[str, float]:
        """How good the predictions were that the update came from, after k steps."""
        metrics = super().after_update(objective)
        for k, values in objective.measure(judged).items():
            metrics[f"{self._measure}/step_{k}"] = float(values.mean())
        return metrics

    @property
    def _by_support(self) -> bool:
        """A query set is normalised by its support set's statistics."""
        return bool(self.config.network.normalised_by == "support")

    @property
    def _measure(self) -> str:
        return "accuracy" if self.policy.family is Categorical else "error"

    def agent(self, mode: ActionMode, key: Key) -> FewShotGradientAgent:  # type: ignore[override]
        """The agent as it stands; nothing in it is drawn at random."""
        adaptation = self._adaptation_with(self.config.evaluation_inner_lr or self.config.inner_lr)
        by = self.config.network.normalised_by
        return FewShotGradientAgent(adaptation, detach(self.params), self.device, by)


class FewShotFOMAML(FewShot):
    """First-order MAML: its settings say so, and that is all."""

    config_class: ClassVar[Any] = FewShotFOMAMLSettings


class FewShotANIL(FewShot, ANIL):
    """ANIL on supervised few-shot tasks."""

    config_class: ClassVar[Any] = FewShotANILSettings


class FewShotMetaSGD(FewShot, MetaSGD):
    """Meta-SGD on supervised few-shot tasks."""

    config_class: ClassVar[Any] = FewShotMetaSGDSettings


class FewShotReptile(FewShot, Reptile):
    """Reptile on supervised few-shot tasks."""

    config_class: ClassVar[Any] = FewShotReptileSettings

    def deal(self, sets: FewShotSets, key: Key) -> list[Samples]:
        """A minibatch for each of the K + 1 steps."""
        size = self.config.minibatch
        length = size * (self.config.adaptation_steps + 1)
        rngs = [key.generator("minibatch", m) for m in range(len(sets.support.weights))]
        orders = np.stack([_endless_order(rng, sets, length) for rng in rngs])
        rows = torch.from_numpy(orders).to(self.device)  # [M, (K + 1)·size]
        tasks = torch.arange(len(rows), device=self.device).unsqueeze(1)
        pools = [torch.cat(pair, dim=1) for pair in zip(*map(_examples, sets), strict=True)]
        inputs, targets = (pool[tasks, rows] for pool in pools)
        ones = inputs.new_ones(len(rows), size)
        return [
            Samples(x, y, ones, ones / size)
            for x, y in zip(inputs.split(size, dim=1), targets.split(size, dim=1), strict=True)
        ]

    def judge_last(self, theta: Params, samples: Samples) -> dict[str, float]:
        """Of the last minibatch before its step, which is not new where the pool is too small."""
        with torch.no_grad():
            values = judged(self.policy(theta, samples.observations), samples)
        return {f"{self._measure}/step_{self.config.adaptation_steps}": float(values.mean())}


def _examples(samples: Samples) -> tuple[Tensor, Tensor]:
    return samples.observations, samples.actions


def _endless_order(rng: np.random.Generator, sets: FewShotSets, length: int) -> np.ndarray:
    """So many indices of a task's examples ``[length]``, every one once before any twice."""
    pool = sum(samples.weights.shape[1] for samples in sets)
    orders = [rng.permutation(pool) for _ in range(-(-length // pool))]
    return np.concatenate(orders)[:length]
