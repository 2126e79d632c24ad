"""Nested dicts of tensors and plain values as bytes, safe to read from a stranger."""

from __future__ import annotations

import io
import warnings
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch

from metarl.errors import UserError


def plain_state(value: Any, key: str = "state") -> Any:
    """A copy of tensors and builtins that ``torch.load(weights_only=True)`` takes back.

    Tensors are detached and copied to the CPU; NumPy scalars become builtins.

    Raises:
        TypeError: Anything else, NumPy arrays too; names its place, e.g. ``state['policy']['w']``.
    """
    if isinstance(value, torch.Tensor):
        # A copy, since of a view the whole storage behind it would be saved.
        return value.detach().to("cpu", copy=True)
    if isinstance(value, np.generic):  # before float: np.float64 is one
        return plain_state(value.item(), key)
    if isinstance(value, Mapping):
        for name in value:
            if type(name) not in (str, int):
                raise TypeError(f"{key} has the key {name!r}; a checkpoint's keys are str or int.")
        return {name: plain_state(child, f"{key}[{name!r}]") for name, child in value.items()}
    if isinstance(value, list | tuple):
        items = [plain_state(child, f"{key}[{i}]") for i, child in enumerate(value)]
        return items if isinstance(value, list) else tuple(items)
    if value is None or type(value) in (bool, int, float, str, bytes):
        return value
    hint = "; use torch.from_numpy" if isinstance(value, np.ndarray) else ""
    raise TypeError(f"{key} is a {type(value).__name__}, which a checkpoint cannot hold{hint}.")


def write_plain(state: Mapping[str, Any]) -> bytes:
    """A nested dict of tensors and builtins as bytes; TypeError as in :func:`plain_state`."""
    buffer = io.BytesIO()
    torch.save(plain_state(state), buffer)
    return buffer.getvalue()


def read_plain(data: bytes, name: str) -> dict[str, Any]:
    """What :func:`write_plain` wrote, tensors on the CPU; nothing in it is ever executed.

    Args:
        data: The bytes of the file: those that were hashed, where it has a hash.
        name: What they are, for the error's sentence.

    Raises:
        UserError: They hold anything but a dict of tensors and plain values.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # torch's advice to set weights_only=False
            state = torch.load(io.BytesIO(data), map_location="cpu", weights_only=True)
    except Exception as error:  # pickle, zip and torch each have their own
        raise UserError(
            f"The {name} is refused: its state holds something other than tensors and "
            f"plain values ({type(error).__name__}), and nothing in it was executed."
        ) from None
    if not isinstance(state, dict):
        raise UserError(
            f"The {name} is refused: its state is a {type(state).__name__}, not a dict."
        )
    return state
