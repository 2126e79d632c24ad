"""The report of an evaluation: what was run, whether adaptation helped, how that was measured."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from markupsafe import Markup

from metarl.envs.tasks import NUMBER
from metarl.evaluation.reference_kinds import EXPECTED, PER_TASK
from metarl.evaluation.result import AdaptiveReference, EvaluationResult, ModeResult, Reference
from metarl.evaluation.statistics import RESAMPLES
from metarl.report import belief_plots, evaluation_plots, few_shot_plots, training_plots, words
from metarl.report.page import Picture, ReportFiles, drawn, filled, table, write_report_files

if TYPE_CHECKING:
    from metarl.evaluation.measurements import Evaluation
    from metarl.evaluation.measures import Measure
    from metarl.report.training_plots import Lines

FEW_TASKS = 10


def write_report(
    folder: Path,
    result: EvaluationResult,
    evaluation: Evaluation,
    *,
    command: str,
    versions: Mapping[str, str | None],
    training: Mapping[str, Lines] | None = None,
) -> ReportFiles:
    """Write `evaluation.json`, the plots, `report.md` and, last, `report.html` into a folder.

    Args:
        folder: Created if it is not there; files of an earlier evaluation are replaced.
        result: The result.
        evaluation: The measurements behind its headline mode.
        command: The command line that makes the result again.
        versions: Name -> version of what it was made with; None where it is not installed.
        training: Label -> lines of `metrics.jsonl`, for the training curve.

    Raises:
        EnvironmentFailure: The folder cannot be written.
    """
    pictures = drawn(_pictures(result, evaluation, training or {}))
    page = filled(
        "evaluation.md.j2",
        result=result,
        pictures=pictures,
        command=command,
        versions=versions,
        returns_table=returns_table,
        reference_table=reference_table,
        adaptive_table=adaptive_table,
        expected=EXPECTED,
        per_task=PER_TASK,
        few=FEW_TASKS,
        resamples=RESAMPLES,
    )
    if evaluation.paths is not None:  # too wide for the page, meant for a README
        wide = evaluation_plots.plot_adaptation_picture(evaluation)
        pictures += drawn([Picture("adaptation_picture", "", wide)])
    return write_report_files(folder, "evaluation.json", result.to_json(), pictures, page)


def _pictures(
    result: EvaluationResult, evaluation: Evaluation, training: Mapping[str, Lines]
) -> Iterator[Picture]:
    """The plots that this evaluation has data for, in the order of the page."""
    by, adapts = result.by, result.adaptation_steps > 0
    points = "; small open points: each evaluation seed" * (len(result.evaluation_seeds) > 1)
    yield Picture(
        "adaptation_curve",
        f"{by.title} against adaptation steps, mean over tasks with its 95 % interval{points}.",
        evaluation_plots.plot_adaptation_curve(result),
    )
    if evaluation.paths is not None:
        caption = f"One episode on each of a few tasks{', before and after adaptation' * adapts}."
        yield Picture("paths", caption, evaluation_plots.plot_paths(evaluation))
    if evaluation.beliefs is not None:
        caption = (
            "What the agent believes of a few tasks as a trial goes on: the darker, the more "
            "probable, read from its belief by a network that serves no other purpose."
        )
        yield Picture("beliefs", caption, belief_plots.plot_beliefs(evaluation))
    yield from _few_shot_pictures(result, evaluation)
    if shown_by_task(result):
        plot = evaluation_plots.plot_return_by_task(result, evaluation)
        caption = f"{by.title} against the task{', before and after' * adapts}."
        yield Picture(f"{by.name}_by_task", caption, plot)
    elif len(result.tasks) > 1:
        plot = evaluation_plots.plot_task_histogram(result)
        caption = f"{by.title} of each task{', before and after' * adapts}."
        yield Picture("tasks", caption, plot)
    if evaluation.rewards is not None:
        plot = evaluation_plots.plot_reward_within_episode(evaluation)
        yield Picture("reward_within_episode", "Mean reward at each step of an episode.", plot)
    curves = {label: [lines] for label, lines in training.items()}
    if (trained := training_plots.curve_of(curves)) is not None:
        plot = training_plots.plot_training_curves(curves)
        caption = f"Training: {trained.noun} against {by.steps} and against time."
        yield Picture("training_curve", caption, plot)


def _few_shot_pictures(result: EvaluationResult, evaluation: Evaluation) -> Iterator[Picture]:
    """What is shown of predictions."""
    shown, adapts = evaluation.shown, result.adaptation_steps > 0
    when = ", before and after" * adapts
    if shown is None or result.few_shot is None:
        return
    if shown.grid is not None:
        caption = f"The first tasks: what was predicted{when}, from the support points."
        yield Picture("functions", caption, few_shot_plots.plot_functions(evaluation))
    if result.few_shot.ways > 1 and shown.inputs.ndim == 5:
        caption = "The first task: above each query image its predicted class and probability."
        yield Picture("predictions", caption, few_shot_plots.plot_predictions(evaluation))
    if result.calibration is not None:
        ends = evaluation_plots.ends(result.x, result.adaptation_steps)
        calibrations = {name: result.calibration[k] for k, (name, _) in ends.items()}
        plot = few_shot_plots.plot_reliability(calibrations)
        caption = f"Reliability{when}: on the diagonal predictions keep what they say."
        yield Picture("reliability", caption, plot)


def shown_by_task(result: EvaluationResult) -> bool:
    """Whether tasks are places in one or two dimensions; what only names them is none."""
    return len(result.task_columns) <= 2 and NUMBER not in result.task_units


def returns_table(result: EvaluationResult, mode: ModeResult) -> Markup:
    """A row a measurement; the normalised score only where there is one."""
    by, errors, spread = result.by, words.calibration_errors(result), mode.evaluation_seed_std
    episodes = result.few_shot is None
    header = ["measured", f"mean {by.noun} [95 %]", by.used, *["env steps used"] * episodes]
    header += ["IQM [95 %]"]
    header += ["± 1.96 SE"] + ["± over evaluation seeds"] * bool(spread)
    header += ["success [95 %]"] * bool(mode.success_rate)
    header += list(own := mode.episode_measures or {})
    header += ["calibration error"] * bool(errors)
    header += ["normalised"] * bool(mode.normalised)
    header += ["Bayes-adaptive [95 %]"] * bool(adaptive := result.bayes_optimal)
    rows = [
        [
            words.step_name(result.x, k),
            words.estimate(mode.mean[k], mode.ci95[k], by),
            used,
            *[f"{mode.env_steps_used[k]:,.0f}"] * episodes,
            words.estimate(mode.iqm[k], mode.iqm_ci95[k], by),
            "–" if (error := mode.se95[k]) is None else f"± {error:.{by.decimals}f}",
            *([f"± {spread[k]:.{by.decimals}f}"] if spread else []),
            *([words.success_words(mode, k)] if mode.success_rate else []),
            *[f"{values[k]:.2f}" for values in own.values()],
            *([f"{errors[k]:.3f}"] if errors else []),
            *([f"{mode.normalised[k]:.2f}"] if mode.normalised else []),
            *([words.estimate(adaptive[k].mean, adaptive[k].ci95)] if adaptive else []),
        ]
        for k, used in enumerate(result.episodes_used)
    ]
    return table(header, rows)


def adaptive_table(
    known: Mapping[str, Mapping[str, AdaptiveReference] | None], when: str = "in each episode"
) -> Markup:
    """A row an agent that the environment names: what it earned in the trial, and who is ahead.

    Args:
        known: Of each of those that are judged, by their names.
        when: The measurements, in words.
    """
    beside = {label: agents for label, agents in known.items() if agents}
    rows = []
    for name, agent in longest_trials(beside.values()).items():
        earned = words.earned_by(agent)
        meaning = words.ADAPTIVE_REFERENCES.get(name, "an agent of the user's environment")
        rows.append([name, meaning, earned])
        rows[-1] += [a[name].difference.verdict if name in a else "–" for a in beside.values()]
    header = ["agent", "what it is", f"return {when} [95 %]"]
    return table(header + [f"{label} is" for label in beside], rows, left=2)


def longest_trials(
    known: Iterable[Mapping[str, AdaptiveReference]],
) -> Mapping[str, AdaptiveReference]:
    """Of agents by name those whose trials have the most episodes."""
    return max(known, key=lambda a: max((len(x.episodes) for x in a.values()), default=0))


def reference_table(references: Mapping[str, Reference], by: Measure) -> Markup:
    """A row a reference."""
    meanings, own = words.reference_words(by), "a reference of the user's"
    rows: Sequence[Sequence[Any]] = [
        [name, meanings.get(name, own), words.estimate(ref.mean, ref.ci95, by)]
        for name, ref in references.items()
    ]
    return table(["reference", "what it is", f"mean {by.noun} [95 %]"], rows, left=2)
