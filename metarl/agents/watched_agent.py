"""An agent of a user's own while it acts: what it lacks and how it fails is told in a sentence."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any, get_args

import numpy as np

from metarl.envs.faults import defined, in_words, value_in_words
from metarl.errors import UserError, one_line
from metarl.types import AdaptationAxis, Agent

METHODS = ("begin", "act", "observe", "adapt")
ATTRIBUTES = ("adaptation_axis", "mode", "privileged", "step_sizes")


class WatchedAgent:
    """A user's agent, a :class:`metarl.types.Agent`, whose failures are told in a sentence.

    All that is asked of it, and the mode that is set, is the agent's own; what goes wrong there
    names the method and the line, as does what it returns and is no array.

    Args:
        agent: What the user's class has made.
        path: The import path of that class, for the sentences.

    Raises:
        UserError: it is no Agent; names all that it lacks. (Whatever is asked, its own failure.)
    """

    def __init__(self, agent: Any, path: str) -> None:
        _check_is_agent(agent, path)
        vars(self).update(_agent=agent, _path=path)

    def __reduce__(self) -> Any:
        return WatchedAgent, (self._agent, self._path)

    def __getattr__(self, name: str) -> Any:
        value = self._watch(name, lambda: getattr(self._agent, name))
        if name == "step_sizes":
            return _step_sizes(value, self._path)
        if not callable(value):
            return value
        return lambda *args: self._watch(f"{name}()", lambda: value(*args))

    def __setattr__(self, name: str, value: Any) -> None:
        self._watch(name, lambda: setattr(self._agent, name, value))
        if name == "mode" and self.mode != value:
            kept = one_line(repr(self.mode))
            raise UserError(
                f"The agent {self._path!r} has the mode {kept} after {value!r} was set: it must be "
                "what was set."
            )

    def act(self, *args: Any) -> np.ndarray:
        """The agent's actions, as an array."""
        actions = self._watch("act()", lambda: self._agent.act(*args))
        try:
            return np.asarray(actions)
        except Exception as error:  # ragged lists; tensors with a gradient, or on a GPU
            advice = ""
            if hasattr(actions, "detach"):
                advice = ", such as actions.detach().cpu().numpy()"
            raise UserError(
                f"{defined(self._agent, 'act')} returned {value_in_words(actions)}: it must be an "
                f"array of numbers [tasks, lanes, action]{advice}."
            ) from error

    def _watch(self, what: str, call: Callable[[], Any]) -> Any:
        try:
            return call()
        except (Exception, SystemExit) as error:  # a user's code can fail in any way
            method = what.removesuffix("()") if what.endswith("()") else ""
            reason = in_words(error, self._agent, method)
            raise UserError(f"The agent {self._path!r} failed in {what}: {reason}.") from error


def _check_is_agent(agent: Any, path: str) -> None:
    """Refuse what lacks a part of the protocol.

    A class that inherits from the protocol has its methods, but empty ones: they are missing too.
    """
    own = type(agent)
    missing = [f"the method {name}" for name in METHODS if not _has_method(own, name)]
    values = {}
    for name in ATTRIBUTES:
        try:
            values[name] = getattr(agent, name)
        except AttributeError:
            missing.append(f"the attribute {name}")
        except (Exception, SystemExit) as error:  # a property of the user's
            reason = in_words(error)
            raise UserError(f"The agent {path!r} failed in {name}: {reason}.") from error
    if missing:
        raise UserError(
            f"The agent {path!r} is no Agent, it lacks {', '.join(missing)}: see "
            "metarl.types.Agent for what each is."
        )
    axes = get_args(AdaptationAxis)
    if values["adaptation_axis"] not in axes:
        raise _wrong(path, "adaptation_axis", values, " or ".join(map(repr, axes)))
    if not isinstance(values["privileged"], bool | np.bool_):
        raise _wrong(path, "privileged", values, "True or False")
    _step_sizes(values["step_sizes"], path)


def _step_sizes(value: Any, path: str) -> list[float]:
    """The agent's step sizes, as a list."""
    try:
        sizes = [float(size) for size in value]
    except Exception:  # None, a number, words, tensors
        sizes = [math.nan]
    if isinstance(value, str) or not all(map(math.isfinite, sizes)):
        must = "a list of numbers, [] where there are none"
        raise _wrong(path, "step_sizes", {"step_sizes": value}, must)
    return sizes


def _wrong(path: str, name: str, values: Mapping[str, Any], must: str) -> UserError:
    given = one_line(repr(values[name]))
    return UserError(f"The agent {path!r} has the {name} {given}: it must be {must}.")


def _has_method(cls: type, name: str) -> bool:
    method = getattr(cls, name, None)
    return callable(method) and method is not getattr(Agent, name)
