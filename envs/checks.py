"""Checks of constructor parameters.

Each returns the value, or raises a ValueError: a sentence with the name, the value and the rule.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from numbers import Integral, Real
from typing import Any

import numpy as np
from numpy.typing import NDArray

MOST_THREADS = 1024
"""Threads or processes: where there are far more, systems fail in ways that nobody can catch."""


def integer(name: str, value: object, minimum: int, maximum: int | None = None) -> int:
    """An integer of at least `minimum` and, if given, at most `maximum`; a bool is none."""
    if isinstance(value, bool) or not isinstance(value, Integral) or value < minimum:
        raise ValueError(f"{name} is {value!r}: it must be an integer of at least {minimum}.")
    number = int(value)
    if maximum is not None and number > maximum:
        raise ValueError(f"{name} is {number}: it must be at most {maximum}.")
    return number


def number(
    name: str, value: object, *, above: float = -math.inf, at_most: float = math.inf
) -> float:
    """A finite number, optionally `above < value <= at_most`; a bool is none."""
    real = math.nan if isinstance(value, bool) or not isinstance(value, Real) else float(value)
    if not (math.isfinite(real) and above < real <= at_most):
        rules = [f" above {above:g}"] if above > -math.inf else []
        rules += [f" of at most {at_most:g}"] if at_most < math.inf else []
        raise ValueError(f"{name} is {value!r}: it must be a finite number{' and'.join(rules)}.")
    return real


def interval(low_name: str, low: object, high_name: str, high: object) -> tuple[float, float]:
    """Two finite numbers with low < high."""
    bounds = number(low_name, low), number(high_name, high)
    if bounds[0] >= bounds[1]:
        raise ValueError(
            f"{low_name} is {bounds[0]:g} and {high_name} is {bounds[1]:g}: "
            f"{low_name} must be below {high_name}."
        )
    return bounds


def choice(name: str, value: object, choices: Sequence[str]) -> str:
    """One of `choices`."""
    if value not in choices:
        raise ValueError(f"{name} is {value!r}: it must be one of {', '.join(choices)}.")
    return str(value)


def switch(name: str, value: object) -> bool:
    """True or False."""
    if not isinstance(value, bool):
        raise ValueError(f"{name} is {value!r}: it must be true or false.")
    return value


def task_option(options: Mapping[str, Any] | None) -> Any | None:
    """The task that the options of a single environment's reset name, if they do."""
    for name in options or {}:
        if name != "task":
            raise ValueError(f"reset was given the option {name!r}: only 'task' is known.")
    return (options or {}).get("task")


def reset_options(
    options: Mapping[str, Any] | None, lanes: int
) -> tuple[NDArray[np.bool_], Any | None]:
    """The mask [N] of lanes that the options of a reset ask for, all without one, and the tasks."""
    unknown = set(options or {}) - {"reset_mask", "task"}
    if unknown:
        raise ValueError(
            f"reset was given the option {sorted(map(str, unknown))[0]!r}: only 'reset_mask' and "
            "'task' are known."
        )
    mask = (options or {}).get("reset_mask")
    mask = np.ones(lanes, dtype=bool) if mask is None else np.asarray(mask)
    if mask.dtype != np.bool_ or mask.shape != (lanes,):
        raise ValueError(
            f"reset_mask is {mask.dtype} of the shape {list(mask.shape)}: "
            f"it must be bool of the shape [{lanes}]."
        )
    return mask, (options or {}).get("task")
