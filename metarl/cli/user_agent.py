"""An agent of a user's own under evaluation: found by import path, and watched while it acts."""

from __future__ import annotations

import inspect
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args

import numpy as np

from metarl.config.loading import load_config, resolve
from metarl.envs.registry import import_class
from metarl.errors import UserError
from metarl.training.runs import Provenance, make_worker
from metarl.types import ActionMode, AdaptationAxis, Agent

if TYPE_CHECKING:
    from metarl.config import Config
    from metarl.config.fields import DeviceName
    from metarl.experience.rollout import RolloutWorker

METHODS = ("begin", "act", "observe", "adapt")
ATTRIBUTES = ("adaptation_axis", "mode", "privileged", "step_sizes")


@dataclass
class UserAgent:
    """A user's agent with the environments that a config gives it; what a trained run is else.

    Attributes:
        path: "module:Class", a :class:`metarl.types.Agent` that is built as
            ``Class(observation_space, action_space, seed)``.
        cls: The class.
        config_path: The config file.
        config: The config; what it says of an algorithm and of training is not used.
        worker: Makes and keeps the environments; close it after use.
    """

    path: str
    cls: type
    config_path: str
    config: Config
    worker: RolloutWorker
    env_steps: int = 0

    @property
    def folder(self) -> Path:
        """Where its evaluations go, beside the runs."""
        name = f"{self.path.replace(':', '.')}_on_{self.config.name}"
        return self.config.run_folder.parent / name

    @property
    def provenance(self) -> Provenance:
        """What results say of the agent."""
        told = " (told the task)" if self.agent().privileged else ""
        return Provenance(f"{self.path}{told}", [], None)

    def command(self, run_dir: Path) -> list[str]:
        """The words of a command line that name this agent to evaluate.py."""
        return ["--config", self.config_path, "--agent", self.path]

    def agent(self, mode: ActionMode = "stochastic", seed: int = 0) -> Agent:
        """A fresh agent.

        Raises:
            UserError: it cannot be built, or is no Agent; says what is missing.
        """
        env = self.worker.env(1)
        try:
            agent = self.cls(env.single_observation_space, env.single_action_space, seed)
        except Exception as error:  # a user's class can fail in any way
            raise UserError(
                f"The agent {self.path!r} cannot be built as "
                f"{self.cls.__name__}(observation_space, action_space, seed): "
                f"{_cause(error, self.cls)}."
            ) from error
        _check_is_agent(agent, self.path)
        watched = WatchedAgent(agent, self.path)
        watched.mode = mode
        return watched


def load_agent(path: str | None, config_path: str | None, device: DeviceName) -> UserAgent | None:
    """The user's agent at an import path, None for None.

    Args:
        path: "module:Class"; the working directory is searched too.
        config_path: A config file, whose environment and evaluation settings count.
        device: For the record.

    Raises:
        UserError: the class cannot be imported or is no Agent, or the config is wrong.
    """
    if path is None or config_path is None:
        return None
    config = resolve(load_config(Path(config_path), ["--device", device]))
    try:
        cls = import_class("agent", path, ())
    except ValueError as error:
        raise UserError(str(error)) from error
    agent = UserAgent(path, cls, config_path, config, make_worker(config))
    try:
        agent.agent()  # better refused now than after an environment of all lanes is made
    except UserError:
        agent.worker.close()
        raise
    return agent


class WatchedAgent:
    """A user's agent whose failures are told in a sentence that names its method and line."""

    def __init__(self, agent: Any, path: str) -> None:
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
            cause = _cause(error, type(self._agent))
            raise UserError(f"The agent {self._path!r} failed in {what}: {cause}.") from error


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


def _cause(error: Exception, cls: type) -> str:
    """An error in words, with the last line of the agent's own file that led to it."""
    words = " ".join(f"{type(error).__name__}: {error}".split()).rstrip(".: ")
    try:
        own_file = inspect.getfile(cls)
    except (TypeError, OSError):
        return words
    lines = [f for f in traceback.extract_tb(error.__traceback__) if f.filename == own_file]
    return f"{words} ({Path(own_file).name}, line {lines[-1].lineno})" if lines else words
