"""Parameters as an explicit ``dict[str, Tensor]``, and the few operations that agents need.

Stacked parameters carry one leading task axis: every tensor is ``[M, ...]``, one copy a task.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

Params = dict[str, Tensor]


def stack(params: Mapping[str, Tensor], num_tasks: int) -> Params:
    """Give every task the same parameters: ``[...] -> [M, ...]``, without copying memory."""
    return {name: p.expand(num_tasks, *p.shape) for name, p in params.items()}


def mean_over_tasks(stacked: Mapping[str, Tensor]) -> Params:
    """``[M, ...] -> [...]``, the mean over the task axis."""
    return {name: p.mean(dim=0) for name, p in stacked.items()}


def flatten(params: Mapping[str, Tensor]) -> Tensor:
    """All parameters as one vector ``[P]``, in the dict's order."""
    return torch.cat([p.reshape(-1) for p in params.values()])


def unflatten(vector: Tensor, like: Mapping[str, Tensor]) -> Params:
    """Cut a vector ``[P]`` into the names and shapes of ``like``.

    Raises:
        ValueError: if the vector's length is not the number of parameters.
    """
    sizes = [p.numel() for p in like.values()]
    if vector.shape != (sum(sizes),):
        raise ValueError(f"expected a vector of {sum(sizes)} parameters, got {tuple(vector.shape)}")
    pieces = vector.split(sizes)
    return {name: v.view(p.shape) for (name, p), v in zip(like.items(), pieces, strict=True)}


def detach(params: Mapping[str, Tensor]) -> Params:
    """The same values as leaves without history."""
    return {name: p.detach() for name, p in params.items()}


def to_device(params: Mapping[str, Tensor], device: torch.device | str) -> Params:
    """The same parameters on another device."""
    return {name: p.to(device) for name, p in params.items()}


def check_shapes(saved: Mapping[str, Tensor], params: Mapping[str, Tensor]) -> None:
    """Refuse saved parameters that are not a policy's own.

    Raises:
        ValueError: other names or shapes.
    """
    found, expected = ({n: tuple(p.shape) for n, p in x.items()} for x in (saved, params))
    if found != expected:
        raise ValueError(f"the saved parameters {found} are not this policy's {expected}")
