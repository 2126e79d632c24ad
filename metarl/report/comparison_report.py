"""The report of a comparison: the same page as an evaluation's, for several groups of seeds."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from markupsafe import Markup

from metarl.evaluation.comparison import Comparison, Group, GroupMode
from metarl.evaluation.reference_kinds import EXPECTED, PER_TASK
from metarl.evaluation.seed_statistics import FEW_SEEDS, IQM_RESAMPLES
from metarl.evaluation.statistics import RESAMPLES
from metarl.report import comparison_plots, few_shot_plots, training_plots
from metarl.report.evaluation_report import adaptive_table, reference_table, shown_by_task
from metarl.report.page import Picture, ReportFiles, drawn, filled, table, write_report_files
from metarl.report.training_plots import Lines
from metarl.report.words import estimate, mode_words, step_name, success_words


def write_comparison(
    folder: Path,
    comparison: Comparison,
    *,
    command: str,
    training_commands: Sequence[str],
    versions: Mapping[str, str | None],
    training: Mapping[str, Sequence[Lines]],
) -> ReportFiles:
    """Write `comparison.json`, the plots, `report.md` and, last, `report.html` into a folder.

    Args:
        folder: Created if it is not there; files of an earlier comparison are replaced.
        comparison: What was found.
        command: The command line that makes it again.
        training_commands: Those that trained the runs, as far as they are known.
        versions: Name -> version of what it was made with; None where it is not installed.
        training: Label -> the metrics of its runs.

    Raises:
        EnvironmentFailure: The folder cannot be written.
    """
    groups = comparison.groups
    pictures = drawn(_pictures(comparison, training))
    page = filled(
        "comparison.md.j2",
        title=title(comparison),
        comparison=comparison,
        pictures=pictures,
        commands=[command, *training_commands],
        versions=versions,
        returns_table=group_returns_table,
        pairs_table=_pairs_table,
        runs_table=_runs_table,
        reference_table=reference_table,
        adaptive_table=adaptive_table,
        beside={group.label: group.adaptive_references for group in groups},
        expected=EXPECTED,
        per_task=PER_TASK,
        several=_several_seeds(comparison),
        single=[group.label for group in groups if len(group.runs) == 1],
        few=[group.label for group in groups if group.few_seeds],
        few_seeds=FEW_SEEDS,
        resamples=RESAMPLES,
        iqm_resamples=IQM_RESAMPLES,
    )
    return write_report_files(folder, "comparison.json", comparison.to_json(), pictures, page)


def title(comparison: Comparison) -> str:
    """E.g. "maml, promp and rl2 on point_navigation"."""
    *others, last = [group.label for group in comparison.groups]
    return f"{' and '.join([', '.join(others)] * bool(others) + [last])} on {comparison.first.env}"


def _pictures(comparison: Comparison, training: Mapping[str, Sequence[Lines]]) -> Iterator[Picture]:
    several, by = _several_seeds(comparison), comparison.first.by
    points = "; small open points: every seed" if several else ""
    yield Picture(
        "adaptation_curves",
        f"{by.title} against experience. Lines: mean; bands: 95 % interval{points}.",
        comparison_plots.plot_adaptation_curves(comparison),
    )
    if comparison_plots.on_one_axis(comparison):
        strokes = "; strokes below: every seed" if several else ""
        yield Picture(
            f"{by.table}_by_group",
            f"{by.title} of every group. Points: mean; bars: 95 % interval{strokes}. "
            "Each panel has an axis of its own.",
            comparison_plots.plot_returns_by_group(comparison),
        )
    calibrations = {g.label: g.calibration for g in comparison.groups}
    if known := {label: found for label, found in calibrations.items() if found is not None}:
        caption = "Reliability after adaptation: on the diagonal predictions keep what they say."
        yield Picture("reliability", caption, few_shot_plots.plot_reliability(known))
    if shown_by_task(comparison.first):
        plot = comparison_plots.plot_returns_by_task(comparison)
        caption = f"{by.title} against the task, after adaptation."
        yield Picture(f"{by.name}_by_task", caption, plot)
    if (trained := training_plots.curve_of(training)) is not None:
        caption = f"Training: {trained.noun} against {by.steps} and against time."
        yield Picture("training_curves", caption, training_plots.plot_training_curves(training))


def group_returns_table(groups: Sequence[Group], modes: Sequence[GroupMode]) -> Markup:
    """A line with the group's name, then a row a measurement."""
    first, by = groups[0].first, groups[0].first.by
    header = ["measured", by.used, f"mean {by.noun} [95 %]", "IQM [95 %]"]
    # Of all groups or of none: they are measured with the same evaluation seeds.
    header += ["± over evaluation seeds"] * bool(modes[0].evaluation_seed_std)
    header += ["success [95 %]"] * bool(modes[0].success_rate)
    header += ["calibration error"] * bool(first.calibration)
    normalised = any(mode.normalised for mode in modes)
    header += ["normalised"] * normalised
    adaptive = any(group.first.bayes_optimal for group in groups)
    header += ["Bayes-adaptive [95 %]"] * adaptive
    rows = []
    for group, mode in zip(groups, modes, strict=True):
        rows.append([f"{group.label}{mode_words(group.first, mode)}", *[""] * (len(header) - 1)])
        for k, used in enumerate(group.episodes_used):
            row = [step_name(group.first.x, k), f"{used}"]
            row.append(estimate(mode.mean[k], mode.ci95[k], by))
            row.append(estimate(mode.iqm[k], mode.iqm_ci95[k], by))
            if mode.evaluation_seed_std:
                row.append(f"± {mode.evaluation_seed_std[k]:.{by.decimals}f}")
            if modes[0].success_rate:
                row.append(success_words(mode, k))
            if group.calibration_error:
                row.append(f"{group.calibration_error[k]:.3f}")
            if normalised:
                row.append(f"{mode.normalised[k]:.2f}" if mode.normalised else "–")
            if adaptive:
                known = group.first.bayes_optimal
                row.append(estimate(known[k].mean, known[k].ci95) if known else "–")
            rows.append(row)
    return table(header, rows)


def _pairs_table(comparison: Comparison) -> Markup:
    header = ["first against second", comparison.first.by.used]
    header += ["difference [95 %]", "P(improvement) [95 %]"]
    rows = [
        [
            f"{pair.a} against {pair.b}",
            pair.experience,
            pair.difference.verdict,
            estimate(pair.improvement.value, pair.improvement.ci95),
        ]
        for pair in dict.fromkeys((*comparison.last, *comparison.equal_experience))
    ]
    return table(header, rows)


def _runs_table(groups: Sequence[Group]) -> Markup:
    by = groups[0].first.by
    header = ["run", "seed", "meta-iterations", f"{by.steps} of training"]
    header += [f"mean {by.heading.lower()}"]
    rows = [
        [
            run.folder,
            run.result.seeds[0],
            run.result.checkpoint,
            "unknown" if run.env_steps is None else f"{run.env_steps:,}",
            ", ".join(f"{mean:.{by.decimals}f}" for mean in run.result.headline.mean),
        ]
        for group in groups
        for run in group.runs
    ]
    return table(header, rows)


def _several_seeds(comparison: Comparison) -> bool:
    return any(len(group.runs) > 1 for group in comparison.groups)
