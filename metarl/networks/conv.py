"""The convolutional network of few-shot image classification (Vinyals et al. 2016, section 4.1).

Four blocks of 3×3 convolutions, each with batch normalisation and a ReLU, that halve the image, and
one linear layer. A convolution with filters of each task's own is a product of matrices, of the
3×3 patches ``[M, N·H·W, 9·C]`` with the filters ``[M, 9·C, F]``: one call for all tasks, faster on
a CPU than a grouped convolution, and its derivatives of every order are products of the same kind.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from gymnasium import spaces
from torch import Tensor

from metarl.maths.distributions import Categorical
from metarl.maths.params import Params
from metarl.networks.autograd_pass import AutogradPass
from metarl.types import Norm, Pooling

BLOCKS = 4
NORM_EPSILON = 1e-3  # added to the variance, as in MAML's code


def image_shape(input_space: spaces.Space, pooling: Pooling) -> tuple[int, int, int]:
    """Channels, height and width of a space of images that the network can take.

    Raises:
        ValueError: these are no images, or they are too small.
    """
    shape = input_space.shape
    if shape is None or len(shape) != 3:
        raise ValueError(
            f"network conv takes images [channels, height, width], and these inputs are {shape}; "
            "network mlp takes any"
        )
    least = 2**BLOCKS
    if pooling == "max" and min(shape[1:]) < least:
        raise ValueError(
            f"four blocks of max-pooling need images of {least} × {least} pixels at least, and "
            f"these are {shape[1]} × {shape[2]}; network.pooling stride takes any"
        )
    return shape[0], shape[1], shape[2]


@dataclass(frozen=True)
class ConvNetwork:
    """Images ``[M, N, channels·height·width]`` → classes, or features.

    The parameters of every task may be its own, stacked ``[M, ...]``, or the same for all and not
    stacked.

    Attributes:
        image_shape: Channels, height, width.
        classes: n; None: there is no last layer, and the network is an embedding.
        filters: F of every block.
        pooling: "stride": convolutions of stride 2, and the mean over what positions they leave
            (MAML's code); "max": 2×2 max-pooling, and the features of all positions left.
        norm: Batch normalisation of every block, with scale and shift, or a shift alone.
        statistics_rows: The mean and variance of a normalisation are those of so many first rows
            of a task, its support set; None: of all rows at hand, so that the prediction for one
            depends on the others (transductive, MAML's code).
    """

    image_shape: tuple[int, int, int]
    classes: int | None = None
    filters: int = 64
    pooling: Pooling = "stride"
    norm: Norm = "batch"
    statistics_rows: int | None = None

    @property
    def feature_dim(self) -> int:
        """The number of features of an image."""
        if self.pooling == "stride":
            return self.filters
        height, width = (side // 2**BLOCKS for side in self.image_shape[1:])
        return self.filters * height * width

    @property
    def family(self) -> type[Categorical]:
        """The kind of distribution over targets."""
        return Categorical

    @property
    def head_names(self) -> list[str]:
        """The parameters of its last layer."""
        return [] if self.classes is None else ["head.weight", "head.bias"]

    @property
    def widest(self) -> int:
        """The size of an image's largest activation, that of the first block."""
        _, height, width = self.image_shape
        if self.pooling == "stride":
            height, width = (height + 1) // 2, (width + 1) // 2
        return self.filters * height * width

    def init(self, rng: np.random.Generator) -> Params:
        """Fresh parameters: Glorot-uniform filters ``[9·in, F]`` and head, scales 1, shifts 0.

        Drawn with numpy, so that every device starts from the same numbers.
        """

        def glorot(n_in: int, n_out: int, taps: int) -> Tensor:
            bound = math.sqrt(6.0 / (taps * (n_in + n_out)))
            weight = rng.uniform(-bound, bound, (taps * n_in, n_out))
            return torch.from_numpy(weight.astype(np.float32))

        params: Params = {}
        for i in range(BLOCKS):
            channels = self.filters if i else self.image_shape[0]
            params[f"block{i}.weight"] = glorot(channels, self.filters, 9)
            if self.norm == "batch":
                params[f"block{i}.scale"] = torch.ones(self.filters)
            params[f"block{i}.shift"] = torch.zeros(self.filters)
        if self.classes is not None:
            params["head.weight"] = glorot(self.feature_dim, self.classes, 1)
            params["head.bias"] = torch.zeros(self.classes)
        return params

    def embed(self, params: Mapping[str, Tensor], images: Tensor) -> Tensor:
        """Features ``[M, N, f]`` of flat images ``[M, N, x]``."""
        if images.ndim != 3:
            raise ValueError(f"images must be [M, N, x], got {tuple(images.shape)}")
        num_tasks, rows = images.shape[:2]
        x = images.view(num_tasks, rows, *self.image_shape).movedim(2, -1)  # [M, N, H, W, C]
        stride = 2 if self.pooling == "stride" else 1
        for i in range(BLOCKS):
            patches = Patches.apply(x, stride)  # [M, N, H, W, 9·C]
            z = torch.matmul(patches.flatten(1, 3), params[f"block{i}.weight"])  # [M, N·H·W, F]
            x = self._normalise(z, params, i, rows).view(*patches.shape[:4], -1)
            if self.pooling == "max":  # before the ReLU, which would make ties
                planes = x.flatten(0, 1).permute(0, 3, 1, 2)
                x = F.max_pool2d(planes, 2).permute(0, 2, 3, 1).unflatten(0, (num_tasks, rows))
            x = x.relu()
        return x.mean((2, 3)) if self.pooling == "stride" else x.flatten(2)

    def __call__(self, params: Mapping[str, Tensor], images: Tensor) -> Categorical:
        """A distribution over the classes of images ``[M, N, x]``."""
        features = self.embed(params, images)
        logits = torch.matmul(features, params["head.weight"])
        return Categorical(logits + params["head.bias"].unsqueeze(-2))

    def normalised_by(self, rows: int) -> ConvNetwork:
        """The same, normalised by so many first rows of a task."""
        return replace(self, statistics_rows=rows)

    def through(self, params: Mapping[str, Tensor], images: Tensor) -> AutogradPass:
        """The classes, to be differentiated."""
        return AutogradPass(self, params, images)

    def _normalise(self, z: Tensor, params: Mapping[str, Tensor], i: int, rows: int) -> Tensor:
        """γ (z − E z)/√(Var z + ε) + β of each task's ``[N·H·W, F]``, or z + β."""
        shift = params[f"block{i}.shift"].unsqueeze(-2)
        if self.norm == "none":
            return z + shift
        known = z
        if self.statistics_rows is not None:
            known = z[:, : min(self.statistics_rows, rows) * (z.shape[1] // rows)]
        variance, mean = torch.var_mean(known, dim=1, keepdim=True, correction=0)
        factor = params[f"block{i}.scale"].unsqueeze(-2) * (variance + NORM_EPSILON).rsqrt()
        return z * factor + (shift - mean * factor)


class Patches(torch.autograd.Function):
    """The 3×3 patches around every position, or every second: ``[M, N, H, W, C]`` → ``[.., 9·C]``.

    A linear map, whose derivative is :class:`_Overlay`, its transpose, and the other way round.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, stride: int) -> Tensor:
        ctx.stride, ctx.sides = stride, x.shape[2:4]
        patches = F.pad(x, (0, 0, 1, 1, 1, 1)).unfold(2, 3, stride).unfold(3, 3, stride)
        return patches.permute(0, 1, 2, 3, 5, 6, 4).flatten(4)

    @staticmethod
    def backward(ctx: Any, cotangent: Tensor) -> tuple[Any, ...]:
        return _Overlay.apply(cotangent, ctx.stride, *ctx.sides), None


class _Overlay(torch.autograd.Function):
    """Every patch added where it was taken from, ``[M, N, H, W, 9·C]`` → ``[M, N, .., .., C]``."""

    @staticmethod
    def forward(ctx: Any, patches: Tensor, stride: int, height: int, width: int) -> Tensor:
        ctx.stride = stride
        rows, columns = (stride * (n - 1) + 1 for n in patches.shape[2:4])
        taps = patches.unflatten(4, (3, 3, -1))
        x = patches.new_zeros(*patches.shape[:2], height + 2, width + 2, taps.shape[-1])
        for i in range(3):
            for j in range(3):
                x[:, :, i : i + rows : stride, j : j + columns : stride] += taps[:, :, :, :, i, j]
        return x[:, :, 1:-1, 1:-1]

    @staticmethod
    def backward(ctx: Any, cotangent: Tensor) -> tuple[Any, ...]:
        return Patches.apply(cotangent, ctx.stride), None, None, None
