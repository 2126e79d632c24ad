"""Checks of constructor parameters.

Each returns the value, or raises a ValueError: a sentence with the name, the value and the rule.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from numbers import Integral, Real


def integer(name: str, value: object, minimum: int) -> int:
    """An integer of at least `minimum`; a bool is none."""
    if isinstance(value, bool) or not isinstance(value, Integral) or value < minimum:
        raise ValueError(f"{name} is {value!r}: it must be an integer of at least {minimum}.")
    return int(value)


def number(
    name: str, value: object, *, above: float | None = None, at_most: float | None = None
) -> float:
    """A finite number, optionally `above < value <= at_most`; a bool is none."""
    rule = "a finite number"
    if above is not None:
        rule += f" above {above:g}"
    if at_most is not None:
        rule += f"{' and' if above is not None else ''} of at most {at_most:g}"
    real = math.nan if isinstance(value, bool) or not isinstance(value, Real) else float(value)
    if (
        not math.isfinite(real)
        or (above is not None and real <= above)
        or (at_most is not None and real > at_most)
    ):
        raise ValueError(f"{name} is {value!r}: it must be {rule}.")
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
