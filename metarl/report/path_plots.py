"""Paths of an agent that moves in the plane, before and after adaptation."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from metarl.report.figures import GREY, SERIES, new_figure, number, panels, png
from metarl.report.words import step_name

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from metarl.evaluation.protocol import Evaluation

GOAL_COLUMNS = ("goal_x", "goal_y")


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


def spread_tasks(tasks: np.ndarray, count: int) -> np.ndarray:
    """Indices of a few tasks [n, d] that lie far apart; chosen by the tasks alone, not by returns.

    Starts with the task farthest from the middle, then takes the farthest from those taken.
    """
    distance = np.linalg.norm(tasks - tasks.mean(axis=0), axis=1)
    chosen: list[int] = []
    while len(chosen) < min(count, len(tasks)):
        chosen.append(int(distance.argmax()))
        to_last = np.linalg.norm(tasks - tasks[chosen[-1]], axis=1)
        distance = to_last if len(chosen) == 1 else np.minimum(distance, to_last)
        distance[chosen] = -1.0
    return np.array(chosen)


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
    figure = new_figure(panel_width * len(steps), panel_width + 1.3, compress=True)
    axes = panels(figure, len(steps), len(steps), sharex=True)
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

    star: dict[str, Any] = {"color": GREY, "mec": "black", "marker": "*", "linestyle": "", "ms": 13}
    handles = [
        Line2D([], [], color="black", marker="o", linestyle="", markersize=6, label="start"),
        Line2D([], [], color=GREY, linewidth=1.6, label="path of one episode"),
        Line2D([], [], mfc="white", mec=GREY, mew=2, marker="o", linestyle="", label="its end"),
        *([Line2D([], [], label="its goal", **star)] if with_goals else []),
    ]
    columns = len(handles) if figure.get_figwidth() > 8 else 2
    figure.legend(handles=handles, loc="outside lower center", ncols=columns)
