"""An agent of a user's own while it acts: what it lacks and how it fails is told in a sentence."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, get_args

from metarl.envs.faults import in_words
from metarl.errors import UserError
from metarl.types import AdaptationAxis, Agent

METHODS = ("begin", "act", "observe", "adapt")
ATTRIBUTES = ("adaptation_axis", "mode", "privileged", "step_sizes")


class WatchedAgent:
    """A user's agent, a :class:`metarl.types.Agent`, whose failures are told in a sentence.

    All that is asked of it, and the mode that is set, is the agent's own; what goes wrong there
    names the method and the line.

    Args:
        agent: What the user's class has made.
        path: The import path of that class, for the sentences.

    Raises:
        UserError: it is no Agent; names all that it lacks. (Whatever is asked, its own failure.)
    """

    def __init__(self, agent: Any, path: str) -> None:
        _check_is_agent(agent, path)
        vars(self).update(_agent=agent, _path=path)

    def __getattr__(self, name: str) -> Any:
        value = self._watch(name, lambda: getattr(self._agent, name))
        if not callable(value):
            return value
        return lambda *args: self._watch(f"{name}()", lambda: value(*args))

    def __setattr__(self, name: str, value: Any) -> None:
        self._watch(name, lambda: setattr(self._agent, name, value))

    def _watch(self, what: str, call: Callable[[], Any]) -> Any:
        try:
            return call()
        except Exception as error:  # a user's code can fail in any way
            reason = in_words(error, self._agent, what.removesuffix("()"))
            raise UserError(f"The agent {self._path!r} failed in {what}: {reason}.") from error


def _check_is_agent(agent: Any, path: str) -> None:
    """Refuse what lacks a part of the protocol.

    A class that inherits from the protocol has its methods, but empty ones: they are missing too.
    """
    own = type(agent)
    missing = [f"the method {name}" for name in METHODS if not _has_method(own, name)]
    missing += [f"the attribute {name}" for name in ATTRIBUTES if not hasattr(agent, name)]
    if missing:
        raise UserError(
            f"The agent {path!r} is no Agent, it lacks {', '.join(missing)}: see "
            "metarl.types.Agent for what each is."
        )
    if agent.adaptation_axis not in get_args(AdaptationAxis):
        axes = " or ".join(map(repr, get_args(AdaptationAxis)))
        raise UserError(
            f"The agent {path!r} has the adaptation_axis {agent.adaptation_axis!r}: it must be "
            f"{axes}."
        )


def _has_method(cls: type, name: str) -> bool:
    method = getattr(cls, name, None)
    return callable(method) and method is not getattr(Agent, name)
