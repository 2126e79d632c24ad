"""Parameters as an explicit ``dict[str, Tensor]``, and the few operations that agents need.

Stacked parameters carry one leading task axis: every tensor is ``[M, ...]``, one copy a task.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

Params = dict[str, Tensor]


def stack(params: Mapping[str, Tensor], num_tasks: int) -> Params:
    """Give every task the same parameters: ``[...] -> [M, ...]``, without copying memory."""
    return {name: p.expand(num_tasks, *p.shape) for name, p in params.items()}


def mean_over_tasks(stacked: Mapping[str, Tensor]) -> Params:
    """``[M, ...] -> [...]``, the mean over the task axis."""
    return {name: p.mean(dim=0) for name, p in stacked.items()}


def concatenate(blocks: Sequence[Mapping[str, Tensor]], names: Iterable[str]) -> Params:
    """The named parameters of all tasks ``[M, ...]``, from blocks of tasks ``[m, ...]``."""
    return {name: torch.cat([block[name] for block in blocks]) for name in names}


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


def check_state(saved: Mapping[str, Any], own: Mapping[str, Any]) -> None:
    """Refuse a saved state that is not like an algorithm's own, whatever its values are.

    Args:
        saved: Named tensors, numbers, lists and mappings of such; may have names besides.
        own: What it must be like: in names, lengths, dtypes and shapes.

    Raises:
        ValueError: names the first place that differs, and how.
    """
    if not isinstance(saved, Mapping):
        raise ValueError(f"the state is {_kind(saved)}, where {_kind(own)} belongs")
    for key, child in own.items():
        if key not in saved:
            raise ValueError(f"{key!r} is missing")
        _check_part(saved[key], child, key)


def _check_part(saved: Any, own: Any, name: str) -> None:
    found, expected = map(_kind, (saved, own))
    if found != expected:
        raise ValueError(f"{name} is {found}, where {expected} belongs")
    if isinstance(own, Mapping):
        if saved.keys() != own.keys():
            raise ValueError(f"{name} has {_names(saved)}, where {_names(own)} belong")
        for key, child in own.items():
            _check_part(saved[key], child, f"{name}[{key!r}]")
    elif isinstance(own, list | tuple):
        for index, (theirs, child) in enumerate(zip(saved, own, strict=True)):
            _check_part(theirs, child, f"{name}[{index}]")


def _names(part: Mapping[Any, Any]) -> str:
    text = ", ".join(map(repr, part)) or "nothing"
    return text if len(text) <= 200 else f"{text[:197]}..."


def _kind(value: Any) -> str:
    """What a part of a state is, in words."""
    if isinstance(value, Tensor):
        sparse = "" if value.layout is torch.strided else "sparse "
        return f"{sparse}{str(value.dtype).removeprefix('torch.')} {list(value.shape)}"
    if isinstance(value, Mapping):
        return "a mapping"
    if isinstance(value, list | tuple):
        return f"a list of {len(value)}"
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    if is_number and math.isfinite(value):
        return "a number" if value >= 0 else "a negative number"
    return "no finite number" if is_number else type(value).__name__


class MetaParams(NamedTuple):
    """What an outer loop learns.

    Attributes:
        policy: θ, the policy's parameters.
        rates: r, by which the inner steps of each of them are multiplied; None: not learned.
    """

    policy: Params
    rates: Params | None = None

    def map(self, change: Callable[[Params], Params]) -> MetaParams:
        """Both changed alike."""
        return MetaParams(change(self.policy), None if self.rates is None else change(self.rates))

    def vector(self) -> Tensor:
        """All as one vector ``[P]``, θ before r."""
        return torch.cat([flatten(params) for params in self if params is not None])

    def unflatten(self, vector: Tensor) -> MetaParams:
        """A vector ``[P]`` cut into the names and shapes of these."""
        if self.rates is None:
            return MetaParams(unflatten(vector, self.policy))
        count = sum(p.numel() for p in self.policy.values())
        return MetaParams(
            unflatten(vector[:count], self.policy), unflatten(vector[count:], self.rates)
        )
