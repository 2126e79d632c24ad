"""A device that there is none of: numbers of the CPU, told apart as a GPU's are.

What runs on it gives the CPU's results to the bit. What mixes its tensors with the CPU's, or asks
them for a NumPy array, fails as it does on a GPU; so it shows where an update leaves its device.
It says nothing of a GPU's own kernels: not of their rounding, their speed or what they lack.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

THERE = torch.device("lazy")
_aten = torch.ops.aten
_FROM_ANYWHERE = {_aten.copy_.default, _aten.index.Tensor, _aten.index_put_.default}
"""Operations that take values, or indices, of the CPU too."""


class _There(torch.Tensor):
    """A tensor of that device, around one of the CPU."""

    inner: Tensor

    @staticmethod
    def __new__(cls, inner: Tensor) -> _There:
        made = torch.Tensor._make_wrapper_subclass(
            cls,
            inner.shape,
            strides=inner.stride(),
            storage_offset=inner.storage_offset(),
            dtype=inner.dtype,
            device=THERE,
        )
        made.inner = inner
        return made

    def tolist(self) -> Any:
        return self.inner.tolist()

    @classmethod
    def __torch_dispatch__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        raise AssertionError(f"{func} outside of OtherDevice()")


class OtherDevice(TorchDispatchMode):
    """Within, there is the device :data:`THERE`.

    Attributes:
        calls: Operations that ran on it.
    """

    def __init__(self) -> None:
        super().__init__()
        self.calls = 0

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        return False  # nothing is compiled here, and its import takes seconds

    def __enter__(self) -> OtherDevice:
        torch._C._set_only_lift_cpu_tensors(True)  # so that torch.tensor(..., device=) comes by
        entered: OtherDevice = super().__enter__()
        return entered

    def __exit__(self, *error: Any) -> None:
        torch._C._set_only_lift_cpu_tensors(False)
        super().__exit__(*error)

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = dict(kwargs or {})
        tensors = [*_tensors(args), *_tensors(kwargs.values())]
        there = [x for x in tensors if isinstance(x, _There)]
        here = [x for x in tensors if not isinstance(x, _There) and x.dim() > 0]
        if there and here and func not in _FROM_ANYWHERE:
            raise RuntimeError(f"{func}: tensors on two devices, {THERE} and cpu")
        given = kwargs.get("device")
        if given is not None:
            kwargs["device"] = torch.device("cpu")
        arrives = bool(there) if given is None else torch.device(given).type == THERE.type
        self.calls += arrives
        result = func(*_inner(args), **{name: _inner(x) for name, x in kwargs.items()})
        if func._schema.is_mutable:
            return args[0]
        return _outer(result) if arrives else result


def _tensors(values: Iterable[Any]) -> Iterator[Tensor]:
    for x in values:
        if isinstance(x, Tensor):
            yield x
        elif isinstance(x, list | tuple):
            yield from _tensors(x)


def _inner(x: Any) -> Any:
    if isinstance(x, list | tuple):
        return type(x)(map(_inner, x))
    return x.inner if isinstance(x, _There) else x


def _outer(x: Any) -> Any:
    if isinstance(x, list | tuple):
        return type(x)(map(_outer, x))
    return _There(x) if isinstance(x, Tensor) else x
