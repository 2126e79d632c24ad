"""The Python door: train, evaluate, compare and load without a command line and without exits.

All of it is in reach as ``metarl.train(...)`` and so on. A wrong value raises
:class:`metarl.errors.UserError`, what fails underneath :class:`metarl.errors.EnvironmentFailure`,
each with the sentence that the command line would print.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from metarl.envs.importing import outside_run_folders
from metarl.process import any_letters

if TYPE_CHECKING:
    import gymnasium

    from metarl.config.fields import DeviceName, SplitName
    from metarl.envs.trial import TrialEnv
    from metarl.envs.vector import TaskVectorEnv
    from metarl.measuring.evaluating import Subject
    from metarl.measuring.options import EvaluationOptions
    from metarl.report.notebook import ShownComparison, ShownEvaluation
    from metarl.runs.learned_objective import LearnedObjective
    from metarl.runs.trained_run import TrainedRun

Checkpoint = int | Literal["latest"]
Mode = Literal["stochastic", "deterministic", "both"]


@outside_run_folders()
@any_letters()
def train(
    config: str | Path | Mapping[str, Any] = "quickstart",
    *,
    trust_code: bool = False,
    init_from: str | Path | None = None,
    **fields: Any,
) -> TrainedRun:
    """Meta-train, with the run folder and the files that `metarl train` makes.

    Args:
        config: The name of a config that comes with metarl, a YAML file, or the fields themselves.
        trust_code: Import what a config that lies in a run folder names besides the parts of
            metarl; what any other config names, and the fields, you have named yourself.
        init_from: A run whose parameters and normalisers this one begins with; the optimiser begins
            anew.
        **fields: Fields that win over the config's, as sections ``env={"horizon": 50}`` or dotted
            ``**{"env.horizon": 50}``. A section with another ``name`` takes the place of the
            config's. ``env=MyEnv`` or ``env={"name": MyEnv}`` trains on a class, also one of a
            notebook; ``algorithm=MyAlgorithm`` likewise.

    Returns:
        The trained run; ``run.agent()`` is the agent, ``run.metrics`` the training in numbers.

    Raises:
        UserError: the config is wrong, or the run folder holds a run.
        EnvironmentFailure: the training diverged, the environment failed, or nothing can be
            written.
        KeyboardInterrupt: the user asked to stop; the finished iterations are saved.
    """
    from metarl.config.keywords import config_of
    from metarl.config.loading import resolve
    from metarl.training.train import train

    return train(resolve(config_of(config, fields, trust_code)), init_from=init_from)


@outside_run_folders()
@any_letters()
def evaluate(  # noqa: PLR0913  # the options that help() shows
    subject: TrainedRun | str | Path | type,
    *,
    config: str | Path | None = None,
    split: SplitName | None = None,
    tasks: str | Path | None = None,
    episodes: int | None = None,
    adaptation_steps: int | None = None,
    mode: Mode = "both",
    seed: int = 0,
    evaluation_seeds: int | None = None,
    forget: bool = False,
    checkpoint: Checkpoint = "latest",
    device: DeviceName = "cpu",
    output: str | Path | None = None,
    trust_code: bool = False,
    data: str | Path | None = None,
) -> ShownEvaluation:
    """Measure how fast an agent adapts to tasks that it was not trained on.

    Args:
        subject: A run or its folder; or an agent's class or import path "module:Class".
        config: Where an agent of one's own acts, or a learned objective trains: by name or file.
        split: The set of tasks; None, here and below, is what the run's config says.
        tasks: A CSV or JSON file of tasks of one's own, in place of a split.
        episodes: Of each task before and after every adaptation step.
        adaptation_steps: How often the agent adapts.
        mode: How actions are chosen; of both, the one that the papers quote is the headline.
        seed: Of the evaluation's random streams.
        evaluation_seeds: Over how many of them, from ``seed`` on, the returns are averaged.
        forget: Begin anew instead of adapting: an ablation, which should gain nothing.
        checkpoint: Of a run that is given by its folder.
        device: Of the adaptation, likewise.
        output: A folder for `evaluation.json` and the report; without one nothing is written.
        trust_code: See :func:`load_run`.
        data: Where the data of few-shot tasks lie here; None: where the run's config says.

    Raises:
        UserError: there is no such run, agent or split, or an option is out of its bounds.
        EnvironmentFailure: the agent or the environment diverged, or the report cannot be written.
    """
    from metarl.measuring.evaluating import measure, report
    from metarl.report.notebook import ShownEvaluation
    from metarl.runs.trained_run import training_lines
    from metarl.storage.run_folder import prepare_output

    asked = _options(split, tasks, episodes, adaptation_steps, mode, seed, evaluation_seeds, forget)
    measured = _subject(subject, config, checkpoint, device, trust_code, data)
    plan = asked.plan(measured.config.evaluation)
    output = None if output is None else Path(os.path.expanduser(output))
    try:
        if output is not None:
            prepare_output(output, chosen=True)
            training_lines(measured.folder)
        result, evaluation = measure(measured, plan)
        if output is not None:
            report(measured, plan, output, result, evaluation)
    finally:
        measured.worker.close()
    return ShownEvaluation(**vars(result))


@outside_run_folders()
@any_letters()
def compare(  # noqa: PLR0913  # the options that help() shows
    runs: Sequence[str | Path],
    *,
    split: SplitName | None = None,
    tasks: str | Path | None = None,
    episodes: int | None = None,
    adaptation_steps: int | None = None,
    mode: Mode = "both",
    seed: int = 0,
    evaluation_seeds: int | None = None,
    forget: bool = False,
    checkpoint: Checkpoint = "latest",
    device: DeviceName = "cpu",
    output: str | Path | None = None,
    trust_code: bool = False,
    data: str | Path | None = None,
) -> ShownComparison:
    """Measure several runs and compare them; those that differ in the seed alone are one group.

    Args:
        runs: Their folders, at least two.
        split: As for :func:`evaluate`, like all that follow up to ``forget``.
        checkpoint: Of every run.
        device: Of the adaptation.
        output: A folder for `comparison.json` and the report; without one nothing is written.
        trust_code: See :func:`load_run`; for every run.
        data: As for :func:`evaluate`; for every run.

    Raises:
        UserError: the runs cannot be compared, or an option is out of its bounds.
        EnvironmentFailure: an agent or an environment diverged, or the report cannot be written.
    """
    from metarl.config.trust import Trust
    from metarl.errors import UserError
    from metarl.measuring.comparing import measure_groups, open_groups, report_comparison
    from metarl.report.notebook import ShownComparison
    from metarl.storage.run_folder import prepare_output

    if len(runs) < 2:
        raise UserError("A comparison needs at least two runs.")
    asked = _options(split, tasks, episodes, adaptation_steps, mode, seed, evaluation_seeds, forget)
    groups = open_groups(runs, asked, checkpoint, Trust(trust_code))
    output = None if output is None else Path(os.path.expanduser(output))
    if output is not None:
        prepare_output(output, chosen=True)
    comparison = measure_groups(groups, checkpoint, device, data=data)
    if output is not None:
        report_comparison(output, comparison, groups, "metarl.compare(...)")
    return ShownComparison(**vars(comparison))


@outside_run_folders()
@any_letters()
def load_run(
    run_dir: str | Path,
    checkpoint: Checkpoint = "latest",
    device: DeviceName = "cpu",
    *,
    trust_code: bool = False,
    data: str | Path | None = None,
) -> TrainedRun:
    """A trained run from its folder, see :func:`metarl.runs.trained_run.load_run`."""
    from metarl.runs import trained_run

    return trained_run.load_run(run_dir, checkpoint, device, trust_code=trust_code, data=data)


@outside_run_folders()
@any_letters()
def load_objective(
    run: str | Path, checkpoint: Checkpoint = "latest", device: DeviceName = "cpu"
) -> LearnedObjective:
    """The objective that a run of MetaGenRL has learned, for a training loop of one's own.

    Nothing that the run's config names is imported.

    Args:
        run: Its folder.
        checkpoint: An iteration, or the latest.
        device: Where it computes.

    Raises:
        UserError: there is no such run, or it is of another algorithm.
    """
    from metarl.runs import learned_objective

    return learned_objective.load_objective(run, checkpoint, device)


def make_env(name: str | Callable[..., Any], num_envs: int = 1, **params: Any) -> TaskVectorEnv:
    """A vector environment by name, import path, class or function, see :func:`metarl.envs.make`.

    Raises:
        UserError: there is no such environment, or it refuses its parameters.
    """
    from metarl import envs
    from metarl.config.keywords import import_path
    from metarl.errors import UserError, message_of

    try:
        return envs.make(import_path(name), num_envs, **params)
    except (ValueError, TypeError) as error:
        raise UserError(message_of(error)) from error


def as_gymnasium_trial(env: gymnasium.Env, episodes: int) -> TrialEnv:
    """One Gymnasium environment whose episode is a whole trial of so many episodes.

    Its observation holds the previous action and reward and a start flag, so that anybody's
    recurrent agent learns to adapt in it, see :class:`metarl.envs.trial.TrialEnv`.

    Raises:
        UserError: it is no single environment with tasks.
    """
    from metarl.envs.trial import TrialEnv
    from metarl.errors import UserError, message_of

    try:
        return TrialEnv(env, episodes)
    except ValueError as error:
        raise UserError(message_of(error)) from error


def _options(*values: Any) -> EvaluationOptions:
    """The options of an evaluation, their values in order, checked as on the command line."""
    from metarl.config.validation import validated
    from metarl.measuring.options import EvaluationOptions

    return validated(
        EvaluationOptions, dict(zip(EvaluationOptions.model_fields, values, strict=True))
    )


def _subject(
    subject: TrainedRun | str | Path | type,
    config: str | Path | None,
    checkpoint: Checkpoint,
    device: DeviceName,
    trust_code: bool,
    data: str | Path | None,
) -> Subject:
    """What is to be measured: a run as it is or from its folder, or an agent in a config."""
    from metarl.config.trust import Trust
    from metarl.errors import UserError
    from metarl.measuring.elsewhere import load_elsewhere
    from metarl.measuring.user_agent import load_agent
    from metarl.runs.trained_run import TrainedRun

    is_path = isinstance(subject, str) and ":" in subject and not Path(subject).exists()
    if config is not None and not isinstance(subject, TrainedRun):
        if isinstance(subject, type) or (is_path and isinstance(subject, str)):
            return load_agent(subject, config, device, Trust(trust_code))
        return load_elsewhere(subject, config, checkpoint, device, Trust(trust_code))
    if isinstance(subject, type) or is_path:  # the import path of a class
        raise UserError("An agent needs config=, which says in what environment it acts.")
    if isinstance(subject, str | Path):
        return load_run(subject, checkpoint, device, trust_code=trust_code, data=data)
    return subject
