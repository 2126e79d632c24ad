"""How an agent's belief about its task narrows within a trial, for tasks of one or two numbers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from metarl.evaluation.beliefs import Beliefs, held_by
from metarl.report import figures
from metarl.report.figures import GREY, VERMILLION, new_figure, png

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.colors import Normalize
    from matplotlib.figure import Figure

    from metarl.evaluation.measurements import Evaluation

_MOMENTS = 5  # of the first episode
_MOST_TASKS = 3  # of two numbers, a row of maps each
_SHARE = 0.95
_COLORS = "Blues"


@png
def plot_beliefs(evaluation: Evaluation) -> Figure:
    """The probability of each task that the agent tells of, in a few of the evaluation's tasks.

    One-dimensional tasks: a panel a task, time across the whole trial. Two-dimensional ones: maps
    at moments of the first episode and at the start of the second.

    Raises:
        ValueError: the agent told no beliefs.
    """
    if evaluation.beliefs is None:
        raise ValueError("This agent tells no beliefs about its tasks.")
    draw = _over_time if evaluation.beliefs.points.shape[1] == 1 else _maps
    return draw(evaluation, evaluation.beliefs)


def moments(lengths: Sequence[int]) -> list[tuple[int, int]]:
    """(episode, step) of the maps: spread over the first episode; then the second one's start.

    Args:
        lengths: Steps of each episode.
    """
    steps = np.unique(np.linspace(0, lengths[0] - 1, _MOMENTS).round().astype(int))
    return [(0, int(t)) for t in steps] + [(1, 0)] * (len(lengths) > 1)


def _over_time(evaluation: Evaluation, beliefs: Beliefs) -> Figure:
    """Tasks of one number: a panel each, the trial's steps across, the number up."""
    shown = len(beliefs.tasks)
    figure = new_figure(7.0, 1.5 * shown + 0.9)
    axes = figures.panels(figure, shown, 1, sharex=True)
    points = beliefs.points[:, 0]
    half = (points.max() - points.min()) / max(len(points) - 1, 1) / 2
    for i, ax in enumerate(axes):
        episodes = [
            row[:length]
            for row, length in zip(beliefs.probabilities[:, i], beliefs.lengths[:, i], strict=True)
        ]
        trial = np.concatenate(episodes)  # [steps, C]
        area = (0.5, len(trial) + 0.5, points.min() - half, points.max() + half)
        image = ax.imshow(
            trial.T, origin="lower", aspect="auto", extent=area, cmap=_COLORS, norm=_norm()
        )
        ax.axhline(evaluation.tasks[beliefs.tasks[i], 0], color=VERMILLION, lw=1.2, ls="--")
        for end in np.cumsum([len(e) for e in episodes])[:-1]:
            ax.axvline(end + 0.5, color=GREY, lw=1.0)
        ax.grid(visible=False)
    column, unit = evaluation.task_columns[0].replace("_", " "), evaluation.task_units[0]
    figure.supylabel(f"{column} ({unit})" if unit else column, fontsize=11)
    axes[-1].set_xlabel("step of the trial (grey: a new episode; dashed: the true task)")
    figure.colorbar(image, ax=axes, label=f"probability of each of {len(points)} cells", pad=0.02)
    return figure


def _maps(evaluation: Evaluation, beliefs: Beliefs) -> Figure:
    """Tasks of two numbers: a row of maps each."""
    rows = min(len(beliefs.tasks), _MOST_TASKS)
    columns = max(len(moments(lengths)) for lengths in beliefs.lengths.T[:rows].tolist())
    figure = new_figure(1.75 * columns + 1.0, 2.15 * rows + 0.6, compress=True)
    grid = figure.subplots(rows, columns, squeeze=False, sharex=True, sharey=True)
    across = max(len(np.unique(x.round(9))) for x in beliefs.points.T)
    size = (0.85 * 1.5 * 72 / across) ** 2  # points², so that the squares nearly meet
    for i in range(rows):
        when = moments(beliefs.lengths[:, i].tolist())
        for ax in grid[i, len(when) :]:
            ax.set_visible(False)
        for ax, (episode, t) in zip(grid[i], when, strict=False):
            now = beliefs.probabilities[episode, i, t]
            points = ax.scatter(
                *beliefs.points.T, c=now, s=size, marker="s", cmap=_COLORS, norm=_norm()
            )
            ax.plot(*evaluation.tasks[beliefs.tasks[i]], "*", color=VERMILLION, ms=9, mec="white")
            _title(ax, episode, t, int(held_by(now, _SHARE)), len(now))
    labels = [
        f"{column.replace('_', ' ')} ({unit})" if unit else column.replace("_", " ")
        for column, unit in zip(evaluation.task_columns, evaluation.task_units, strict=True)
    ]
    figure.supxlabel(f"{labels[0]}; the star is the true task", fontsize=11)
    figure.supylabel(labels[1], fontsize=11)
    figure.colorbar(points, ax=grid, label="probability", pad=0.02)
    return figure


def _title(ax: Axes, episode: int, t: int, held: int, cells: int) -> None:
    ax.set_title(f"episode {episode + 1}, step {t + 1}\n95 % in {held} of {cells}", fontsize=8.5)
    ax.set_aspect("equal", adjustable="box")
    ax.margins(0.12)
    ax.grid(visible=False)
    ax.set_facecolor("#f4f4f4")


def _norm() -> Normalize:
    """One scale for all panels, on which a hundredth is still seen."""
    from matplotlib.colors import PowerNorm

    return PowerNorm(0.4, vmin=0.0, vmax=1.0)
