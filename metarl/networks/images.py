"""Images as observations: a small convolutional encoder, and the feed-forward policy upon it.

The encoder is written twice, to the same numbers: with filters that all share, one convolution a
layer, for policies with a memory; with filters of each task's own, a product of matrices, as
:mod:`metarl.networks.conv` has it, for policies that adapt by gradient steps.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from gymnasium import spaces
from torch import Tensor

from metarl.envs.spaces import is_image
from metarl.maths.distributions import Distribution
from metarl.maths.params import Params
from metarl.networks.autograd_pass import AutogradPass
from metarl.networks.conv import Patches
from metarl.networks.mlp import MLPPolicy
from metarl.networks.spaces import Sizes

SMALLEST_SIDE = 4  # of the maps that features are taken from, at most


@dataclass(frozen=True)
class ImageEncoder:
    """Images → features: 3×3 convolutions of stride 2, each with a ReLU, down to 4 × 4 maps.

    Pixels are divided by 255, and normalised by nothing else. All positions of the last maps are
    features, so that a policy can tell where something is.

    Attributes:
        image_shape: Height, width, channels; or channels, height, width, where the first axis is
            the shortest.
        filters: Of every layer.
    """

    image_shape: tuple[int, int, int]
    filters: int = 16

    @classmethod
    def of(cls, space: spaces.Space) -> ImageEncoder | None:
        """One for the images of a space; None where it has none."""
        if not is_image(space):
            return None
        height, width, channels = space.shape  # type: ignore[misc]
        return cls((height, width, channels))

    @property
    def channel_axis(self) -> int:
        """0 or 2."""
        return 0 if self.image_shape[0] < min(self.image_shape[1:]) else 2

    @property
    def sides(self) -> list[tuple[int, int]]:
        """Height and width of the image, and of every layer's maps."""
        height, width = (n for i, n in enumerate(self.image_shape) if i != self.channel_axis)
        sides = [(height, width)]
        while len(sides) == 1 or max(sides[-1]) > SMALLEST_SIDE:
            height, width = (height + 1) // 2, (width + 1) // 2
            sides.append((height, width))
        return sides

    @property
    def feature_dim(self) -> int:
        """f."""
        return self.filters * math.prod(self.sides[-1])

    @property
    def widest(self) -> int:
        """The numbers of an image's largest tensor: the patches of the first or second layer."""
        channels = [self.image_shape[self.channel_axis], self.filters]
        sizes = zip(self.sides[1:3], channels, strict=False)
        return max(9 * n * math.prod(side) for side, n in sizes)

    def init(self, rng: np.random.Generator) -> Params:
        """Uniform filters ``[9·in, F]`` of variance 2 / fan-in (He et al. 2015), zero biases."""
        params: Params = {}
        for i in range(len(self.sides) - 1):
            n_in = 9 * (self.filters if i else self.image_shape[self.channel_axis])
            weight = rng.uniform(-1.0, 1.0, (n_in, self.filters)) * math.sqrt(6.0 / n_in)
            params[f"image{i}.weight"] = torch.from_numpy(weight.astype(np.float32))
            params[f"image{i}.bias"] = torch.zeros(self.filters)
        return params

    def shared(self, params: Mapping[str, Tensor], images: Tensor) -> Tensor:
        """Features ``[..., f]`` of flat images ``[..., x]``, by filters ``[9·in, F]``."""
        x = self._pixels(params, images.reshape(-1, images.shape[-1])).movedim(-1, 1)
        for i in range(len(self.sides) - 1):
            kernel = params[f"image{i}.weight"].view(3, 3, x.shape[1], -1).permute(3, 2, 0, 1)
            x = F.conv2d(x, kernel, params[f"image{i}.bias"], stride=2, padding=1).relu()
        return x.movedim(1, -1).reshape(*images.shape[:-1], -1)

    def stacked(self, params: Mapping[str, Tensor], images: Tensor) -> Tensor:
        """Features ``[M, N, f]`` of images ``[M, N, x]``, by filters ``[M, 9·in, F]``."""
        x = self._pixels(params, images)
        for i in range(len(self.sides) - 1):
            patches = Patches.apply(x, 2)  # [M, N, H, W, 9·C]
            bias, weight = params[f"image{i}.bias"].unsqueeze(1), params[f"image{i}.weight"]
            z = torch.baddbmm(bias, patches.flatten(1, 3), weight)  # [M, N·H·W, F]
            x = z.relu().view(*patches.shape[:4], -1)
        return x.flatten(2)

    def _pixels(self, params: Mapping[str, Tensor], images: Tensor) -> Tensor:
        """``[..., x]`` of 0 to 255 → ``[..., H, W, C]`` of 0 to 1, in the parameters' dtype."""
        x = images.unflatten(-1, self.image_shape)
        x = x.movedim(-3, -1) if self.channel_axis == 0 else x
        return x.to(params["image0.weight"].dtype) / 255.0


@dataclass(frozen=True)
class ImagePolicy:
    """An encoder, and a multilayer perceptron on its features; every task may have its own.

    Attributes:
        encoder: Of the images.
        top: Its observations are features.
    """

    encoder: ImageEncoder
    top: MLPPolicy

    @property
    def observation_dim(self) -> int:
        """Pixels of an image."""
        return math.prod(self.encoder.image_shape)

    @property
    def family(self) -> type[Distribution]:
        """The kind of distribution over actions."""
        return self.top.family

    @property
    def head_names(self) -> list[str]:
        """The parameters of the head, see :class:`metarl.networks.mlp.MLPPolicy`."""
        return self.top.head_names

    @property
    def widest(self) -> int:
        """The numbers of an image's largest tensor."""
        return max(self.encoder.widest, self.top.widest)

    def init(self, rng: np.random.Generator) -> Params:
        """Fresh parameters of both."""
        return self.encoder.init(rng) | self.top.init(rng)

    @property
    def noise_dim(self) -> int:
        """Random numbers that a step takes."""
        return self.top.noise_dim

    def draw_noise(self, rng: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
        """What is drawn anew at every step."""
        return self.top.draw_noise(rng, shape)

    def draw_episode_noise(self, rng: np.random.Generator, lanes: int) -> np.ndarray:
        """What stays as it is through an episode of every lane."""
        return self.top.draw_episode_noise(rng, lanes)

    def with_noise(self, observations: Tensor, noise: Tensor) -> tuple[Tensor, Tensor]:
        """What is shown ``[M, B, x]``, and the noise of the actions ``[M, B, a]``."""
        return self.top.with_noise(observations, noise)

    def __call__(self, params: Mapping[str, Tensor], observation: Tensor) -> Distribution:
        """π(· | s) of every task for images ``[M, N, x]``."""
        return self.top(params, self.encoder.stacked(params, observation))

    def through(self, params: Mapping[str, Tensor], observations: Tensor) -> AutogradPass:
        """π(· | s), to be differentiated."""
        return AutogradPass(self, params, observations)


def feedforward_policy(
    sizes: Sizes, encoder: ImageEncoder | None, **settings: Any
) -> MLPPolicy | ImagePolicy:
    """The policy for these sizes, with these settings of :class:`metarl.networks.mlp.MLPPolicy`.

    Args:
        sizes: Those of :func:`metarl.networks.spaces.space_sizes`.
        encoder: Of the images that are observed; None where they are numbers.
        **settings: As they are called there.
    """
    if encoder is None:
        return MLPPolicy(*sizes, **settings)
    return ImagePolicy(encoder, MLPPolicy(encoder.feature_dim, *sizes[1:], **settings))
