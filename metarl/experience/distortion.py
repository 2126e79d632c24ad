"""Small distortions of training images, so that few of them say more; the same for every method."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import grid_sample

_RANGES = (
    *[(-0.26, 0.26)],  # turned, rad: 15°
    *[(-0.2, 0.2)],  # sheared
    *[(0.85, 1.2)] * 2,  # scaled, in width and height
    *[(-0.15, 0.15)] * 2,  # shifted, in halves of the image: 2 of 28 pixels
    *[(-0.5, 1.0)],  # strokes: thinner below 0, thicker above, by that share of a pixel
)
LOW, HIGH = np.array(_RANGES).T
_BLOCK = 128  # images, which stay in the cache


def distorted(images: Tensor, rngs: Sequence[np.random.Generator]) -> Tensor:
    """Each image turned, sheared, scaled and shifted, and its strokes made thicker or thinner.

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
        turn, shear, *scales, shift_x, shift_y, stroke = numbers[index * _BLOCK :][: len(block)].T
        cos, sin = np.cos(turn) / scales, np.sin(turn) / scales
        # Where in the image each pixel (x, y, 1) of the distorted one lies, in [−1, 1]².
        of_x = (cos[0], shear * cos[0] - sin[0], shift_x)
        of_y = (sin[1], shear * sin[1] + cos[1], shift_y)
        moved = _moved(block, np.stack([of_x, of_y], axis=2))
        _restroke(moved, torch.from_numpy(stroke).view(-1, 1, 1, 1), out)
    return changed


def _moved(images: Tensor, maps: np.ndarray) -> Tensor:
    """Images ``[n, c, h, w]`` resampled by affine maps ``[3, n, 2]``."""
    n, _, height, width = images.shape
    y, x = (torch.arange(1, 2 * length, 2) / length - 1.0 for length in (height, width))
    x, y = torch.meshgrid(x, y, indexing="xy")
    places = torch.stack([x.flatten(), y.flatten(), torch.ones(height * width)], dim=1)
    # One product for all: a batch of products of such small matrices takes ten times as long.
    grid = (places @ torch.from_numpy(maps).flatten(1)).view(height * width, n, 2)
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
