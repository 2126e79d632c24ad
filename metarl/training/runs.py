"""From a config to its parts, and from a run folder to its trained agent."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

from metarl import envs
from metarl.algorithms import algorithm_class
from metarl.config import (
    config_to_dict,
    env_parameters,
    fingerprint,
    load_config,
    resolve_device,
)
from metarl.errors import EnvironmentFailure, UserError
from metarl.evaluation.protocol import BadAction, Evaluation, Split, evaluate, split_tasks
from metarl.evaluation.result import EvaluationResult
from metarl.evaluation.summary import summarize
from metarl.evaluation.task_sets import read_tasks, split_of
from metarl.experience.rollout import RolloutWorker
from metarl.random import Key
from metarl.references.measurement import measure_references
from metarl.references.per_task_results import Experience
from metarl.report.evaluation_report import ReportFiles, write_report
from metarl.report.training_plots import read_metrics
from metarl.storage.checkpoint import load_checkpoint
from metarl.tracking import metadata
from metarl.types import ActionMode, AdaptationAxis, Agent, Algorithm

if TYPE_CHECKING:
    import numpy as np

    from metarl.cli.user_agent import UserAgent
    from metarl.config import Config
    from metarl.config.fields import DeviceName

HEADLINE_MODE: dict[AdaptationAxis, ActionMode] = {
    "gradient_step": "stochastic",
    "episode": "deterministic",
}
"""The mode that is quoted, as in the papers: gradients need the noise, memories do not."""

LAST_FILE = "report.html"  # of a report: where it is, the others are


def make_worker(config: Config) -> RolloutWorker:
    """The rollout worker of a config's environment.

    Raises:
        UserError: the environment refuses its parameters.
    """

    def make_env(num_lanes: int) -> envs.TaskVectorEnv:
        try:
            return envs.make(
                config.env.name,
                num_lanes,
                num_threads=config.rollout.physics_threads,
                num_workers=config.rollout.workers,
                tasks=config.env.tasks,
                **env_parameters(config),
            )
        except (ValueError, TypeError) as error:
            raise UserError(f"env: {' '.join(str(error).split())}") from error

    return RolloutWorker(make_env)


def make_algorithm(config: Config, worker: RolloutWorker) -> Algorithm:
    """The untrained algorithm of a config, on its device.

    Raises:
        UserError: it cannot serve the environment's spaces.
    """
    env = worker.env(1)
    cls = algorithm_class(config.algorithm.name)
    try:
        return cls(
            config.algorithm,
            env.single_observation_space,
            env.single_action_space,
            config.seed,
            resolve_device(config.device),
        )
    except ValueError as error:
        raise UserError(f"{config.algorithm.name} on {config.env.name}: {error}.") from error


class Provenance(NamedTuple):
    """What an agent is, for the record: its name, training seeds, and checkpoint if it has one."""

    algorithm: str
    seeds: list[int]
    checkpoint: int | None


@dataclass
class TrainedRun:
    """A run that was loaded: its config, its algorithm at a checkpoint, its environments.

    Attributes:
        config: The run's whole config.
        algorithm: The algorithm as it was at the checkpoint.
        worker: Makes and keeps the environments; close it after use.
        iteration: Of the checkpoint.
        env_steps: That training had used by then.
    """

    config: Config
    algorithm: Algorithm
    worker: RolloutWorker
    iteration: int
    env_steps: int = 0

    @property
    def provenance(self) -> Provenance:
        """What results say of the agent."""
        return Provenance(self.config.algorithm.name, [self.config.seed], self.iteration)

    def command(self, run_dir: Path) -> list[str]:
        """The words of a command line that name this agent to evaluate.py."""
        return ["--run", str(run_dir), "--checkpoint", str(self.iteration)]

    def agent(self, mode: ActionMode = "stochastic", seed: int = 0) -> Agent:
        """The trained agent, to drive in a loop of your own."""
        return self.algorithm.agent(mode, Key(seed, evaluation=True))


def load_run(
    run_dir: Path | str,
    checkpoint: int | Literal["latest"] = "latest",
    device: DeviceName = "cpu",
) -> TrainedRun:
    """Load a trained run from its folder.

    Args:
        run_dir: A run folder, or one of ``results/``.
        checkpoint: An iteration, or the latest.
        device: Where adaptation steps run.

    Raises:
        UserError: the run is missing, damaged, or of another format or config.
    """
    run_dir = Path(run_dir)
    if not (run_dir / "config.yaml").is_file():
        raise UserError(f"{run_dir} is no run: it has no config.yaml.")
    # Where it lies now, which may not be where it was made.
    here = ["--device", device, "--run-dir", str(run_dir)]
    config = load_config(run_dir / "config.yaml", here)
    saved = load_checkpoint(run_dir, checkpoint, _without_device(fingerprint(config)))
    worker = make_worker(config)
    algorithm = make_algorithm(config, worker)
    restore(algorithm, saved.state["algorithm"], run_dir)
    return TrainedRun(config, algorithm, worker, saved.iteration, saved.manifest["env_steps"])


def is_evaluated(run_dir: Path, split: Split, iteration: int) -> bool:
    """Whether the run's own folder holds a whole report on this split, made at this iteration."""
    folder = run_dir / "evaluation" / split
    try:
        made_at = json.loads((folder / "evaluation.json").read_bytes())["checkpoint"]
    except (OSError, ValueError, TypeError, KeyError):
        return False
    return bool(made_at == iteration) and (folder / LAST_FILE).is_file()


