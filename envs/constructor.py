"""What an environment's constructor takes, from its signature and docstring."""

from __future__ import annotations

import inspect
import re
import typing
from collections.abc import Callable
from typing import Any, NamedTuple

from metarl.envs.vector import TaskVectorEnv

REQUIRED = inspect.Parameter.empty
"""The default of a constructor field that has none."""

# Parameters of a TaskVectorEnv that say how it runs and not which one it is.
_RUN_PARAMETERS = ("num_envs", "num_threads")


class ConstructorField(NamedTuple):
    """One parameter of an environment's constructor."""

    annotation: Any
    default: Any
    doc: str


def constructor_fields(maker: Callable[..., Any]) -> dict[str, ConstructorField]:
    """The parameters of what makes an environment, in order, from its signature and docstring.

    The descriptions are read from the `Args:` of the class's or the constructor's docstring. A
    parameter without a default has `REQUIRED` in its place.
    """
    function, parameters = _signature(maker)
    registered = getattr(maker, "kwargs", {})  # of an environment known to Gymnasium
    try:
        annotations = typing.get_type_hints(function)
    except (NameError, TypeError):  # a user's annotation that cannot be evaluated
        annotations = {}
    docs = _documented_args(getattr(maker, "creator", maker).__doc__) | _documented_args(
        function.__doc__
    )
    return {
        name: ConstructorField(
            annotations.get(name, Any),
            registered.get(name, parameter.default),
            docs.get(name, ""),
        )
        for name, parameter in parameters.items()
        if parameter.kind in (parameter.POSITIONAL_OR_KEYWORD, parameter.KEYWORD_ONLY)
        and not (is_batched(maker) and name in _RUN_PARAMETERS)
    }


def takes_any(maker: Callable[..., Any]) -> bool:
    """Whether it takes parameters that its signature does not name (`**kwargs`)."""
    _, parameters = _signature(maker)
    return any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters.values())


def is_batched(maker: Callable[..., Any]) -> bool:
    """Whether it is a TaskVectorEnv, which steps all its lanes itself."""
    return isinstance(maker, type) and issubclass(maker, TaskVectorEnv)


def _signature(maker: Callable[..., Any]) -> tuple[Any, dict[str, inspect.Parameter]]:
    """The function behind a class or a function, and its parameters without `self`."""
    maker = getattr(maker, "creator", maker)
    constructor = maker.__init__ if isinstance(maker, type) else maker  # type: ignore[misc]
    function = inspect.unwrap(constructor)
    parameters = dict(inspect.signature(function).parameters)
    if isinstance(maker, type):
        parameters.pop(next(iter(parameters), ""), None)
    return function, parameters


def _documented_args(docstring: str | None) -> dict[str, str]:
    """Name to description from the `Args:` section of a Google-style docstring."""
    section = re.search(r"^Args:\n(.*?)(?=^\S|\Z)", inspect.cleandoc(docstring or ""), re.M | re.S)
    entry = re.compile(r"^ {4}(\w+)(?: \([^)]*\))?:(.*?)(?=^ {4}\w|\Z)", re.M | re.S)
    entries = entry.findall(section[1]) if section else []
    return {name: " ".join(text.split()) for name, text in entries}
