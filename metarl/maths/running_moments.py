"""Running means and deviations, to normalise by. Statistics in float64, exact under merging."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from torch import Tensor

CLIP = 10.0
_FLOAT32 = torch.finfo(torch.float32)  # in which environments are observed and policies compute


@dataclass(frozen=True)
class RunningMoments:
    """Count, mean and sum of squared deviations of all rows seen so far; never changed in place.

    Attributes:
        count: Rows seen.
        mean: Their mean, float64 ``[d]``.
        squares: Σ (x − mean)², float64 ``[d]``.
    """

    count: float
    mean: Tensor
    squares: Tensor

    @classmethod
    def empty(cls, dim: int) -> RunningMoments:
        """Before anything was seen: it normalises by mean 0 and deviation 1."""
        return cls(
            0.0, torch.zeros(dim, dtype=torch.float64), torch.zeros(dim, dtype=torch.float64)
        )

    @classmethod
    def of(cls, rows: Tensor) -> RunningMoments:
        """Those of rows ``[n, d]`` of any dtype."""
        if len(rows) == 0:
            return cls.empty(rows.shape[-1])
        rows = rows.to(torch.float64)
        mean = rows.mean(0)
        return cls(float(len(rows)), mean, (rows - mean).square().sum(0))

    @cached_property
    def std(self) -> Tensor:
        """What a deviation from the mean is divided by, float64 ``[d]``: the standard deviation.

        No floor but that of float32's precision: a column of any scale is normalised to 1. One
        that has varied by no more than rounding of its mean is constant, and its unit is that
        mean's magnitude: the rounding stays as small as it is, and if it moves some day, then by
        its own measure and within the clip. Where all was 0, as before anything was seen, it is 1.
        """
        std = (self.squares / max(self.count, 1.0)).sqrt()
        size = self.mean.abs()
        unit = torch.where(size > _FLOAT32.tiny, size, 1.0)
        return torch.where(std > (_FLOAT32.eps * size).clamp(min=_FLOAT32.tiny), std, unit)

    def merge(self, rows: Tensor) -> RunningMoments:
        """With further rows ``[n, d]`` of any dtype and device."""
        return self.join(RunningMoments.of(rows))

    def join(self, other: RunningMoments) -> RunningMoments:
        """Those of the rows of both, on this one's device (Chan, Golub and LeVeque 1979)."""
        if other.count == 0:
            return self
        other = other.to(self.mean.device)
        delta, total = other.mean - self.mean, self.count + other.count
        squares = other.squares + delta.square() * (self.count * other.count / total)
        mean = self.mean + delta * (other.count / total)
        return RunningMoments(total, mean, self.squares + squares)

    def beside(self, other: RunningMoments) -> RunningMoments:
        """Those of rows with the columns of ``other``'s after one's own; as many were seen."""
        other = other.to(self.mean.device)
        parts = (self.mean, other.mean), (self.squares, other.squares)
        return RunningMoments(self.count, *map(torch.cat, parts))

    def columns(self, which: slice) -> RunningMoments:
        """Those of some of the columns."""
        return RunningMoments(self.count, self.mean[which], self.squares[which])

    def with_std(self, std: float) -> RunningMoments:
        """Those that normalise to this standard deviation in place of 1."""
        return RunningMoments(self.count, self.mean, self.squares / std**2)

    def to(self, device: torch.device) -> RunningMoments:
        """The same on another device."""
        return RunningMoments(self.count, self.mean.to(device), self.squares.to(device))

    def normalize(self, x: Tensor) -> Tensor:
        """(x − mean) / std, clipped to ±10, for x ``[..., d]``, in its dtype."""
        return ((x - self.mean.to(x)) / self.std.to(x)).clamp(-CLIP, CLIP)

    def state_dict(self) -> dict[str, Any]:
        """Tensors and a number."""
        return {"count": self.count, "mean": self.mean, "squares": self.squares}

    @classmethod
    def from_state(cls, state: dict[str, Any]) -> RunningMoments:
        """What :meth:`state_dict` returned."""
        return cls(float(state["count"]), state["mean"], state["squares"])
