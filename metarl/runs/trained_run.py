"""From a run folder to its trained agent."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from metarl.config.fields import LocalBackend
from metarl.config.loading import changes, config_to_dict
from metarl.config.trust import Trust, trusting
from metarl.config.validation import Option
from metarl.errors import UserError
from metarl.evaluation.result import Provenance
from metarl.random import Key
from metarl.report.notebook import training_arrays, training_html
from metarl.report.training_plots import Lines
from metarl.runs.build import make_algorithm, make_worker, restore
from metarl.runs.run_config import load_run_config
from metarl.storage.checkpoint import load_checkpoint
from metarl.storage.json_lines import read_json_lines

if TYPE_CHECKING:
    import numpy as np

    from metarl.config.fields import Backend, Config, DeviceName
    from metarl.runs.build import Source
    from metarl.types import ActionMode, Agent, Algorithm


@dataclass
class TrainedRun:
    """A run that was loaded: its config, its algorithm at a checkpoint, its environments.

    Attributes:
        config: The run's whole config.
        algorithm: The algorithm as it was at the checkpoint.
        worker: Makes and keeps the environments, or draws examples; close it after use.
        iteration: Of the checkpoint.
        env_steps: That training had used by then.
    """

    config: Config
    algorithm: Algorithm
    worker: Source
    iteration: int
    env_steps: int = 0

    @property
    def folder(self) -> Path:
        """The run folder."""
        return self.config.run_folder

    @property
    def provenance(self) -> Provenance:
        """What results say of the agent."""
        return Provenance(self.config.algorithm.name, [self.config.seed], self.iteration)

    def arguments(self) -> list[str]:
        """The arguments of `metarl evaluate` that name this agent."""
        words = [str(self.folder), "--checkpoint", str(self.iteration)]
        data = getattr(self.config.env, "data", None) if self.worker.gives == "examples" else None
        words += [] if data is None else ["--data", str(data)]
        return words + trusting(config_to_dict(self.config))

    def config_words(self) -> list[str]:
        """The words of a command line that name the config with its environment."""
        return [str(self.folder / "config.yaml"), *trusting(config_to_dict(self.config))]

    @property
    def metrics(self) -> dict[str, np.ndarray]:
        """What was recorded of every meta-iteration, e.g. ``env_steps``, ``return/step_0``.

        Raises:
            UserError: `metrics.jsonl` cannot be read.
        """
        return training_arrays(training_lines(self.folder))

    def _repr_html_(self) -> str:
        config = self.config
        facts: dict[str, object] = {
            "algorithm": config.algorithm.name,
            "environment": config.env_names,
        }
        facts |= {"iterations": self.iteration, "trained on": self.experience, "in": self.folder}
        return training_html(config.name, facts, training_lines(self.folder))

    def agent(self, mode: ActionMode = "stochastic", seed: int = 0) -> Agent:
        """The trained agent, to drive in a loop of your own."""
        return self.algorithm.agent(mode, Key(seed, evaluation=True))

    @property
    def experience(self) -> str:
        """How much it was trained on, e.g. "5000 env steps"."""
        return f"{self.env_steps} {'env steps' if self.worker.gives == 'episodes' else 'examples'}"

    def untrained(self, seed: int = 0) -> Any:
        """The agent as it was before its training."""
        fresh = make_algorithm(self.config, self.worker)
        return fresh.agent("deterministic", Key(seed, evaluation=True))

    learner = agent  # the name it had before; goes with the next release


def load_run(
    run_dir: Path | str,
    checkpoint: int | Literal["latest"] = "latest",
    device: DeviceName = "cpu",
    *,
    trust_code: bool = False,
    data: str | Path | None = None,
    backend: Backend | None = None,
) -> TrainedRun:
    """Load a trained run from its folder.

    Args:
        run_dir: A run folder, or one of ``results/``.
        checkpoint: An iteration, or the latest.
        device: Where adaptation steps run.
        trust_code: Import what the run's config names besides the parts of metarl, such as an
            environment of one's own; from anywhere but a run folder.
        data: Where the data of few-shot tasks lie here; None: where they lay.
        backend: Where episodes are played; None: here, wherever it was trained.

    Raises:
        UserError: the run is missing, damaged, or of another format or config; or its config names
            code that is not trusted.
    """
    run_dir = Path(os.path.expanduser(run_dir))
    # Where it lies now, which may not be where it was made.
    here = [Option("device", device), Option("run_dir", str(run_dir))]
    here += [] if data is None else [Option("env.data", str(data))]
    config = load_run_config(run_dir, Trust(trust_code), here, checkpoint)
    # A checkpoint may be evaluated on another device, by another number of threads.
    machine = {"device": device, "rollout.torch_threads": config.rollout.torch_threads}
    saved = load_checkpoint(run_dir, checkpoint, lambda made: changes({**made, **machine}, config))
    config = config.played_by(backend or LocalBackend())
    worker = make_worker(config)
    algorithm = make_algorithm(config, worker)
    restore(algorithm, saved.state, config, worker)
    return TrainedRun(config, algorithm, worker, saved.iteration, saved.manifest["env_steps"])


def training_lines(run_dir: Path) -> Lines:
    """The lines of a run's `metrics.jsonl`, none where it has none.

    Raises:
        UserError: they cannot be read.
    """
    metrics = run_dir / "metrics.jsonl"
    try:
        return read_json_lines(metrics) if metrics.is_file() else []
    except (OSError, ValueError) as error:
        raise UserError(f"{metrics} cannot be read: {error}.") from error
