"""Parameters as an explicit ``dict[str, Tensor]``, and the few operations that agents need.

Stacked parameters carry one leading task axis: every tensor is ``[M, ...]``, one copy a task.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import NamedTuple

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


def check_shapes(saved: Mapping[str, Tensor], params: Mapping[str, Tensor]) -> None:
    """Refuse saved parameters that are not a policy's own.

    Raises:
        ValueError: other names or shapes.
    """
    found, expected = ({n: tuple(p.shape) for n, p in x.items()} for x in (saved, params))
    if found != expected:
        raise ValueError(f"the saved parameters {found} are not this policy's {expected}")


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
