"""Small distortions of training images, so that few of them say more; the same for every method."""

from __future__ import annotations

import functools
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import grid_sample, interpolate

_RANGES = (
    *[(-0.26, 0.26)],  # turned, rad: 15°
    *[(-0.2, 0.2)],  # sheared
    *[(0.85, 1.2)] * 2,  # scaled, in width and height
    *[(-0.15, 0.15)] * 2,  # shifted, in halves of the image: 2 of 28 pixels
    *[(-0.5, 1.0)],  # strokes: thinner below 0, thicker above, by that share of a pixel
    *[(-0.15, 0.15)] * 32,  # bent: 4 × 4 points each shifted, in halves of the image
)
LOW, HIGH = np.array(_RANGES).T
_BLOCK = 128  # images, which stay in the cache


def distorted(images: Tensor, rngs: Sequence[np.random.Generator]) -> Tensor:
    """Each image turned, sheared, scaled, shifted and bent, its strokes made thicker or thinner.

    It is bent by smooth shifts, which bicubic interpolation makes of those of a few points.
    What comes in from outside is 0.

    Args:
        images: ``[M, n, channels, height, width]``, ink above 0.
        rngs: One generator a task, the only source of chance.
    """
    size = images.shape[1], len(LOW)
    numbers = np.concatenate([rng.uniform(LOW, HIGH, size) for rng in rngs]).astype(np.float32)
    changed = torch.empty_like(images)
    rows = zip(images.flatten(0, 1).split(_BLOCK), changed.flatten(0, 1).split(_BLOCK), strict=True)
    for index, (block, out) in enumerate(rows):
        drawn = numbers[index * _BLOCK :][: len(block)].T
        turn, shear, *scales, shift_x, shift_y, stroke = drawn[:7]
        cos, sin = np.cos(turn) / scales, np.sin(turn) / scales
        # Where in the image each pixel (x, y, 1) of the distorted one lies, in [−1, 1]².
        of_x = (cos[0], shear * cos[0] - sin[0], shift_x)
        of_y = (sin[1], shear * sin[1] + cos[1], shift_y)
        bent = drawn[7:].reshape(16, 2, -1).swapaxes(1, 2)
        moved = _moved(block, np.concatenate([np.stack([of_x, of_y], axis=2), bent]))
        _restroke(moved, torch.from_numpy(stroke).view(-1, 1, 1, 1), out)
    return changed


@functools.cache
def _places(height: int, width: int) -> Tensor:
    """Of each pixel x, y, 1, and what it has of the shift of each of 4 × 4 points ``[h·w, 19]``."""
    y, x = (torch.arange(1, 2 * length, 2) / length - 1.0 for length in (height, width))
    x, y = torch.meshgrid(x, y, indexing="xy")
    points = torch.eye(16).view(1, 16, 4, 4)
    shares = interpolate(points, (height, width), mode="bicubic", align_corners=True)
    plane = torch.stack([x.flatten(), y.flatten(), torch.ones(height * width)], dim=1)
    return torch.cat([plane, shares.view(16, -1).T], dim=1)


def _moved(images: Tensor, maps: np.ndarray) -> Tensor:
    """Images ``[n, c, h, w]`` resampled by maps ``[19, n, 2]`` of :func:`_places`."""
    n, _, height, width = images.shape
    # One product for all: a batch of products of such small matrices takes ten times as long.
    grid = (_places(height, width) @ torch.from_numpy(maps).flatten(1)).view(height * width, n, 2)
    grid = grid.transpose(0, 1).contiguous().view(n, height, width, 2)
    return grid_sample(images, grid, align_corners=False)


def _restroke(images: Tensor, share: Tensor, out: Tensor) -> None:
    """Each pixel goes by a share towards the most ink of its neighbours, or if below 0 the least.

    The least of some numbers is the most of their negatives.
    """
    signed = torch.mul(images, share.sign(), out=out)
    most = signed.clone()
    for axis in (2, 3):
        length = images.shape[axis] - 1
        for to, of in ((0, 1), (1, 0)):
            place = most.narrow(axis, to, length)
            torch.maximum(place, signed.narrow(axis, of, length), out=place)
    torch.add(images, most.sub_(signed).mul_(share), out=out)
