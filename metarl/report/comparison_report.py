"""The report of a comparison: the same page as an evaluation's, for several groups of seeds."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

from metarl.evaluation.comparison import Comparison, Group, GroupMode, Pair
from metarl.evaluation.seed_statistics import FEW_SEEDS, IQM_RESAMPLES
from metarl.evaluation.statistics import RESAMPLES
from metarl.report import comparison_plots, training_plots
from metarl.report.evaluation_report import (
    ReportFiles,
    adaptation_words,
    estimate,
    references,
    tasks_in_words,
    tasks_words,
)
from metarl.report.figures import step_name
from metarl.report.page import (
    Block,
    Code,
    Heading,
    Paragraph,
    Picture,
    Table,
    Verdict,
    to_html,
    to_markdown,
)
from metarl.report.training_plots import Lines


def write_comparison(
    folder: Path,
    comparison: Comparison,
    *,
    command: str,
    training_commands: Sequence[str],
    versions: Mapping[str, str],
    training: Mapping[str, Sequence[Lines]],
) -> ReportFiles:
    """Write `comparison.json`, the plots, `report.md` and `report.html` into a folder.

    Args:
        folder: Created if it is not there; files of an earlier comparison are replaced.
        comparison: What was found.
        command: The command line that makes it again.
        training_commands: Those that trained the runs, as far as they are known.
        versions: Name -> version of what it was made with.
        training: Label -> the metrics of its runs.

    Raises:
        OSError: The folder cannot be written.
    """
    folder.mkdir(parents=True, exist_ok=True)
    files = ReportFiles(
        evaluation=folder / "comparison.json",
        markdown=folder / "report.md",
        html=folder / "report.html",
        plots=[],
    )
    files.evaluation.write_text(comparison.to_json(), encoding="utf-8")
    pictures = _draw(folder, comparison, training)
    files.plots.extend(picture.path for picture in pictures)
    commands = [command, *training_commands]
    blocks = _page(comparison, pictures, commands, versions)
    *others, last = [group.label for group in comparison.groups]
    title = f"{' and '.join([', '.join(others)] * bool(others) + [last])} on {comparison.first.env}"
    files.markdown.write_text(to_markdown(title, blocks), encoding="utf-8")
    files.html.write_text(to_html(title, blocks), encoding="utf-8")
    return files


def verdict_sentences(comparison: Comparison) -> list[str]:
    """Did adaptation help? A sentence a group."""
    sentences = []
    for group in comparison.groups:
        helps = group.headline.adaptation_helps
        said = "no adaptation step was measured" if helps is None else helps.verdict
        sentences.append(f"{group.label}: {said}.")
    return sentences


def pair_sentence(pair: Pair) -> str:
    """E.g. "rl2 against maml, after 4 and 120 episodes: better: +3.1 [1.0, 5.2]; …"."""
    chance, (low, high) = pair.improvement.value, pair.improvement.ci95
    return (
        f"{pair.a} against {pair.b}, after {pair.experience} episodes of experience: "
        f"{pair.difference.verdict}; probability of improvement {chance:.2f} "
        f"[{low:.2f}, {high:.2f}]."
    )


def _draw(
    folder: Path, comparison: Comparison, training: Mapping[str, Sequence[Lines]]
) -> list[Picture]:
    pictures = []

    def picture(name: str, caption: str) -> Path:
        pictures.append(Picture(folder / f"{name}.png", caption))
        return pictures[-1].path

    points = "; small open points: every seed" if _several_seeds(comparison) else ""
    comparison_plots.plot_adaptation_curves(
        comparison,
        picture(
            "adaptation_curves",
            f"Return against experience. Lines: mean; bands: 95 % interval{points}.",
        ),
    )
    if comparison_plots.on_one_axis(comparison):
        strokes = "; strokes below: every seed" if _several_seeds(comparison) else ""
        comparison_plots.plot_returns_by_group(
            comparison,
            picture(
                "returns_by_group",
                f"Return of every group. Points: mean; bars: 95 % interval{strokes}. "
                "Each panel has an axis of its own.",
            ),
        )
    if len(comparison.first.task_columns) <= 2:
        comparison_plots.plot_returns_by_task(
            comparison, picture("return_by_task", "Return against the task, after adaptation.")
        )
    if training_plots.has_returns(training):
        training_plots.plot_training_curves(
            training,
            picture("training_curves", "Training: return against env steps and against time."),
        )
    return pictures


def _page(
    comparison: Comparison,
    pictures: Sequence[Picture],
    commands: Sequence[str],
    versions: Mapping[str, str],
) -> list[Block]:
    shared = comparison.first
    adaptation = " ".join(verdict_sentences(comparison))
    verdicts: list[Block] = [Verdict(adaptation)]
    if comparison.last:
        verdicts = [Verdict(pair_sentence(pair)) for pair in comparison.last]
        verdicts.append(Paragraph(f"Did adaptation help? {adaptation}"))
    blocks: list[Block] = [
        Paragraph(
            f"{_count(comparison.groups, 'group')} of runs on {shared.env}, evaluated on "
            f"{tasks_in_words(shared)}, each in the action mode of its kind, on one axis: the "
            "episodes of experience that an agent had used before the measured ones."
        ),
        *verdicts,
        Paragraph(
            "Differences are paired by task. One counts as better, worse, helping or hurting where "
            "its 95 % interval is clear of zero."
        ),
        Heading("Returns"),
        Table(*_returns_table(comparison, [group.headline for group in comparison.groups])),
        Paragraph(_intervals(comparison)),
        Heading("Adaptation"),
        pictures[0],
    ]
    if comparison.last:
        blocks += [Heading("Group against group"), Table(*_pairs_table(comparison))]
        blocks.append(
            Paragraph(
                "Probability of improvement: that the first is better than the second on a task, "
                "for a random seed of either, ties half, averaged over tasks."
            )
        )
    others = [group.other for group in comparison.groups if group.other is not None]
    if len(others) == len(comparison.groups):
        blocks += [
            Heading("Returns in the other action mode"),
            Table(*_returns_table(comparison, others)),
        ]
    known = comparison.groups[0].headline.normalised is not None
    missing = comparison.groups[0].first.missing_references
    blocks += [Heading("References"), *references(comparison.references, missing, known)]
    blocks += [Heading("The runs"), Table(*_runs_table(comparison))]
    blocks += [Heading("More plots"), *pictures[1:]] if pictures[1:] else []
    blocks += [Heading("Protocol"), *map(Paragraph, _protocol(comparison))]
    return [
        *blocks,
        Paragraph("Settings of the environment:"),
        Code(json.dumps(shared.env_config, indent=1)),
        Heading("Made with"),
        Code("\n".join(commands)),
        Table(["software", "version"], [[name, text] for name, text in versions.items()]),
    ]


def _returns_table(
    comparison: Comparison, modes: Sequence[GroupMode]
) -> tuple[list[str], list[list[str]]]:
    header = ["measured", "episodes used", "mean return [95 %]", "IQM [95 %]"]
    normalised = any(mode.normalised for mode in modes)
    header += ["normalised"] * normalised
    rows = []
    for group, mode in zip(comparison.groups, modes, strict=True):
        rows.append([f"{group.label}, {mode.action_mode}", *[""] * (len(header) - 1)])
        for k, used in enumerate(group.episodes_used):
            row = [step_name(group.first.x, k), f"{used}"]
            row.append(estimate(mode.mean[k], mode.ci95[k]))
            row.append(estimate(mode.iqm[k], mode.iqm_ci95[k]))
            if normalised:
                row.append(f"{mode.normalised[k]:.2f}" if mode.normalised else "–")
            rows.append(row)
    return header, rows


def _pairs_table(comparison: Comparison) -> tuple[list[str], list[list[str]]]:
    header = ["first against second", "episodes used", "difference [95 %]", "P(improvement) [95 %]"]
    rows = []
    seen = set()
    for pair in (*comparison.last, *comparison.equal_experience):
        key = (pair.a, pair.b, pair.a_episodes_used, pair.b_episodes_used)
        if key in seen:
            continue
        seen.add(key)
        (low, high), chance = pair.improvement.ci95, pair.improvement.value
        rows.append(
            [
                f"{pair.a} against {pair.b}",
                pair.experience,
                pair.difference.verdict,
                f"{chance:.2f} [{low:.2f}, {high:.2f}]",
            ]
        )
    return header, rows


def _runs_table(comparison: Comparison) -> tuple[list[str], list[list[str]]]:
    header = ["run", "seed", "meta-iterations", "env steps of training", "mean returns"]
    rows = []
    for group in comparison.groups:
        for run in group.runs:
            steps = "unknown" if run.env_steps is None else f"{run.env_steps:,}"
            result = run.result
            means = ", ".join(f"{mean:.2f}" for mean in result.headline.mean)
            rows.append([run.folder, f"{result.seeds[0]}", f"{result.checkpoint}", steps, means])
    return header, rows


def _intervals(comparison: Comparison) -> str:
    words = (
        "Return: undiscounted sum of rewards of an episode, averaged over the episodes of a task, "
        "then over tasks and seeds. In brackets: 95 % intervals"
    )
    single = [group.label for group in comparison.groups if len(group.runs) == 1]
    few = [group.label for group in comparison.groups if group.few_seeds]
    if _several_seeds(comparison):
        words += ", over seeds and the tasks they share where a group has several seeds."
    else:
        words += "."
    if single:
        words += (
            f" One seed only ({', '.join(single)}): the interval is over tasks and speaks of this "
            "agent, not of what another training seed would give."
        )
    if few:
        words += f" Few seeds (fewer than {FEW_SEEDS}): {', '.join(few)}."
    if comparison.first.split == "training tasks":
        words += " The distribution is finite, so these are the very tasks trained on."
    return words


def _protocol(comparison: Comparison) -> list[str]:
    shared = comparison.first
    return [
        *(f"{group.label}: {adaptation_words(group.first)}" for group in comparison.groups),
        f"{tasks_words(shared)} Resets are keyed by evaluation seed {shared.evaluation_seed}, "
        "adaptation step, task and episode: all runs with as many episodes face the same. Every "
        "run is measured anew for a comparison, whatever its folder holds.",
        "Runs whose configs differ in nothing but the seed are one group. Intervals of a mean over "
        f"several seeds: seeds and tasks are resampled {RESAMPLES:,} times (crossed bootstrap), "
        "and the wider of a stretched percentile interval and a studentized one is taken, with "
        "Student's quantiles at Satterthwaite's degrees of freedom; over one seed, the same for "
        f"tasks alone. IQM: mean of the middle half of all seeds × tasks, {IQM_RESAMPLES:,} "
        "resamples. Differences between groups resample the seeds of each apart, the tasks "
        "together.",
    ]


def _several_seeds(comparison: Comparison) -> bool:
    return any(len(group.runs) > 1 for group in comparison.groups)


def _count(groups: Sequence[Group], noun: str) -> str:
    return f"{len(groups)} {noun}{'s' if len(groups) > 1 else ''}"
