"""A learned objective in an environment of another config, where it was never trained."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from metarl.algorithms.metagenrl import MetaGenRL
from metarl.config.fields import Backend, LocalBackend
from metarl.config.loading import config_to_dict, load_config, resolve
from metarl.config.trust import NOTHING, Trust, trusting
from metarl.envs.importing import run_folder_of
from metarl.errors import UserError, message_of
from metarl.random import Key
from metarl.references.trained_anew import recipe_in
from metarl.runs.build import make_worker
from metarl.runs.trained_run import TrainedRun, load_run
from metarl.storage.places import find_config

if TYPE_CHECKING:
    from metarl.config.fields import DeviceName
    from metarl.types import ActionMode, Agent


@dataclass
class Elsewhere(TrainedRun):
    """A trained run of MetaGenRL whose objective trains policies in another config's environment.

    Attributes:
        home: The run's folder.
        config_path: The other config, by file or by name, of which ``config`` is read.
    """

    home: Path = Path()
    config_path: str = ""

    @property
    def folder(self) -> Path:
        """Where its evaluations go: in the run, under the other config's name."""
        return self.home / "elsewhere" / self.config.name

    def arguments(self) -> list[str]:
        """The arguments of `metarl evaluate` that name this agent."""
        name, *trusted = self.config_words()
        words = [str(self.home), "--checkpoint", str(self.iteration), "--config", name]
        return words + trusted

    def config_words(self) -> list[str]:
        """The words of a command line that name the config with its environment."""
        in_run = run_folder_of(find_config(self.config_path))
        return [self.config_path, *(trusting(config_to_dict(self.config)) if in_run else [])]

    def agent(self, mode: ActionMode = "stochastic", seed: int = 0) -> Agent:
        """A fresh policy that learns as the other config says, by the run's objective."""
        assert isinstance(self.algorithm, MetaGenRL)
        key, recipe = Key(seed, evaluation=True), recipe_in(self.config.algorithm)
        return self.algorithm.agent(mode, key, self.worker.spaces, recipe)


def load_elsewhere(
    run_dir: str | Path,
    config_path: str | Path,
    checkpoint: int | Literal["latest"] = "latest",
    device: DeviceName = "cpu",
    trust: Trust = NOTHING,
    backend: Backend | None = None,
) -> Elsewhere:
    """A run's objective in the environment of another config.

    Args:
        run_dir: Of a run of metagenrl.
        config_path: A config of metagenrl, by file or by name: its environment and how policies
            learn in it.
        checkpoint: Of the run.
        device: Where updates run.
        trust: Which code the configs may name.
        backend: Where episodes are played; None: here.

    Raises:
        UserError: either is no such thing, or the environment's actions are no numbers.
    """
    other = resolve(load_config(find_config(config_path), ["--device", device], trust))
    other = other.played_by(backend or LocalBackend())
    if other.algorithm.name != "metagenrl":
        raise UserError(
            f"--config {config_path} is of {other.algorithm.name}: it says how fresh policies "
            "learn, so its algorithm must be metagenrl."
        )
    run = load_run(run_dir, checkpoint, device, trust_code=trust.everything)
    run.worker.close()
    if not isinstance(run.algorithm, MetaGenRL):
        raise UserError(
            "--config goes with --agent module:Class; a run has its own config, but for one of "
            f"metagenrl, and {run_dir} is of {run.config.algorithm.name}."
        )
    steps, worker = run.env_steps, make_worker(other)
    found = Elsewhere(
        other, run.algorithm, worker, run.iteration, steps, run.folder, str(config_path)
    )
    try:
        found.agent()
    except ValueError as error:
        worker.close()
        raise UserError(f"metagenrl on {other.env.name}: {message_of(error)}.") from error
    return found
