"""The report of an evaluation: a page that says what was run, whether adaptation helped, and how
that was measured, as Markdown and as one self-contained HTML file.

The page is built once, as a list of blocks, and rendered twice, so both say the same.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from metarl.evaluation.reference_kinds import FLOOR, ORACLE
from metarl.evaluation.result import EvaluationResult, ModeResult, Reference
from metarl.evaluation.statistics import RESAMPLES
from metarl.report import adaptation_plots, path_plots, task_plots, training_plots
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

if TYPE_CHECKING:
    import numpy as np

    from metarl.evaluation.protocol import Evaluation

REFERENCES = {
    ORACLE: "a policy trained with the task in its observation",
    FLOOR: "one policy trained on all tasks, without adaptation: the floor",
    "from_scratch": "PPO from random weights on each task, with the agent's own experience there",
    "fine_tuned": "the multitask policy, trained on with the agent's own experience there",
    "random": "uniformly random actions",
    "optimum": "the best possible return with the task known, computed",
}
EXPECTED_REFERENCES = (ORACLE, FLOOR, "random")
GOAL_COLUMNS = ("goal_x", "goal_y")
FEW_TASKS = 10


@dataclass(frozen=True)
class ReportFiles:
    """What :func:`write_report` wrote."""

    evaluation: Path
    markdown: Path
    html: Path
    plots: list[Path]


def write_report(
    folder: Path,
    result: EvaluationResult,
    evaluation: Evaluation,
    *,
    command: str,
    versions: Mapping[str, str],
    training: Mapping[str, Sequence[Mapping[str, Any]]] | None = None,
) -> ReportFiles:
    """Write `evaluation.json`, the plots, `report.md` and `report.html` into a folder.

    Args:
        folder: Created if it is not there; files of an earlier evaluation are replaced.
        result: The result.
        evaluation: The measurements behind its headline mode.
        command: The command line that makes the result again.
        versions: Name -> version of what it was made with.
        training: Label -> lines of `metrics.jsonl`, for the training curve.

    Raises:
        OSError: The folder cannot be written.
    """
    folder.mkdir(parents=True, exist_ok=True)
    result.write(folder / "evaluation.json")
    pictures = _draw(folder, result, evaluation, training)
    drawn = [picture.path for picture in pictures]
    if evaluation.paths is not None:  # too wide for the page, meant for a README
        drawn.append(folder / "adaptation_picture.png")
        path_plots.plot_adaptation_picture(evaluation, drawn[-1], _goals(evaluation))
    blocks = _page(result, pictures, command, versions)
    title = f"{result.algorithm} on {result.env}"
    files = ReportFiles(
        evaluation=folder / "evaluation.json",
        markdown=folder / "report.md",
        html=folder / "report.html",
        plots=drawn,
    )
    files.markdown.write_text(to_markdown(title, blocks), encoding="utf-8")
    files.html.write_text(to_html(title, blocks), encoding="utf-8")
    return files


def _draw(
    folder: Path,
    result: EvaluationResult,
    evaluation: Evaluation,
    training: Mapping[str, Sequence[Mapping[str, Any]]] | None,
) -> list[Picture]:
    """The plots that this evaluation has data for, in the order of the page."""
    pictures = []

    def picture(name: str, caption: str) -> Path:
        pictures.append(Picture(folder / f"{name}.png", caption))
        return pictures[-1].path

    what = "Return against adaptation steps"
    adaptation_plots.plot_adaptation_curve(
        result, picture("adaptation_curve", f"{what}, mean over tasks with its 95 % interval.")
    )
    if evaluation.paths is not None:
        path_plots.plot_paths(
            evaluation,
            picture("paths", "One episode on each of a few tasks, before and after adaptation."),
            _goals(evaluation),
        )
    if evaluation.tasks.shape[1] <= 2:
        task_plots.plot_return_by_task(
            result,
            picture("return_by_task", "Return against the task, before and after."),
            evaluation,
        )
    adaptation_plots.plot_reward_within_episode(
        evaluation, picture("reward_within_episode", "Mean reward at each step of an episode.")
    )
    if training:
        caption = "Training: return against env steps and against time."
        training_plots.plot_training_curves(
            {label: [lines] for label, lines in training.items()},
            picture("training_curve", caption),
        )
    return pictures


def _goals(evaluation: Evaluation) -> np.ndarray | None:
    """Positions of the goals [n, 2] where the tasks are goals; other tasks are no places."""
    return evaluation.tasks if evaluation.task_columns == GOAL_COLUMNS else None


def _page(
    result: EvaluationResult,
    pictures: Sequence[Picture],
    command: str,
    versions: Mapping[str, str],
) -> list[Block]:
    blocks: list[Block] = [
        Paragraph(_what_was_run(result)),
        Verdict(verdict_words(result)),
        Paragraph(verdict_meaning(result)),
        Heading("Returns"),
        Table(*returns_table(result, result.headline)),
        Paragraph(
            "Return: undiscounted sum of rewards of an episode, averaged over the episodes of a "
            "task, then over tasks. In brackets: 95 % bootstrap intervals over tasks; ±: 1.96 "
            f"standard errors over tasks. {_caution(result)}"
        ),
        *_settling(result),
    ]
    if result.other is not None:
        blocks += [
            Heading(f"The same with {result.other.action_mode} actions"),
            Table(*returns_table(result, result.other)),
        ]
    scored = result.headline.normalised is not None
    blocks += [
        Heading("References"),
        *references(result.references, result.missing_references, scored),
        Heading("Plots"),
        *pictures,
    ]
    blocks += [Heading("Protocol"), *map(Paragraph, _protocol(result))]
    blocks += [
        Paragraph("Settings of the environment:"),
        Code(json.dumps(result.env_config, indent=1)),
        Heading("Made with"),
        Code(command),
        Table(["software", "version"], [[name, text] for name, text in versions.items()]),
    ]
    return blocks


def returns_table(result: EvaluationResult, mode: ModeResult) -> tuple[list[str], list[list[str]]]:
    """Header and one row a measurement; the normalised score only where there is one."""
    header = ["measured", "mean return [95 %]", "episodes used", "env steps used", "IQM [95 %]"]
    header += ["± 1.96 SE"] + (["normalised"] if mode.normalised else [])
    rows = []
    for k, used in enumerate(result.episodes_used):
        row = [
            step_name(result.x, k),
            estimate(mode.mean[k], mode.ci95[k]),
            f"{used}",
            f"{mode.env_steps_used[k]:,.0f}",
            estimate(mode.iqm[k], mode.iqm_ci95[k]),
            f"± {mode.se95[k]:.2f}",
        ]
        rows.append(row + ([f"{mode.normalised[k]:.2f}"] if mode.normalised else []))
    return header, rows


def _settling(result: EvaluationResult) -> list[Block]:
    """From which step of an episode on the reward stays near its final one."""
    if result.headline.settling_step is None:
        return []
    steps = [
        f"{step_name(result.x, k)} {'never' if step is None else f'from step {step}'}"
        for k, step in enumerate(result.headline.settling_step)
    ]
    words = (
        f"How fast within an episode: {', '.join(steps)}. That is the step, counted from 1, from "
        "which the mean reward over tasks stays within a tenth of the way from its first value to "
        "its final one (its mean over the last tenth of the episode)."
    )
    return [Paragraph(words)]


def _what_was_run(result: EvaluationResult) -> str:
    seeds = ", ".join(map(str, result.seeds))
    run = f"training seed {seeds}" if seeds else "no training seed"
    if result.checkpoint is not None:
        run += f", the checkpoint after {result.checkpoint} meta-iterations"
    return (
        f"{result.algorithm} on {result.env} ({run}), evaluated on {tasks_in_words(result)} with "
        f"{result.episodes_per_step} episodes of each task a measurement and "
        f"{result.headline.action_mode} actions."
        + (" AN ABLATION: the agent began anew instead of adapting." if result.forgets else "")
    )


def tasks_in_words(result: EvaluationResult) -> str:
    """E.g. "40 held-out tasks", or "12 tasks of velocities.csv"."""
    if result.split.startswith("tasks of "):
        return f"{len(result.tasks)} {result.split}"
    name = result.split.replace("_", "-").removesuffix(" tasks")
    return f"{len(result.tasks)} {name} tasks"


def verdict_words(result: EvaluationResult) -> str:
    helps = result.headline.adaptation_helps
    if helps is None:
        return "No adaptation step was measured."
    return f"{helps.verdict[0].upper()}{helps.verdict[1:]}"


def verdict_meaning(result: EvaluationResult) -> str:
    """What the verdict's numbers are."""
    if result.headline.adaptation_helps is None:
        return "The agent was measured as it was trained."
    names = [step_name(result.x, k) for k in (result.adaptation_steps, 0)]
    return f"Return {names[0]} minus {names[1]}: mean over tasks, paired by task, [95 % interval]."


