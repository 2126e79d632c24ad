"""Plots of the paths of an agent that moves in the plane, before and after adaptation."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from metarl.report.figures import GREY, SERIES, new_figure, number, save, step_name, styled

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from metarl.evaluation.protocol import Evaluation


@styled
def plot_paths(evaluation: Evaluation, path: Path, goals: np.ndarray | None = None) -> None:
    """Paths of one episode of a few tasks, before and after adaptation.

    Args:
        evaluation: With paths.
        path: Of the PNG.
        goals: Position of each task's goal [n, 2], where tasks are goals.
    """
    _path_panels(evaluation, path, sorted({0, evaluation.adaptation_steps}), goals, 3.1)


@styled
def plot_adaptation_picture(
    evaluation: Evaluation, path: Path, goals: np.ndarray | None = None
) -> None:
    """One wide picture: paths before adaptation, then after each step, for the same few tasks."""
    _path_panels(evaluation, path, range(evaluation.adaptation_steps + 1), goals, 3.2)


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


def _path_panels(
    evaluation: Evaluation,
    path: Path,
    steps: Sequence[int],
    goals: np.ndarray | None,
    panel_width: float,
) -> None:
    if evaluation.paths is None:
        raise ValueError("This environment has no position, so there are no paths to draw.")
    shown = spread_tasks(evaluation.tasks, len(SERIES))
    paths = evaluation.paths[:, shown]  # [K+1, p, T+1, 2]
    figure = new_figure(panel_width * len(steps), panel_width + 1.3, compress=True)
    axes = figure.subplots(1, len(steps), sharex=True, sharey=True, squeeze=False)[0]
    means = evaluation.task_returns.mean(axis=1)
    for ax, k in zip(axes, steps, strict=True):
        for i, (task, color) in enumerate(zip(shown, SERIES, strict=False)):
            visited = paths[k, i][np.isfinite(paths[k, i]).all(axis=1)]
            ax.plot(*visited.T, color=color, linewidth=1.2, alpha=0.7, zorder=2)
            if goals is not None:
                ax.plot(*goals[task], "*", color=color, markersize=17, mec="black", zorder=3)
            ax.plot(*visited[0], "o", color="black", markersize=6, zorder=4)
            ax.plot(*visited[-1], "o", color="white", mec=color, mew=2, markersize=7, zorder=5)
        title = step_name(evaluation.adaptation_axis, k)
        ax.set_title(
            f"{title}\nmean return {number(means[k])}\n{evaluation.episodes_used[k]} episodes used",
            fontsize=12,
        )
        ax.set_aspect("equal", adjustable="box")
        ax.set_xlabel("x (m)")
        ax.locator_params(nbins=5)
    axes[0].set_ylabel("y (m)")
    _fit_to_paths(axes[0], paths[steps], None if goals is None else goals[shown])
    _path_legend(figure, goals is not None)
    save(figure, path)


def _fit_to_paths(ax: Axes, paths: np.ndarray, goals: np.ndarray | None) -> None:
    """One square window that holds all paths and goals shown."""
    points = paths.reshape(-1, 2)
    points = points[np.isfinite(points).all(axis=1)]
    if goals is not None:
        points = np.concatenate([points, goals])
    low, high = points.min(axis=0), points.max(axis=0)
    middle, half = (low + high) / 2, max((high - low).max() / 2, 1e-6) * 1.12
    ax.set_xlim(middle[0] - half, middle[0] + half)
    ax.set_ylim(middle[1] - half, middle[1] + half)


def _path_legend(figure: Figure, with_goals: bool) -> None:
    from matplotlib.lines import Line2D

    handles = [
        Line2D([], [], color="black", marker="o", linestyle="", markersize=6, label="start"),
        Line2D([], [], color=GREY, linewidth=1.6, label="path of one episode"),
        Line2D([], [], mfc="white", mec=GREY, mew=2, marker="o", linestyle="", label="its end"),
    ]
    if with_goals:
        handles.append(
            Line2D(
                [], [], color=GREY, mec="black", marker="*", linestyle="", ms=13, label="its goal"
            )
        )
    figure.legend(
        handles=handles,
        loc="outside lower center",
        ncols=len(handles) if figure.get_figwidth() > 8 else 2,
    )
