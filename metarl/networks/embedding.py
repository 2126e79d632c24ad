"""Embeddings: networks that all tasks share, from inputs to features."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from metarl.maths.params import Params, stack
from metarl.networks.conv import BLOCKS, NORM_EPSILON, ConvNetwork
from metarl.networks.mlp import MLPRegression
from metarl.types import Activation

_MOMENTUM = 0.1  # of the running statistics


class Embedding(Protocol):
    """A network with parameters and statistics that are not its own."""

    @property
    def feature_dim(self) -> int:
        """f, the numbers of an embedding."""

    @property
    def widest(self) -> int:
        """The numbers of an input's largest activation."""

    def init(self, rng: np.random.Generator) -> Params:
        """Fresh parameters, drawn with numpy."""

    def initial_statistics(self) -> Params:
        """Of its normalisation, before anything was seen; {} where it normalises nothing."""

    def embed(
        self, params: Mapping[str, Tensor], inputs: Tensor, statistics: Params, *, training: bool
    ) -> tuple[Tensor, Params]:
        """Features ``[M, N, f]``, and the statistics as they are after these inputs.

        Args:
            params: Not stacked; may have names besides.
            inputs: ``[M, N, x]``.
            statistics: Running ones; they stay as they are.
            training: Normalise by the inputs' own statistics, of all rows of all tasks together,
                and let the running ones follow them; else by the running ones.
        """


@dataclass(frozen=True)
class ConvEmbedding:
    """The four blocks of a :class:`metarl.networks.conv.ConvNetwork`, as one convolution each.

    With filters that all tasks share that is the faster way to the same numbers.

    Attributes:
        network: Whose parameters and features these are; it has no classes.
    """

    network: ConvNetwork

    @property
    def feature_dim(self) -> int:
        """f."""
        return self.network.feature_dim

    @property
    def widest(self) -> int:
        """The size of an image's largest activation, that of the first block."""
        return self.network.widest

    def init(self, rng: np.random.Generator) -> Params:
        """The network's."""
        return self.network.init(rng)

    def initial_statistics(self) -> Params:
        """Means 0 and variances 1 of every block."""
        if self.network.norm != "batch":
            return {}
        filters = self.network.filters
        means = {f"block{i}.mean": torch.zeros(filters) for i in range(BLOCKS)}
        return means | {f"block{i}.variance": torch.ones(filters) for i in range(BLOCKS)}

    def embed(
        self, params: Mapping[str, Tensor], inputs: Tensor, statistics: Params, *, training: bool
    ) -> tuple[Tensor, Params]:
        """See :class:`Embedding`."""
        by_stride = self.network.pooling == "stride"
        running = {name: x.clone() for name, x in statistics.items()} if training else statistics
        x = inputs.reshape(-1, *self.network.image_shape)
        for i in range(BLOCKS):
            weight, shift = params[f"block{i}.weight"], params[f"block{i}.shift"]  # [9·C, F]
            kernel = weight.view(3, 3, x.shape[1], -1).permute(3, 2, 0, 1)
            stride = 2 if by_stride else 1
            if running:
                x = F.conv2d(x, kernel, stride=stride, padding=1)
                mean, variance = running[f"block{i}.mean"], running[f"block{i}.variance"]
                scale = params[f"block{i}.scale"]
                x = F.batch_norm(x, mean, variance, scale, shift, training, _MOMENTUM, NORM_EPSILON)
            else:
                x = F.conv2d(x, kernel, shift, stride=stride, padding=1)
            x = (x if by_stride else F.max_pool2d(x, 2)).relu()
        features = x.mean((2, 3)) if by_stride else x.permute(0, 2, 3, 1).flatten(1)
        return features.view(*inputs.shape[:2], -1), running


@dataclass(frozen=True)
class Perceptron:
    """A multilayer perceptron, its last layer linear.

    Attributes:
        sizes: Widths of the input, the hidden layers, and the features.
        activation: Of the hidden layers.
        prefix: Before the names of its parameters.
    """

    sizes: tuple[int, ...]
    activation: Activation = "relu"
    prefix: str = ""

    @property
    def feature_dim(self) -> int:
        """f."""
        return self.sizes[-1]

    @property
    def widest(self) -> int:
        """The width of the widest layer."""
        return max(self.sizes)

    def init(self, rng: np.random.Generator) -> Params:
        """Glorot-uniform weights, zero biases."""
        return {self.prefix + name: p for name, p in self._network.init(rng).items()}

    def initial_statistics(self) -> Params:
        """It normalises nothing."""
        return {}

    def embed(
        self, params: Mapping[str, Tensor], inputs: Tensor, statistics: Params, *, training: bool
    ) -> tuple[Tensor, Params]:
        """See :class:`Embedding`."""
        return self(params, inputs), {}

    def __call__(self, params: Mapping[str, Tensor], inputs: Tensor) -> Tensor:
        """Features ``[..., f]`` of inputs ``[..., x]``."""
        network = self._network
        own = stack({n: params[self.prefix + n] for n in network.parameter_names}, 1)
        rows = inputs.reshape(1, -1, inputs.shape[-1])
        return network(own, rows).mode().view(*inputs.shape[:-1], -1)

    @property
    def _network(self) -> MLPRegression:
        first, *hidden, last = self.sizes
        return MLPRegression(first, last, hidden_sizes=tuple(hidden), activation=self.activation)
