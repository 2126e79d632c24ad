"""The report of an evaluation: what was run, whether adaptation helped, how that was measured."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from markupsafe import Markup

from metarl.evaluation.reference_kinds import EXPECTED, PER_TASK
from metarl.evaluation.result import EvaluationResult, ModeResult, Reference
from metarl.evaluation.statistics import RESAMPLES
from metarl.report import evaluation_plots, training_plots
from metarl.report.page import Picture, ReportFiles, drawn, filled, table, write_report_files
from metarl.report.words import REFERENCES, estimate, step_name, success_words

if TYPE_CHECKING:
    from metarl.evaluation.protocol import Evaluation
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
    adapts = result.adaptation_steps > 0
    points = "; small open points: each evaluation seed" * (len(result.evaluation_seeds) > 1)
    yield Picture(
        "adaptation_curve",
        f"Return against adaptation steps, mean over tasks with its 95 % interval{points}.",
        evaluation_plots.plot_adaptation_curve(result),
    )
    if evaluation.paths is not None:
        caption = f"One episode on each of a few tasks{', before and after adaptation' * adapts}."
        yield Picture("paths", caption, evaluation_plots.plot_paths(evaluation))
    if evaluation.tasks.shape[1] <= 2:
        plot = evaluation_plots.plot_return_by_task(result, evaluation)
        caption = f"Return against the task{', before and after' * adapts}."
        yield Picture("return_by_task", caption, plot)
    plot = evaluation_plots.plot_reward_within_episode(evaluation)
    yield Picture("reward_within_episode", "Mean reward at each step of an episode.", plot)
    if training:
        plot = training_plots.plot_training_curves({k: [v] for k, v in training.items()})
        caption = "Training: return against env steps and against time."
        yield Picture("training_curve", caption, plot)


def returns_table(result: EvaluationResult, mode: ModeResult) -> Markup:
    """A row a measurement; the normalised score only where there is one."""
    header = ["measured", "mean return [95 %]", "episodes used", "env steps used", "IQM [95 %]"]
    header += ["± 1.96 SE"] + ["± over evaluation seeds"] * bool(mode.evaluation_seed_std)
    header += ["success [95 %]"] * bool(mode.success_rate)
    header += ["normalised"] * bool(mode.normalised)
    rows = [
        [
            step_name(result.x, k),
            estimate(mode.mean[k], mode.ci95[k]),
            used,
            f"{mode.env_steps_used[k]:,.0f}",
            estimate(mode.iqm[k], mode.iqm_ci95[k]),
            "–" if (error := mode.se95[k]) is None else f"± {error:.2f}",
            *([f"± {mode.evaluation_seed_std[k]:.2f}"] if mode.evaluation_seed_std else []),
            *([success_words(mode, k)] if mode.success_rate else []),
            *([f"{mode.normalised[k]:.2f}"] if mode.normalised else []),
        ]
        for k, used in enumerate(result.episodes_used)
    ]
    return table(header, rows)


def reference_table(references: Mapping[str, Reference]) -> Markup:
    """A row a reference."""
    rows: Sequence[Sequence[Any]] = [
        [name, REFERENCES.get(name, "a reference of the user's"), estimate(ref.mean, ref.ci95)]
        for name, ref in references.items()
    ]
    return table(["reference", "what it is", "mean return [95 %]"], rows, left=2)