def _caution(result: EvaluationResult) -> str:
    """What the intervals do not say."""
    words = (
        "The intervals are this agent's: they say what other tasks would change, not what "
        "another training seed would."
    )
    if len(result.tasks) < FEW_TASKS:
        words += f" With only {len(result.tasks)} tasks they are coarse."
    if result.split == "training tasks":
        words += " The distribution is finite, so these are the very tasks trained on."
    return words


def references(
    found: Mapping[str, Reference], missing_commands: Mapping[str, str], scored: bool
) -> list[Block]:
    """The section on the references: what was measured, what is missing, what would make it."""
    blocks: list[Block] = []
    if found:
        rows = [
            [name, REFERENCES.get(name, "a reference of the user's"), estimate(ref.mean, ref.ci95)]
            for name, ref in found.items()
        ]
        blocks.append(Table(["reference", "what it is", "mean return [95 %]"], rows))
    missing = [name for name in EXPECTED_REFERENCES if name not in found]
    if missing:
        named = "; ".join(f"{name} ({REFERENCES[name]})" for name in missing)
        words = f"Not measured for this environment: {named}."
        if ORACLE in missing or FLOOR in missing:
            words += " The normalised score needs oracle and multitask, so there is none."
        blocks.append(Paragraph(words))
    if missing_commands:
        commands = "\n".join(missing_commands.values())
        blocks += [Paragraph("What makes the references that are missing:"), Code(commands)]
    if not missing and not scored:
        blocks.append(
            Paragraph("The oracle is no better than the floor here: no normalised score.")
        )
    return blocks


