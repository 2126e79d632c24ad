"""An evaluation in public: its report, its table, its video, and copies of all in W&B."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

from metarl.errors import EnvironmentFailure, UserError
from metarl.measuring.evaluating import measure, report
from metarl.process import optional_output, say
from metarl.report.figures import warn_of_picture
from metarl.report.terminal import print_table
from metarl.report.video import NoPictures, check_pictures, write_video
from metarl.runs.trained_run import training_lines
from metarl.storage.run_folder import prepare_output
from metarl.tracking.tracker import copy_evaluation
from metarl.tracking.wandb_run import Media, is_tracked

if TYPE_CHECKING:
    from metarl.evaluation.measurements import Evaluation
    from metarl.evaluation.plan import EvaluationPlan
    from metarl.evaluation.result import EvaluationResult
    from metarl.measuring.evaluating import Subject
    from metarl.report.page import ReportFiles
    from metarl.tracking.tracker import Tracker
    from metarl.tracking.wandb_run import Table

_NONE = (None, None)  # in place of the interval that one task does not give


def evaluate_and_report(
    subject: Subject,
    plan: EvaluationPlan,
    output: Path | None = None,
    *,
    video: bool = False,
    tracker: Tracker | None = None,
) -> None:
    """Measure, write the report, print its table, write the video, and copy all to W&B.

    Args:
        subject: What to evaluate.
        plan: How.
        output: Where to write; None for `evaluation/` in the subject's own folder.
        video: Whether to write one.
        tracker: Of a run that still trains.

    Raises:
        UserError: the subject cannot be evaluated so, or not be shown.
        EnvironmentFailure: the evaluation failed, or a file cannot be written.
    """
    # What is needed after the measurement is seen to before it.
    chosen = output is not None
    output = output or subject.folder / "evaluation" / plan.folder
    prepare_output(output, chosen)
    training_lines(subject.folder)
    if video:
        _check_video(subject)
    result, evaluation = measure(subject, plan, say)
    files = report(subject, plan, output, result, evaluation)
    with optional_output():
        print_table(result)
        print(f"Report: {files.markdown} and {files.html.name}; figures: {files.evaluation}")
    _publish(subject, result, evaluation, files, video=video, tracker=tracker)


def _publish(
    subject: Subject,
    result: EvaluationResult,
    evaluation: Evaluation,
    files: ReportFiles,
    *,
    video: bool,
    tracker: Tracker | None,
) -> None:
    """Write the video beside the report, and copy everything to the W&B run that it belongs to.

    That is the tracker's, or the one that the subject's run had, which is gone on with. A video
    that cannot be made costs a warning.
    """
    folder = files.evaluation.parent
    videos = _make_video(subject, evaluation, folder) if video else {}
    split, steps = re.sub(r"\W+", "_", result.split), subject.env_steps
    media = Media({path.stem: path for path in files.plots}, _tables(result), videos)
    if tracker is not None:
        tracker.log_evaluation(split, _numbers(result), media, steps)
    elif is_tracked(subject.folder):
        copy_evaluation(
            subject.config, folder, split, _numbers(result), media, env_steps=steps, say=say
        )


def _check_video(subject: Subject) -> None:
    """Refuse a video that could not be made, before anything is measured.

    Raises:
        UserError: the environment cannot be shown.
        EnvironmentFailure: this machine cannot draw it.
    """
    from metarl.envs.rendering import RendererMissing  # late: it loads MuJoCo

    try:
        check_pictures(subject.worker.env(1))
    except NoPictures as error:
        raise UserError(f"{error} Nothing was measured.") from error
    except RendererMissing as error:
        raise EnvironmentFailure(f"{error} Nothing was measured.") from error


def _make_video(subject: Subject, evaluation: Evaluation, folder: Path) -> dict[str, Path]:
    """The video's files by the name that W&B gives them; the smaller one is enough there."""
    env = subject.worker.env(len(evaluation.tasks) * evaluation.episodes)
    try:
        gif, mp4 = write_video(evaluation, env, folder)
    except Exception as error:  # the measurement is there, whatever befalls its pictures
        warn_of_picture("video", error)
        return {}
    say(f"Video: {gif} and {mp4.name}")
    return {mp4.stem: mp4}


def _numbers(result: EvaluationResult) -> dict[str, float]:
    means = zip(result.measurement_keys, result.headline.mean, strict=True)
    numbers = {f"{result.measure}/{name}": mean for name, mean in means}
    if result.headline.adaptation_helps is not None:
        numbers["delta"] = result.headline.adaptation_helps.delta
    if result.calibration is not None:
        errors = zip(result.measurement_keys, result.calibration, strict=True)
        numbers |= {f"calibration_error/{name}": each.error for name, each in errors}
    return numbers


def _tables(result: EvaluationResult) -> dict[str, Table]:
    """The report's tables: by step, by task, and the references."""
    mode, names = result.headline, result.measurement_keys
    columns = ["measurement", "episodes_used", "env_steps_used", "mean", "ci95_low", "ci95_high"]
    columns += ["iqm", "iqm_ci95_low", "iqm_ci95_high"]
    used = (names, result.episodes_used, mode.env_steps_used)
    estimates = (mode.mean, mode.ci95, mode.iqm, mode.iqm_ci95)
    summary: list[list[Any]] = [
        [*counts, mean, *(ci95 or _NONE), iqm, *(iqm_ci95 or _NONE)]
        for *counts, mean, ci95, iqm, iqm_ci95 in zip(*used, *estimates, strict=True)
    ]
    by_task = zip(result.tasks, zip(*mode.returns, strict=True), strict=True)
    tables: dict[str, Table] = {
        "summary": (columns, summary),
        result.by.table: ([*result.task_columns, *names], [[*task, *row] for task, row in by_task]),
    }
    if result.references:
        rows = [[name, ref.mean, *(ref.ci95 or _NONE)] for name, ref in result.references.items()]
        tables["references"] = (["reference", "mean", "ci95_low", "ci95_high"], rows)
    return tables
