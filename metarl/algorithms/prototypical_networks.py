"""Prototypical networks (Snell, Swersky and Zemel 2017).

A class is known by the mean of its support examples' embeddings, and a query belongs to the class
whose mean is nearest,

    c_k = mean of f(x_i) over the support examples of class k,        (eq. 1)
    p(y = k | x) ∝ exp(−‖f(x) − c_k‖²),                               (eq. 2)

where the network f is shared by all tasks. Training minimises E_task[−log p(y | x)] over query
examples, in tasks of more classes than those of the test: discerning them is harder (section 3.1).

Nothing is adapted by gradient: all that a task leaves is c. Matching networks and VERSA are
subclasses which make something else of the support set's embeddings.

Batch normalisation takes the statistics of all the support and query examples of an iteration in
training; in evaluation those of training, a running mean, so that no prediction depends on the
other queries: it is not transductive.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import torch
import torch.nn.functional as F
from gymnasium import spaces
from torch import Tensor

from metarl.agents.support_set_agent import Predict, SupportSetAgent
from metarl.algorithms.settings.embedding import EmbeddingSettings, PrototypicalSettings
from metarl.algorithms.settings.few_shot import ConvSettings, MLPSettings
from metarl.experience.few_shot import FewShotSets, FewShotSource
from metarl.maths.adam import Adam, AdamState
from metarl.maths.distributions import Categorical
from metarl.maths.finite import check_finite
from metarl.maths.losses import judged, log_prob_loss
from metarl.maths.params import Params, check_state, flatten, to_device, unflatten
from metarl.networks.conv import ConvNetwork, image_shape
from metarl.networks.embedding import ConvEmbedding, Embedding, Perceptron
from metarl.random import Key
from metarl.types import ActionMode, DataKind


@dataclass(frozen=True)
class EpisodeBatch:
    """The data of one meta-iteration.

    ``sets`` are on the update device, ``env_steps`` the examples drawn, support and query.
    """

    key: Key
    tasks: np.ndarray
    sets: FewShotSets
    env_steps: int
    metrics: dict[str, float]


class PrototypicalNetworks:
    """Prototypical networks, a :class:`metarl.types.Algorithm`.

    Args:
        config: See :mod:`metarl.algorithms.settings.embedding`.
        input_space: Of one input.
        target_space: Of one target.
        seed: Of the initial parameters.
        device: Where updates and predictions are computed.

    Attributes:
        params: Of the embedding, and of whatever else is learned.
        statistics: Of batch normalisation, the running mean of those seen in training.

    Raises:
        ValueError: the targets are no classes, and this algorithm needs some.
    """

    config_class: ClassVar[type[EmbeddingSettings]] = PrototypicalSettings
    optimiser_state: ClassVar[tuple[str, ...]] = ("adam", "adam_step")
    learns_from: ClassVar[DataKind] = "examples"
    classes_only: ClassVar[bool] = True

    def __init__(
        self,
        config: EmbeddingSettings,
        input_space: spaces.Space,
        target_space: spaces.Space,
        seed: int,
        device: torch.device | str = "cpu",
    ) -> None:
        if self.classes_only and not isinstance(target_space, spaces.Discrete):
            raise ValueError(
                f"it tells classes apart, and these targets are numbers ({target_space}); "
                "versa, amortized_bayes and the few_shot_ algorithms take them"
            )
        self.config = config
        self.device = torch.device(device)
        self.target_space = target_space
        self.embedding: Embedding = make_embedding(config.network, input_space)
        rng = Key(seed).generator("init")
        self.params = to_device(self.initial_params(rng), self.device)
        self.statistics = to_device(self.embedding.initial_statistics(), self.device)
        self.adam = AdamState.fresh(flatten(self.params))

    def initial_params(self, rng: np.random.Generator) -> Params:
        """Before training."""
        return self.embedding.init(rng)

    def predictor(self, params: Params, features: Tensor, targets: Tensor, key: Key) -> Predict:
        """What a support set says of the targets of other features ``[M, Q, f]``.

        Args:
            params: See :attr:`params`.
            features: Of the support set ``[M, S, f]``.
            targets: Of the support set.
            key: Names the noise of algorithms that have some.
        """
        means = class_means(features, targets)
        # −‖x − c‖² without ‖x‖², which all classes share: a linear classifier (section 2.4)
        bias = -means.square().sum(2).unsqueeze(1)
        return lambda x: Categorical(torch.baddbmm(bias, x, means.mT, alpha=2.0))

    # ---- training

    def collect(self, source: FewShotSource, key: Key) -> EpisodeBatch:
        """Draw tasks, of as many ways as training is to have, and their examples."""
        ways, queries = self.config.training_ways, self.config.queries
        drawer = source if ways is None else source.with_ways(ways)
        tasks = drawer.sample_tasks(self.config.tasks, key)
        sets = drawer.examples(tasks, queries, key, augment=True).to(self.device)
        drawn = sum(samples.weights.numel() for samples in sets)
        return EpisodeBatch(key, tasks, sets, drawn, {})

    def update(self, batch: EpisodeBatch) -> dict[str, float]:
        """One step of Adam on E_task[−log p(y | x)] of the query sets.

        Raises:
            FloatingPointError: a loss or the gradient is not finite.
        """
        support, query = batch.sets
        x = flatten(self.params).requires_grad_()
        params = unflatten(x, self.params)
        inputs = torch.cat([support.observations, query.observations], dim=1)
        features, statistics = self.embedding.embed(params, inputs, self.statistics, training=True)
        mine, theirs = features.split([s.weights.shape[1] for s in batch.sets], dim=1)
        predicted = self.predictor(params, mine, support.actions, batch.key)(theirs)
        losses = log_prob_loss(predicted, query)
        (gradient,) = torch.autograd.grad(losses.mean(), x)
        check_finite("the loss is", losses.detach(), batch.tasks)
        check_finite("the gradient is", gradient)
        lr = self.config.outer.lr_at(batch.key.iteration)
        shrunk = x.detach() * (1.0 - lr * self.config.weight_decay)  # Loshchilov and Hutter 2019
        x, self.adam = Adam().step(shrunk, gradient, self.adam, lr)
        self.params = unflatten(x, self.params)
        self.statistics = statistics
        found = judged(predicted, query).detach()
        return {
            "loss/outer_before": float(losses.detach().mean()),
            "gradient_norm": float(gradient.norm()),
            "lr": lr,
            f"{self._measure}/step_1": float(found.mean()),
        }

    @property
    def _measure(self) -> str:
        return "accuracy" if isinstance(self.target_space, spaces.Discrete) else "error"

    # ---- agents and checkpoints

    def agent(self, mode: ActionMode, key: Key) -> SupportSetAgent:
        """The agent as it stands; nothing in it depends on the mode."""
        params, statistics = self.params, self.statistics

        def embed(inputs: Tensor) -> Tensor:
            return self.embedding.embed(params, inputs, statistics, training=False)[0]

        def read(features: Tensor, targets: Tensor) -> Predict:
            return self.predictor(params, features, targets, key)

        return SupportSetAgent(embed, read, self.embedding.widest, self.device)

    def state_dict(self) -> dict[str, Any]:
        """Parameters, the statistics of batch normalisation, and Adam's memory."""
        return {
            "params": to_device(self.params, "cpu"),
            "statistics": to_device(self.statistics, "cpu"),
            **self.adam.state_dict(),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore what :meth:`state_dict` returned, to the bit.

        Raises:
            ValueError: it is no state of this algorithm and this network.
        """
        check_state(state, PrototypicalNetworks.state_dict(self))
        self.params = to_device(state["params"], self.device)
        self.statistics = to_device(state["statistics"], self.device)
        self.adam = AdamState.from_state(state, self.device)


def make_embedding(network: MLPSettings | ConvSettings, input_space: spaces.Space) -> Embedding:
    """The embedding of these inputs, untrained.

    Raises:
        ValueError: the network takes other inputs.
    """
    if isinstance(network, ConvSettings):
        shape = image_shape(input_space, network.pooling)
        how = (None, network.filters, network.pooling, network.norm)
        return ConvEmbedding(ConvNetwork(shape, *how))
    inputs = math.prod(input_space.shape or ())
    return Perceptron((inputs, *network.hidden_sizes), network.activation)


def class_means(features: Tensor, targets: Tensor) -> Tensor:
    """The mean ``[M, ways, f]`` of every class's features ``[M, S, f]`` for targets ``[M, S]``."""
    member = F.one_hot(targets).to(features.dtype)  # [M, S, ways]
    return torch.bmm(member.mT, features) / member.sum(1).unsqueeze(2)
