"""Numbers that are not finite are stopped before they get any further."""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor


def check_finite(what: str, x: Tensor, tasks: np.ndarray | None = None) -> None:
    """Refuse infinities and NaN.

    Args:
        what: The start of the refusal, with its verb: "the loss is".
        x: Any shape; ``[M, ...]`` where tasks are given.
        tasks: ``[M, d]``, of which a refusal lists the first three that are concerned.

    Raises:
        FloatingPointError: x holds one.
    """
    if not x.is_floating_point() or math.isfinite(x.sum().item()):  # a sum keeps inf and NaN
        return
    bad = ~torch.isfinite(x)
    if not bad.any():  # only the sum was too large
        return
    if tasks is None:
        raise FloatingPointError(f"{what} not finite")
    which = np.asarray(tasks)[bad.view(len(bad), -1).any(1).cpu().numpy()]
    more = f" and {len(which) - 3} more" if len(which) > 3 else ""
    listed = ", ".join(map(str, which[:3].tolist()))
    raise FloatingPointError(f"{what} not finite for the tasks {listed}{more}")