def adaptation_words(result: EvaluationResult) -> str:
    """How the agent adapts, in words that fit its axis."""
    rounds = len(result.episodes_used)
    if result.x != "gradient_step":
        return (
            f"Each of {result.episodes_per_step} agents a task starts with an empty memory and "
            f"plays {rounds} consecutive episodes of the task, each of which is measured; its "
            "memory is all that it adapts."
        )
    sizes = ", ".join(f"{size:g}" for size in result.step_sizes)
    return (
        f"The agent starts every task from the same meta-parameters. In each of {rounds} "
        f"rounds it plays {result.episodes_per_step} fresh episodes of every task, which are "
        "measured, and then takes one gradient step from them for the next round"
        + (f" (step sizes {sizes})." if sizes else ".")
        + " Where actions are deterministic it adapts on stochastic episodes of their own, "
        "which are not measured."
    )


def _protocol(result: EvaluationResult) -> list[str]:
    paragraphs = [
        adaptation_words(result)
        + " Episodes and env steps used count the experience of one adapting agent before "
        "the measured episodes.",
        f"{tasks_words(result)} Resets are keyed by evaluation seed {result.evaluation_seed}, "
        "adaptation step, task and episode; both action modes face the same.",
        f"Intervals: {RESAMPLES:,} resamples of tasks; of the mean the wider of the expanded "
        "percentile and the studentized bootstrap, of the IQM (the mean of the middle half of the "
        "tasks) the former. Verdict: mean of the per-task differences; adaptation "
        "helps or hurts where the interval is clear of zero.",
    ]
    if result.headline.normalised is not None:
        paragraphs[-1] += " Normalised: (return − multitask) / (oracle − multitask)."
    return paragraphs


def tasks_words(result: EvaluationResult) -> str:
    """Where the tasks come from."""
    columns = ", ".join(result.task_columns)
    if result.split.startswith("tasks of "):
        return f"The tasks ({columns}) are the user's own, from {result.split[9:]}."
    return f"The tasks are fixed by the task distribution ({columns}) and depend on no seed."


def estimate(value: float, interval: tuple[float, float]) -> str:
    """E.g. "-3.11 [-3.53, -2.70]"."""
    decimals = 2 if abs(value) < 100 else 1
    return f"{value:.{decimals}f} [{interval[0]:.{decimals}f}, {interval[1]:.{decimals}f}]"
