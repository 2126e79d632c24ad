"""An agent of a user's own under evaluation: a class, and the environments of a config."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from metarl.agents.watched_agent import WatchedAgent
from metarl.config.fields import LocalBackend
from metarl.config.loading import config_to_dict, load_config, resolve
from metarl.config.trust import NOTHING, Trust, trusting
from metarl.envs.faults import in_words
from metarl.envs.importing import import_class, run_folder_of
from metarl.errors import UserError
from metarl.evaluation.result import Provenance
from metarl.runs.build import make_worker
from metarl.storage.places import find_config
from metarl.types import ActionMode, Agent

if TYPE_CHECKING:
    from metarl.config.fields import Backend, Config, DeviceName
    from metarl.runs.build import Source


@dataclass
class UserAgent:
    """A user's agent with the environments that a config gives it; what a trained run is else.

    Attributes:
        path: "module:Class", a :class:`metarl.types.Agent` that is built as
            ``Class(observation_space, action_space, seed)``.
        cls: The class.
        config_path: The config, by file or by name.
        config: The config; what it says of an algorithm and of training is not used.
        worker: Makes and keeps the environments; close it after use.
    """

    path: str
    cls: type
    config_path: str
    config: Config
    worker: Source
    env_steps: int = 0

    @property
    def folder(self) -> Path:
        """Where its evaluations go, beside the runs."""
        path = re.sub(r"[^\w.]", "_", self.path.replace(":", "."))  # a function's: f.<locals>.Agent
        name = f"{path}_on_{self.config.name}"
        return self.config.run_folder.parent / name

    @property
    def provenance(self) -> Provenance:
        """What results say of the agent."""
        note = " (told the task)" if self.agent().privileged else ""
        return Provenance(f"{self.path}{note}", [], None)

    def arguments(self) -> list[str]:
        """The arguments of `metarl evaluate` that name this agent."""
        name, *trusted = self.config_words()
        return ["--config", name, "--agent", self.path, *trusted]

    def config_words(self) -> list[str]:
        """The words of a command line that name the config."""
        in_run = run_folder_of(find_config(self.config_path))
        return [self.config_path, *(trusting(config_to_dict(self.config)) if in_run else [])]

    def agent(self, mode: ActionMode = "stochastic", seed: int = 0) -> Agent:
        """A fresh agent.

        Raises:
            UserError: it cannot be built, or is no Agent; says what is missing.
        """
        env = self.worker.env(1)
        try:
            agent = self.cls(env.single_observation_space, env.single_action_space, seed)
        except (Exception, SystemExit) as error:  # a user's class can fail in any way
            raise UserError(
                f"The agent {self.path!r} cannot be built as "
                f"{self.cls.__name__}(observation_space, action_space, seed): "
                f"{in_words(error, self.cls, '__init__')}."
            ) from error
        watched: Any = WatchedAgent(agent, self.path)
        watched.mode = mode
        return cast(Agent, watched)


def load_agent(
    agent: str | type,
    config_path: str | Path,
    device: DeviceName = "auto",
    trust: Trust = NOTHING,
    backend: Backend | None = None,
) -> UserAgent:
    """A user's agent in the environments of a config.

    Args:
        agent: The class, or its import path "module:Class"; the working directory is searched too.
        config_path: A config's file or name, whose environment and evaluation settings count.
        device: For the record.
        trust: Which code the config may name if it lies in a run folder.
        backend: Where episodes are played; None: here, whatever the config says.

    Raises:
        UserError: the class cannot be imported or is no Agent, or the config is wrong.
    """
    config = resolve(load_config(find_config(config_path), ["--device", device], trust))
    config = config.played_by(backend or LocalBackend())
    try:
        cls = import_class("agent", agent, ()) if isinstance(agent, str) else agent
    except ValueError as error:
        raise UserError(str(error)) from error
    path = agent if isinstance(agent, str) else f"{cls.__module__}:{cls.__qualname__}"
    subject = UserAgent(path, cls, str(config_path), config, make_worker(config))
    try:
        subject.agent()  # better refused now than after an environment of all lanes is made
    except UserError:
        subject.worker.close()
        raise
    return subject
