"""The plots of an evaluation: each function takes data and the path of the PNG that it writes.

Before adaptation is always orange, after it always blue; references are grey.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from metarl.evaluation.figures import (
    AFTER,
    BEFORE,
    GREY,
    REFERENCE_STYLES,
    SERIES,
    SKY,
    legend_above,
    new_figure,
    number,
    save,
    single_axes,
    step_name,
    styled,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from metarl.evaluation.protocol import Evaluation
    from metarl.evaluation.result import EvaluationResult


@styled
def plot_adaptation_curve(result: EvaluationResult, path: Path) -> None:
    """Mean return against adaptation steps with its interval, both modes and the references."""
    figure, ax = single_axes(8.0, 5.0)
    head, steps = result.headline, np.arange(result.adaptation_steps + 1)
    low, high = np.array(head.ci95).T
    ax.fill_between(steps, low, high, color=AFTER, alpha=0.2, linewidth=0)
    label = f"{result.algorithm}, {head.action_mode}"
    ax.plot(steps, head.mean, "o-", color=AFTER, label=label)
    if result.other is not None:
        label = f"{result.algorithm}, {result.other.action_mode}"
        ax.plot(steps, result.other.mean, "s--", color=SKY, label=label, markersize=5)
    _reference_lines(ax, {name: ref.mean for name, ref in result.references.items()})
    ax.set_xticks(steps, [f"{k}\n({used})" for k, used in enumerate(result.episodes_used)])
    ax.set_xmargin(0.04)
    unit = "gradient steps" if result.x == "gradient_step" else "episodes in memory"
    ax.set_xlabel(f"{unit}\n(episodes of experience used before)")
    ax.set_ylabel("mean return over tasks (band: 95 % interval)")
    legend_above(figure)
    save(figure, path)


@styled
def plot_return_by_task(result: EvaluationResult, path: Path) -> None:
    """Return against the task parameter before and after adaptation.

    One-dimensional tasks: return against the parameter. Two-dimensional ones: two maps of the
    tasks on one colour scale.

    Raises:
        ValueError: Tasks of more than two dimensions.
    """
    tasks = np.array(result.tasks)  # [n, d]
    ends = sorted({0, result.adaptation_steps})
    returns = np.array(result.headline.returns)[ends]  # [2, n]: before, after
    named = zip(result.task_columns, result.task_units, strict=True)
    labels = [f"{column} ({unit})" if unit else column for column, unit in named]
    names = [step_name(result.x, k) for k in ends]
    if tasks.shape[1] == 1:
        references = {name: np.array(ref.returns) for name, ref in result.references.items()}
        _returns_on_a_line(tasks[:, 0], labels[0], returns, names, references, path)
    elif tasks.shape[1] == 2:
        equal = len(set(result.task_units)) == 1
        _returns_on_a_map(tasks, labels, returns, names, equal, path)
    else:
        raise ValueError(f"No plot shows tasks of {tasks.shape[1]} dimensions; 1 or 2 can be.")


@styled
def plot_reward_within_episode(evaluation: Evaluation, path: Path) -> None:
    """Mean reward at each time step of an episode, before and after adaptation."""
    figure, ax = single_axes(8.0, 4.6)
    steps = np.arange(1, evaluation.rewards.shape[2] + 1)
    for k, color in {0: BEFORE, evaluation.adaptation_steps: AFTER}.items():
        rewards = evaluation.rewards[k]  # [n, T]
        mean = rewards.mean(axis=0)
        half = 1.96 * rewards.std(axis=0, ddof=1) / np.sqrt(len(rewards))
        ax.fill_between(steps, mean - half, mean + half, color=color, alpha=0.2, linewidth=0)
        ax.plot(steps, mean, color=color, label=step_name(evaluation.adaptation_axis, k))
    ax.set_xmargin(0.02)
    ax.set_xlabel("time step of the episode (finished episodes count 0)")
    ax.set_ylabel("mean reward ± 1.96 SE over tasks")
    legend_above(figure)
    save(figure, path)


@styled
def plot_training_curves(runs: Mapping[str, Sequence[Mapping[str, Any]]], path: Path) -> None:
    """Return before and after adaptation on training tasks against env steps, for each run.

    Args:
        runs: Label of the run -> lines of its `metrics.jsonl`.
        path: Of the PNG.

    Raises:
        ValueError: No run has a line with returns.
    """
    figure, ax = single_axes(8.0, 5.0)
    window = 1
    for (label, lines), color in zip(runs.items(), _cycle(SERIES, len(runs)), strict=True):
        for key, name, style in _return_keys(lines):
            points = [(line["env_steps"], line[key]) for line in lines if key in line]
            env_steps, returns = np.array(points, dtype=np.float64).T
            window = max(len(returns) // 40, 1)
            if len(runs) == 1:
                color, text = (BEFORE if style == "--" else AFTER), name
            else:
                text = label if style == "-" else "_"  # an underscore keeps out of the legend
            if window > 1:
                ax.plot(env_steps, returns, style, color=color, alpha=0.2, linewidth=1.0)
            smooth = np.convolve(returns, np.ones(window) / window, mode="valid")
            ax.plot(env_steps[window - 1 :], smooth, style, color=color, label=text)
    if not ax.lines:
        raise ValueError("No run has returns in its metrics yet, so there is no curve to draw.")
    if len(runs) > 1:
        ax.plot([], [], "--", color=GREY, label="the same before adaptation")
    from matplotlib.ticker import EngFormatter

    ax.xaxis.set_major_formatter(EngFormatter(sep=""))
    ax.set_xlabel("env steps of training")
    smoothed = f"\n(mean of {window} iterations)" if window > 1 else ""
    ax.set_ylabel(f"mean return on training tasks{smoothed}")
    legend_above(figure)
    save(figure, path)


def read_metrics(path: Path) -> list[dict[str, Any]]:
    """The whole lines of a `metrics.jsonl`; a last line that is half-written is left out."""
    lines = path.read_text(encoding="utf-8").splitlines(keepends=True)
    return [json.loads(line) for line in lines if line.endswith("\n") and line.strip()]


def _returns_on_a_line(
    parameter: np.ndarray,
    label: str,
    returns: np.ndarray,
    names: Sequence[str],
    references: Mapping[str, np.ndarray],
    path: Path,
) -> None:
    figure, ax = single_axes(8.0, 4.6)
    order = np.argsort(parameter)
    joined = "-" if len(parameter) > 5 else ""
    for row, name, color, marker in zip(returns, names, (BEFORE, AFTER), "so", strict=False):
        style = f"{marker}{joined}"
        ax.plot(
            parameter[order],
            row[order],
            style,
            color=color,
            label=name,
            markersize=5,
            linewidth=1.2,
        )
    for (name, row), style in zip(
        references.items(), _cycle(REFERENCE_STYLES, len(references)), strict=True
    ):
        ax.plot(parameter[order], row[order], color=GREY, linestyle=style, label=name)
    ax.set_xlabel(f"task: {label}")
    ax.set_ylabel("mean return of the task")
    legend_above(figure)
    save(figure, path)


def _returns_on_a_map(
    tasks: np.ndarray,
    labels: Sequence[str],
    returns: np.ndarray,
    names: Sequence[str],
    equal: bool,
    path: Path,
) -> None:
    figure = new_figure(8.0, 4.2, compress=True)
    axes = figure.subplots(1, len(names), sharex=True, sharey=True, squeeze=False)[0]
    for ax, row, name in zip(axes, returns, names, strict=True):
        points = ax.scatter(
            *tasks.T,
            c=row,
            s=110,
            cmap="viridis",
            vmin=returns.min(),
            vmax=returns.max(),
            edgecolors="#333333",
            linewidths=0.6,
        )
        ax.set_title(f"{name}\nmean return {number(row.mean())}", fontsize=12)
        ax.set_xlabel(labels[0])
        ax.margins(0.1)
        if equal:
            ax.set_aspect("equal", adjustable="box")
    axes[0].set_ylabel(labels[1])
    figure.colorbar(points, ax=list(axes), label="mean return of the task", pad=0.02)
    save(figure, path)


def _reference_lines(ax: Axes, references: Mapping[str, float]) -> None:
    styles = _cycle(REFERENCE_STYLES, len(references))
    for (name, value), style in zip(references.items(), styles, strict=True):
        ax.axhline(
            value, color=GREY, linestyle=style, linewidth=1.6, label=f"{name}: {number(value)}"
        )


def _return_keys(lines: Sequence[Mapping[str, Any]]) -> list[tuple[str, str, str]]:
    """(metric, its name in words, line style): the first and the last return of adaptation."""
    keys = set().union(*lines) if lines else set()
    if "return/post" in keys:
        return [
            ("return/pre", "before adaptation", "--"),
            ("return/post", "after adaptation", "-"),
        ]
    numbers = sorted(int(k.rsplit("_", 1)[1]) for k in keys if k.startswith("return/episode_"))
    ends = sorted({numbers[0], numbers[-1]}) if numbers else []
    return [(f"return/episode_{n}", f"episode {n}", "-" if n == ends[-1] else "--") for n in ends]


def _cycle(items: Sequence[Any], count: int) -> list[Any]:
    return [items[i % len(items)] for i in range(count)]
