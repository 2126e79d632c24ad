"""An agent measured by a plan, beside its references, and the report of it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import torch

from metarl import envs
from metarl.config.loading import config_to_dict
from metarl.envs.contract import Success
from metarl.envs.faults import defined
from metarl.envs.knowledge import known_returns
from metarl.errors import EnvironmentFailure, UserError
from metarl.evaluation.evaluation_seeds import evaluate_all
from metarl.evaluation.few_shot import fitted
from metarl.evaluation.measurements import Evaluation
from metarl.evaluation.plan import BOTH_MODES, EvaluationPlan
from metarl.evaluation.protocol import BadAction
from metarl.evaluation.result import EvaluationResult
from metarl.evaluation.summary import bayes_adaptive, summarize
from metarl.experience.few_shot import FewShotSource
from metarl.measuring.user_agent import UserAgent
from metarl.process import command_line, enough_memory
from metarl.references.few_shot import measure_few_shot_references
from metarl.references.measurement import (
    References,
    measure_adaptive_references,
    measure_references,
)
from metarl.references.storage import Definition
from metarl.references.trained_anew import read_trained_anew, recipe_in
from metarl.report.evaluation_report import write_report
from metarl.report.page import ReportFiles, is_complete
from metarl.runs.trained_run import TrainedRun, training_lines
from metarl.storage.provenance import versions
from metarl.types import ActionMode, AdaptationAxis

Subject = TrainedRun | UserAgent
"""What can be measured: it has a config, environments, a folder, and makes agents."""

HEADLINE_MODE: dict[AdaptationAxis, ActionMode] = {
    "gradient_step": "stochastic",
    "episode": "deterministic",
    "support_set": "deterministic",
    "env_steps": "deterministic",
}
"""The mode that is quoted, as in the papers: gradients need the noise, memories and
what is trained off-policy do not."""


@enough_memory("The evaluation", "take fewer episodes or tasks")
def measure(
    subject: Subject, plan: EvaluationPlan, say: Callable[[str], None] = lambda line: None
) -> tuple[EvaluationResult, Evaluation]:
    """Evaluate an agent on a fixed set of tasks in one mode or two, beside its references.

    Args:
        subject: The agent, and the environments to evaluate it in.
        plan: What to measure.
        say: Takes a line of progress an evaluation seed and mode, where there are several seeds.

    Returns:
        The result, and the measurements of its headline mode.

    Raises:
        UserError: the environment has no such split or refuses a task of the file, a user's agent
            fails, or a stored reference is damaged.
        EnvironmentFailure: the agent or the environment diverged, or the environment failed.
    """
    torch.set_num_threads(subject.config.rollout.torch_threads)  # as at the end of its training
    plan = fitted_plan(subject, plan)
    tasks = plan.tasks(subject.worker.task_distribution)
    agents = {mode: partial(subject.agent, mode) for mode in plan.modes}
    try:
        measured = evaluate_all(agents, subject.worker, tasks, plan, _progress(plan, say))
    except (FloatingPointError, envs.SimulationFailure) as error:
        raise EnvironmentFailure(f"The evaluation failed. {error}") from error
    except BadAction as error:
        where = f"{defined(subject.cls, 'act')}: " if isinstance(subject, UserAgent) else ""
        raise UserError(f"{where}{error}") from error
    axis = next(iter(measured.values())).adaptation_axis
    headline = measured.pop(HEADLINE_MODE[axis] if len(measured) > 1 else plan.modes[0])
    other = next(iter(measured.values()), None)
    try:
        return _summarized(subject, plan, headline, other), headline
    except (FloatingPointError, envs.SimulationFailure) as error:
        raise EnvironmentFailure(f"The evaluation failed. {error}") from error


def _summarized(
    subject: Subject,
    plan: EvaluationPlan,
    headline: Evaluation,
    other: Evaluation | None,
) -> EvaluationResult:
    """What was measured, beside its references."""
    config = config_to_dict(subject.config)
    words = subject.config_words()
    own, optimum, adaptive, learners = subject.config.evaluation, None, None, None
    worker, measures = subject.worker, None
    anew: dict[str, str] = {}
    if isinstance(worker, FewShotSource):
        untrained = subject.untrained if isinstance(subject, TrainedRun) else None
        found = measure_few_shot_references(worker, headline.tasks, plan, untrained)
        references = References(found, {})
    else:
        references = measure_references(
            worker, headline.tasks, config["env"], plan, headline.adaptation_axis, words
        )
        env = worker.env(len(headline.tasks) * plan.episodes)
        asked = (len(headline.tasks),), headline.tasks
        optimum = known_returns(env, "optimal_returns", *asked)
        adaptive = bayes_adaptive(headline, env)
        learners = measure_adaptive_references(env, headline, plan)
        measures = dict(env.measures)
        if headline.adaptation_axis == "env_steps":
            definition, recipe = Definition.of(config["env"]), recipe_in(subject.config.algorithm)
            learners, anew = read_trained_anew(headline, plan, definition, recipe, words)
    result = summarize(
        headline,
        other,
        provenance=subject.provenance,
        env=subject.config.env.name,
        env_config=config["env"],
        references=references.returns | ({} if optimum is None else {"optimum": optimum}),
        missing_references=references.missing | anew,
    )
    result = replace(result, bayes_optimal=adaptive, adaptive_references=learners)
    if headline.success is not None:
        means = str(Success(own.success_key, own.success))
        result = replace(result, success_means=means)
    if headline.episode_measures and measures is not None:
        result = replace(result, episode_measures_mean=measures)
    return result


def fitted_plan(subject: Subject, plan: EvaluationPlan) -> EvaluationPlan:
    """The plan as the subject can be measured by it, see :func:`metarl.evaluation.few_shot.fitted`.

    What is trained anew in an evaluation is trained once: not for each mode, where both are asked.

    Raises:
        UserError: it asks for what few-shot learning does not have.
    """
    if not isinstance(subject.worker, FewShotSource):
        if plan.modes == BOTH_MODES and isinstance(subject, TrainedRun):
            axis = subject.agent().adaptation_axis
            return replace(plan, modes=(HEADLINE_MODE[axis],)) if axis == "env_steps" else plan
        return plan
    agent: Any = subject.agent("deterministic")
    return fitted(plan, agent, subject.provenance.algorithm)


def _progress(plan: EvaluationPlan, say: Callable[[str], None]) -> Callable[[int], None]:
    """Says which evaluation of how many begins, over all modes and seeds; nothing of one seed."""
    each = [(mode, seed) for mode in plan.modes for seed in plan.seeds]

    def begins(number: int) -> None:
        if plan.num_seeds > 1:
            mode, seed = each[number]
            acting = f", {mode} actions" * (len(plan.modes) > 1)
            say(f"Evaluation {number + 1} of {len(each)}: evaluation seed {seed}{acting}")

    return begins


def report(
    subject: Subject,
    plan: EvaluationPlan,
    output: Path,
    result: EvaluationResult,
    evaluation: Evaluation,
) -> ReportFiles:
    """Write an evaluation and its report.

    Args:
        subject: What was measured; the report shows the training curve in its folder.
        plan: How.
        output: Where to write.
        result: From :func:`measure`.
        evaluation: From :func:`measure`.

    Raises:
        UserError: the training curve cannot be read.
        EnvironmentFailure: the output folder cannot be written.
    """
    lines, plan = training_lines(subject.folder), fitted_plan(subject, plan)
    return write_report(
        output,
        result,
        evaluation,
        command=command_line(["metarl", "evaluate", *subject.arguments(), *plan.arguments()]),
        versions=versions(),
        training={subject.config.name: lines} if lines else None,
    )


def is_evaluated(run_dir: Path, plan: EvaluationPlan, iteration: int) -> bool:
    """Whether the run's own folder holds a whole report by this plan, made at this iteration."""
    folder = run_dir / "evaluation" / plan.folder
    try:
        result = EvaluationResult.read(folder / "evaluation.json")
    except (OSError, ValueError):
        return False
    modes = {mode.action_mode for mode in (result.headline, result.other) if mode is not None}
    ways = 1 if result.few_shot is None else result.few_shot.ways
    made = (result.checkpoint, result.episodes_per_step, result.adaptation_steps)
    by_this_plan = made == (iteration, plan.episodes * ways, plan.adaptation_steps)
    by_this_plan &= (result.evaluation_seeds, modes) == (list(plan.seeds), set(plan.modes))
    return by_this_plan and is_complete(folder)
