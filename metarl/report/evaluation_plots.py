"""The plots of one evaluation: adaptation, reward within the episode, return by task, paths.

Before adaptation is always orange, after it always blue; references are grey.
"""

from __future__ import annotations

import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import cycle
from typing import TYPE_CHECKING, Any

import numpy as np

from metarl.evaluation.task_sets import spread_tasks
from metarl.report import figures
from metarl.report.figures import (
    AFTER,
    BEFORE,
    GREY,
    SERIES,
    in_legend,
    legend_above,
    new_figure,
    number,
    png,
    single_axes,
)
from metarl.report.words import mode_words, step_name

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from metarl.evaluation.measurements import Evaluation
    from metarl.evaluation.result import EvaluationResult, Reference

GOAL_COLUMNS = ("goal_x", "goal_y")


def ends(axis: str, steps: int) -> dict[int, tuple[str, str]]:
    """The first and the last of the measurements 0..K: their names and colours."""
    named = {0: (step_name(axis, 0), BEFORE)}
    return named | ({steps: (step_name(axis, steps), AFTER)} if steps else {})


@png
def plot_adaptation_curve(result: EvaluationResult) -> Figure:
    """Mean return against adaptation steps with its interval, both modes and the references.

    Of several evaluation seeds each one's mean is a small open point.
    """
    figure, ax = single_axes(6.0, 4.8)
    head, trained = result.headline, result.x == "env_steps"
    steps = np.array(head.env_steps_used) if trained else np.arange(result.adaptation_steps + 1)
    figures.interval_band(ax, steps, head.ci95, AFTER)
    label = in_legend(f"{result.algorithm}{mode_words(result)}")
    ax.plot(steps, head.mean, "o-", color=AFTER, label=label, markevery=max(len(steps) // 20, 1))
    if head.evaluation_seed_std is not None:
        means = np.array(head.evaluation_seed_means)  # [K+1, N]
        ax.plot(steps, means, "o", color="white", mec=AFTER, markersize=4, zorder=4)
    if result.other is not None:
        label = in_legend(f"{result.algorithm}, {result.other.action_mode}")
        ax.plot(steps, result.other.mean, "s--", color=figures.SKY, label=label, markersize=5)
    if trained:
        ax.set_xlabel("env steps of training, of each task")
    elif result.x == "episode":
        ax.set_xticks(steps, [f"{k + 1}" for k in steps])
        ax.set_xlabel("episode of the trial")
    else:
        ax.set_xticks(steps, [f"{k}\n({used})" for k, used in enumerate(result.episodes_used)])
        kind = "gradient" if result.x == "gradient_step" else "adaptation"
        ax.set_xlabel(f"{kind} steps\n({result.by.experience} used before)")
    ax.set_xmargin(0.04)
    ax.set_ylabel(figures.mean_label(result.by, head.ci95, trained=trained))
    figures.bayes_adaptive_line(ax, result.bayes_optimal)
    figures.adaptive_references(ax, result.adaptive_references, steps)
    figures.label_lines(ax, {name: ref.mean for name, ref in result.references.items()})
    legend_above(figure)
    return figure


@png
def plot_reward_within_episode(evaluation: Evaluation) -> Figure:
    """Mean reward at each time step of an episode, before and after adaptation."""
    assert evaluation.rewards is not None
    figure, ax = single_axes(6.0, 4.4)
    steps = np.arange(1, evaluation.rewards.shape[2] + 1)
    for k, (name, color) in ends(evaluation.adaptation_axis, evaluation.adaptation_steps).items():
        rewards = evaluation.rewards[k]  # [n, T]
        mean = rewards.mean(axis=0)
        if len(rewards) > 1:
            half = 1.96 * rewards.std(axis=0, ddof=1) / np.sqrt(len(rewards))
            ax.fill_between(steps, mean - half, mean + half, color=color, alpha=0.2, linewidth=0)
        ax.plot(steps, mean, color=color, label=name)
    ax.set_xmargin(0.02)
    ax.set_xlabel("time step of the episode (finished episodes count 0)")
    ax.set_ylabel("mean reward" + " ± 1.96 SE over tasks" * (len(evaluation.tasks) > 1))
    legend_above(figure)
    return figure


@dataclass(frozen=True)
class Series:
    """The returns of one agent at one measurement.

    Attributes:
        name: Lines of text.
        returns: Mean return of each task, [n].
        errors: Length of each task's bar, [n], or below and above it, [2, n].
        color: Of its line.
        marker: Of its points.
    """

    name: str
    returns: np.ndarray
    errors: np.ndarray | None
    color: str
    marker: str


@png
def plot_return_by_task(result: EvaluationResult, evaluation: Evaluation | None = None) -> Figure:
    """Return against the task parameter before and after adaptation.

    One-dimensional tasks: return against the parameter, with ± 1.96 standard errors over the
    episodes of a task, or over its means by several evaluation seeds. Two-dimensional ones: two
    maps of the tasks on one colour scale.

    Args:
        result: Of the evaluation.
        evaluation: The episodes behind its headline mode, for the intervals.

    Raises:
        ValueError: Tasks of more than two dimensions.
    """
    series = []
    by_seed = len(result.evaluation_seeds) > 1
    measured = ends(result.x, result.adaptation_steps).items()
    for (k, (name, color)), marker in zip(measured, "so", strict=False):
        errors = None
        if evaluation is not None:
            drawn = evaluation.seed_returns if by_seed else evaluation.returns
            errors = _standard_errors(drawn[k])
        series.append(Series(name, np.array(result.headline.returns[k]), errors, color, marker))
    bars = f"± 1.96 SE over {'evaluation seeds' if by_seed else result.by.samples}"
    return by_task(result, series, bars, result.references)


@png
def plot_task_histogram(result: EvaluationResult) -> Figure:
    """How many tasks were measured how well, before and after adaptation."""
    figure, ax = single_axes(6.0, 4.2)
    returns = result.headline.returns
    bins = np.histogram_bin_edges(np.concatenate([returns[0], returns[-1]]), 20).tolist()
    for k, (name, color) in ends(result.x, result.adaptation_steps).items():
        ax.hist(returns[k], bins, color=color, alpha=0.6, label=name)
    ax.set_xlabel(f"mean {result.by.noun} of a task")
    ax.set_ylabel("tasks")
    legend_above(figure)
    return figure


def _standard_errors(returns: np.ndarray) -> np.ndarray | None:
    """1.96 standard errors over a task's repetitions, [n, B] -> [n]; None for one."""
    count = returns.shape[1]
    return 1.96 * returns.std(axis=1, ddof=1) / np.sqrt(count) if count > 1 else None


def by_task(
    result: EvaluationResult,
    series: Sequence[Series],
    bars: str,
    references: Mapping[str, Reference],
) -> Figure:
    """One pair of axes for tasks of one dimension, a map a series for those of two.

    Args:
        result: Knows the tasks.
        series: In the order of the legend, or of the panels.
        bars: What the errors are.
        references: Drawn beside the series where tasks have one dimension.

    Raises:
        ValueError: Tasks of more than two dimensions.
    """
    labels = [
        f"{column.replace('_', ' ')} ({unit})" if unit else column.replace("_", " ")
        for column, unit in zip(result.task_columns, result.task_units, strict=True)
    ]
    tasks = np.array(result.tasks)  # [n, d]
    if len(labels) == 2:
        return _maps(result, labels, series)
    if len(labels) != 1:
        raise ValueError(f"No plot shows tasks of {len(labels)} dimensions; 1 or 2 can be.")
    parameter = tasks[:, 0]
    figure, ax = single_axes(6.0, 4.6)
    order = np.argsort(parameter)
    joined = "-" if len(parameter) > 5 else ""
    for each in series:
        ax.errorbar(
            parameter[order],
            each.returns[order],
            yerr=None if each.errors is None else each.errors[..., order],
            fmt=f"{each.marker}{joined}",
            color=each.color,
            label=in_legend(each.name.replace("\n", ", ")),
            markersize=4.5,
            linewidth=1.2,
            elinewidth=0.8,
        )
    styles = cycle(figures.REFERENCE_STYLES)
    for (name, reference), style in zip(references.items(), styles, strict=False):
        returns, label = np.array(reference.returns)[order], name.replace("_", " ")
        ax.plot(parameter[order], returns, color=GREY, ls=style, lw=1.4, label=label)
    ax.set_xlabel(f"task: {labels[0]}")
    has_bars = any(each.errors is not None for each in series)
    ax.set_ylabel(f"mean {result.by.noun} of the task" + (f"\n(bars: {bars})" if has_bars else ""))
    legend_above(figure)
    return figure


def _maps(result: EvaluationResult, labels: Sequence[str], series: Sequence[Series]) -> Figure:
    """A panel a series, coloured by return on one scale; equal where both axes have one unit."""
    tasks, equal = np.array(result.tasks), len(set(result.task_units)) == 1
    columns = min(len(series), 3)
    panel = 4.1 / columns  # of 6 inches, beside labels and colour bar
    figure = new_figure(6.0, -(-len(series) // columns) * (panel + 1.0) + 0.4, compress=True)
    axes = figures.panels(figure, len(series), columns, sharex=True)
    values = np.stack([each.returns for each in series])
    for index, (ax, each) in enumerate(zip(axes, series, strict=True)):
        points = ax.scatter(
            tasks[:, 0],
            tasks[:, 1],
            c=each.returns,
            s=min(90.0, 9000.0 / len(tasks)),
            cmap="viridis",
            vmin=values.min(),
            vmax=values.max(),
            edgecolors="#333333",
            linewidths=0.6,
        )
        lines = [textwrap.fill(line, 54 // columns) for line in each.name.split("\n")]
        ax.set_title("\n".join([*lines, f"mean {number(each.returns.mean())}"]), fontsize=10)
        if index + columns >= len(series):
            ax.set_xlabel(labels[0])
            ax.tick_params(labelbottom=True)
        if index % columns == 0:
            ax.set_ylabel(labels[1])
        ax.margins(0.1)
        if equal:
            ax.set_aspect("equal", adjustable="box")
    figure.colorbar(points, ax=axes, label=f"mean {result.by.noun} of the task", pad=0.02)
    return figure


@png
def plot_paths(evaluation: Evaluation) -> Figure:
    """Paths of one episode of a few tasks, before and after adaptation."""
    return _path_panels(evaluation, sorted({0, evaluation.adaptation_steps}), 3.1)


@png
def plot_adaptation_picture(evaluation: Evaluation) -> Figure:
    """One wide picture: paths before adaptation, then after each step, for the same few tasks."""
    return _path_panels(evaluation, range(evaluation.adaptation_steps + 1), 3.2)


def goals_of(evaluation: Evaluation) -> np.ndarray | None:
    """Positions of the goals [n, 2] where the tasks are goals; other tasks are no places."""
    return evaluation.tasks if evaluation.task_columns == GOAL_COLUMNS else None


def square_window(paths: np.ndarray, goals: np.ndarray | None) -> tuple[np.ndarray, float]:
    """Middle [2] and half the width of a square that holds paths [..., 2] and goals [p, 2]."""
    points = paths.reshape(-1, 2)
    points = points if goals is None else np.concatenate([points, goals])
    low, high = np.nanmin(points, axis=0), np.nanmax(points, axis=0)
    return (low + high) / 2, max(float((high - low).max()) / 2, 1e-6) * 1.12


def _path_panels(evaluation: Evaluation, steps: Sequence[int], panel_width: float) -> Figure:
    if evaluation.paths is None:
        raise ValueError("This environment has no position, so there are no paths to draw.")
    shown, goals = spread_tasks(evaluation.tasks, len(SERIES)), goals_of(evaluation)
    paths = evaluation.paths[:, shown]  # [K+1, p, T+1, 2]
    width = max(panel_width * len(steps), 4.8)  # of one panel, what the legend needs
    figure = new_figure(width, panel_width + 1.3, compress=True)
    axes = figures.panels(figure, len(steps), len(steps), sharex=True)
    means = evaluation.task_returns.mean(axis=1)
    for ax, k in zip(axes, steps, strict=True):
        for i, (task, color) in enumerate(zip(shown, SERIES, strict=False)):
            _path(ax, paths[k, i], None if goals is None else goals[task], color)
        title = step_name(evaluation.adaptation_axis, k)
        ax.set_title(
            f"{title}\nmean return {number(means[k])}\n{evaluation.episodes_used[k]} episodes used",
            fontsize=12,
        )
        ax.set_aspect("equal", adjustable="box")
        ax.set_xlabel("x (m)")
        ax.locator_params(nbins=5)
    axes[0].set_ylabel("y (m)")
    (x, y), half = square_window(paths[steps], None if goals is None else goals[shown])
    axes[0].set_xlim(x - half, x + half)
    axes[0].set_ylim(y - half, y + half)
    _path_legend(figure, goals is not None)
    return figure


def _path(ax: Axes, path: np.ndarray, goal: np.ndarray | None, color: str) -> None:
    visited = path[np.isfinite(path).all(axis=1)]
    ax.plot(*visited.T, color=color, linewidth=1.2, alpha=0.7, zorder=2)
    if goal is not None:
        ax.plot(*goal, "*", color=color, markersize=17, mec="black", zorder=3)
    ax.plot(*visited[0], "o", color="black", markersize=6, zorder=4)
    ax.plot(*visited[-1], "o", color="white", mec=color, mew=2, markersize=7, zorder=5)


def _path_legend(figure: Figure, with_goals: bool) -> None:
    from matplotlib.lines import Line2D

    star: dict[str, Any] = {
        "color": GREY,
        "mec": "black",
        "marker": "*",
        "linestyle": "",
        "ms": 13,
    }
    handles = [
        Line2D([], [], color="black", marker="o", linestyle="", markersize=6, label="start"),
        Line2D([], [], color=GREY, linewidth=1.6, label="path of one episode"),
        Line2D([], [], mfc="white", mec=GREY, mew=2, marker="o", linestyle="", label="its end"),
        *([Line2D([], [], label="its goal", **star)] if with_goals else []),
    ]
    columns = len(handles) if figure.get_figwidth() > 8 else 2
    figure.legend(handles=handles, loc="outside lower center", ncols=columns)