def tasks_of(
    worker: RolloutWorker, split: Split, task_file: Path | None = None
) -> tuple[np.ndarray, str]:
    """The tasks of a split or of a file, and the name under which results may call them.

    Raises:
        UserError: the environment's distribution has no such split, or the file is wrong.
    """
    if task_file is not None:
        return read_tasks(task_file, worker.task_distribution), split_of(task_file)
    try:
        return split_tasks(worker.task_distribution, split)
    except ValueError as error:
        raise UserError(f"evaluation.split: {error}") from error


def restore(algorithm: Algorithm, state: dict[str, Any], run_dir: Path) -> None:
    """Load a algorithm's saved state.

    Raises:
        UserError: it is not a state of this algorithm.
    """
    try:
        algorithm.load_state_dict(state)
    except (KeyError, ValueError, TypeError, AttributeError, RuntimeError) as error:
        raise UserError(f"The checkpoint in {run_dir} does not fit its config: {error}.") from error


def measure(
    run: TrainedRun | UserAgent,
    *,
    split: Split,
    episodes: int,
    adaptation_steps: int,
    modes: tuple[ActionMode, ...],
    seed: int,
    task_file: Path | None = None,
    forget: bool = False,
    progress: Callable[[int, int], None] | None = None,
    references: Path | None = None,
) -> tuple[EvaluationResult, Evaluation]:
    """Evaluate an agent on a fixed set of tasks in one mode or two, beside its references.

    Args:
        run: The agent, and the environments to evaluate it in.
        split: The set of tasks.
        episodes: B, of each task before and after every adaptation step.
        adaptation_steps: K.
        modes: Which to measure; with both the headline is chosen as in the papers.
        seed: Of the evaluation.
        task_file: A user's own tasks, in place of the split.
        forget: Let the agent begin anew where it would adapt, see :func:`evaluate`.
        progress: Called with (rounds measured, rounds in all).
        references: Folder searched first for trained references; none is trained here.

    Returns:
        The result, and the measurements of its headline mode.

    Raises:
        UserError: the environment has no such split or refuses a task of the file, a user's agent
            fails, or a stored reference is damaged.
        EnvironmentFailure: the agent or the environment diverged, or the environment failed.
    """
    tasks, split_name = tasks_of(run.worker, split, task_file)
    env = run.worker.env(len(tasks) * episodes)
    rounds = len(modes) * (adaptation_steps + 1)
    measured: dict[ActionMode, Evaluation] = {}
    for mode in modes:
        before = len(measured) * (adaptation_steps + 1)
        try:
            measured[mode] = evaluate(
                run.agent(mode, seed),
                env,
                tasks,
                adaptation_steps=adaptation_steps,
                episodes=episodes,
                seed=seed,
                split=split_name,
                forget=forget,
                progress=lambda k, _, before=before: (  # type: ignore[misc]
                    progress(before + k, rounds) if progress else None
                ),
            )
        except (FloatingPointError, envs.SimulationFailure) as error:
            raise EnvironmentFailure(f"The evaluation failed. {error}") from error
        except BadAction as error:
            raise UserError(str(error)) from error
    axis = next(iter(measured.values())).adaptation_axis
    headline = measured.pop(HEADLINE_MODE[axis] if len(modes) > 1 else modes[0])
    env_config = config_to_dict(run.config)["env"]
    beside = measure_references(
        env,
        tasks,
        env_config,
        experience=Experience(
            split if task_file is None else split_name, axis, adaptation_steps, episodes, seed
        ),
        config=run.config.run_folder / "config.yaml",
        folder=references,
    )
    optimum = env.optimal_returns(tasks)
    result = summarize(
        headline,
        next(iter(measured.values()), None),
        algorithm=run.provenance.algorithm,
        env=run.config.env.name,
        env_config=env_config,
        seeds=run.provenance.seeds,
        checkpoint=run.provenance.checkpoint,
        references=beside.returns | ({} if optimum is None else {"optimum": optimum}),
        missing_references=beside.missing,
    )
    return result, headline


def report(
    run: TrainedRun | UserAgent,
    run_dir: Path,
    output: Path,
    result: EvaluationResult,
    evaluation: Evaluation,
    command: str,
) -> ReportFiles:
    """Write an evaluation and its report.

    Args:
        run: What was evaluated.
        run_dir: Its folder, whose training curve the report shows.
        output: Where to write.
        result: From :func:`measure`.
        evaluation: From :func:`measure`.
        command: What makes the evaluation again.

    Raises:
        UserError: the training curve cannot be read.
        EnvironmentFailure: the output folder cannot be written.
    """
    metrics = run_dir / "metrics.jsonl"
    versions = metadata(run.config.device, run.config.rollout.torch_threads, 0)["versions"]
    try:
        training = {run.config.name: read_metrics(metrics)} if metrics.is_file() else None
    except (OSError, ValueError) as error:
        raise UserError(f"{metrics} cannot be read: {error}.") from error
    try:
        (output / LAST_FILE).unlink(missing_ok=True)
        return write_report(
            output, result, evaluation, command=command, versions=versions, training=training
        )
    except OSError as error:
        raise EnvironmentFailure(
            f"The report cannot be written to {output}: {error.strerror or error}."
        ) from error


def _without_device(fields: dict[str, Any]) -> dict[str, Any]:
    """A checkpoint may be evaluated on another device, by another number of threads."""
    return {k: v for k, v in fields.items() if k not in ("device", "rollout.torch_threads")}
