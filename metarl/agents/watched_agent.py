"""An agent of a user's own while it acts: what it lacks and how it fails is told in a sentence."""

from __future__ import annotations

import inspect
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any, get_args

import numpy as np

from metarl.errors import UserError
from metarl.types import ActionMode, AdaptationAxis, Agent

METHODS = ("begin", "act", "observe", "adapt")
ATTRIBUTES = ("adaptation_axis", "mode", "privileged", "step_sizes")


class WatchedAgent:
    """A user's agent whose failures are told in a sentence that names its method and line.

    Args:
        agent: What the user's class has made.
        path: The import path of that class, for the sentences.

    Raises:
        UserError: it is no Agent; names all that it lacks. (Any method, the agent's own failure.)
    """

    def __init__(self, agent: Any, path: str) -> None:
        _check_is_agent(agent, path)
        self._agent = agent
        self._path = path
        self.adaptation_axis: AdaptationAxis = agent.adaptation_axis
        self.privileged = bool(agent.privileged)

    @property
    def step_sizes(self) -> list[float]:
        """The agent's own, like the mode."""
        return [float(size) for size in self._watch("step_sizes", lambda: self._agent.step_sizes)]

    @property
    def mode(self) -> ActionMode:
        """How actions are chosen."""
        mode: ActionMode = self._agent.mode
        return mode

    @mode.setter
    def mode(self, mode: ActionMode) -> None:
        self._watch("mode", lambda: setattr(self._agent, "mode", mode))

    def begin(self, num_tasks: int, lanes: int, tasks: np.ndarray | None = None) -> None:
        """See :class:`metarl.types.Agent`, like all that follow."""
        self._watch("begin()", lambda: self._agent.begin(num_tasks, lanes, tasks))

    def act(self, observation: np.ndarray, active: np.ndarray) -> np.ndarray:
        """The agent's actions, as an array whatever it returns."""
        return np.asarray(self._watch("act()", lambda: self._agent.act(observation, active)))

    def observe(
        self,
        action: np.ndarray,
        reward: np.ndarray,
        terminated: np.ndarray,
        truncated: np.ndarray,
        next_observation: np.ndarray,
    ) -> None:
        """Passed on."""
        outcome = (action, reward, terminated, truncated, next_observation)
        self._watch("observe()", lambda: self._agent.observe(*outcome))

    def adapt(self) -> None:
        """Passed on."""
        self._watch("adapt()", lambda: self._agent.adapt())

    def _watch(self, what: str, call: Callable[[], Any]) -> Any:
        try:
            return call()
        except Exception as error:  # a user's code can fail in any way
            reason = cause(error, type(self._agent))
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


def cause(error: Exception, cls: type) -> str:
    """An error in words, with the last line of the class's own file that led to it."""
    words = " ".join(f"{type(error).__name__}: {error}".split()).rstrip(".: ")
    try:
        own_file = inspect.getfile(cls)
    except (TypeError, OSError):
        return words
    lines = [f for f in traceback.extract_tb(error.__traceback__) if f.filename == own_file]
    return f"{words} ({Path(own_file).name}, line {lines[-1].lineno})" if lines else words
