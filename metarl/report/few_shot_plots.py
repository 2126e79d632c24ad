"""The plots of few-shot learning: fitted functions, predicted images, reliability."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np

from metarl.report import figures
from metarl.report.evaluation_plots import ends
from metarl.report.figures import AFTER, BEFORE, BLACK, GREEN, GREY, SERIES, VERMILLION, png

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from metarl.evaluation.calibration import Calibration
    from metarl.evaluation.measurements import Evaluation

MOST_WAYS, MOST_QUERIES = 10, 3


@png
def plot_functions(evaluation: Evaluation) -> Figure:
    """Functions of one number as they are and as predicted before and after, from few points."""
    shown = evaluation.shown
    assert shown is not None
    assert shown.grid is not None
    assert shown.curves is not None
    figure = figures.new_figure(6.4, 5.4)
    axes = figures.panels(figure, len(shown.inputs), 2, sharex=True)
    for m, ax in enumerate(axes):
        if shown.truth is not None:
            ax.plot(shown.grid, shown.truth[m], "--", color=GREY, label="the function", lw=1.4)
        for k, (name, color) in ends(evaluation.adaptation_axis, len(shown.curves) - 1).items():
            ax.plot(shown.grid, shown.curves[k, m], color=color, label=name)
        points = shown.inputs[m, :, 0], shown.targets[m, :, 0]
        ax.plot(*points, "^", color=BLACK, markersize=6, label="support points", zorder=4)
        columns = zip(evaluation.task_columns, evaluation.tasks[m], strict=True)
        ax.set_title(", ".join(f"{name} {value:.2f}" for name, value in columns), fontsize=10)
    figure.supxlabel("input", fontsize=11)
    figure.supylabel("target", fontsize=11)
    figures.legend_above(figure)
    return figure


@png
def plot_predictions(evaluation: Evaluation) -> Figure:
    """The images of the first task: a support image of each class, and query images below.

    Above a query image stand the class that was predicted after the last step and its probability,
    green where it is right.
    """
    shown, few_shot = evaluation.shown, evaluation.few_shot
    assert shown is not None
    assert few_shot is not None
    ways = min(few_shot.ways, MOST_WAYS)
    queries = min(shown.query_inputs.shape[1] // few_shot.ways, MOST_QUERIES)
    figure = figures.new_figure(1.05 * ways + 0.6, 1.25 * (queries + 1) + 0.5)
    axes = figures.panels(figure, ways * (queries + 1), ways)
    for c in range(ways):
        _image(axes[c], shown.inputs[0, shown.targets[0] == c][0])
        axes[c].set_title(f"class {c + 1}", fontsize=10)
        for row, q in enumerate(np.flatnonzero(shown.query_targets[0] == c)[:queries], 1):
            ax = axes[row * ways + c]
            _image(ax, shown.query_inputs[0, q])
            best, sure = int(shown.predictions[-1, 0, q]), shown.confidence[-1, 0, q]
            right = best == c
            ax.set_title(
                f"{'✓' if right else '✗'} {best + 1}: {sure:.2f}",
                fontsize=10,
                color=GREEN if right else VERMILLION,
            )
    axes[0].set_ylabel("support", fontsize=11)
    axes[ways].set_ylabel("query", fontsize=11)
    return figure


def _image(ax: Axes, image: np.ndarray) -> None:
    """One image [channels, height, width], of the first channel or in colours."""
    pixels = image.transpose(1, 2, 0) if len(image) == 3 else image[0]
    ax.imshow(pixels, cmap="gray", vmin=0.0, vmax=1.0, aspect="equal")
    ax.set(xticks=[], yticks=[])
    ax.grid(visible=False)


@png
def plot_reliability(calibrations: Mapping[str, Calibration]) -> Figure:
    """How often predictions are right against their confidence; on the diagonal they keep it.

    Areas of points grow with the numbers of predictions.

    Args:
        calibrations: Label ↦ what to draw.
    """
    figure, ax = figures.single_axes(5.4, 5.4)
    ax.plot([0, 1], [0, 1], "--", color=GREY, linewidth=1.2, zorder=1)
    colors = (BEFORE, AFTER) if len(calibrations) == 2 else SERIES
    for index, (label, found) in enumerate(calibrations.items()):
        bins = [b for b, count in enumerate(found.counts) if count]
        x, y = ([float(row[b] or 0.0) for b in bins] for row in (found.confidence, found.accuracy))
        share = np.array(found.counts)[bins] / sum(found.counts)
        color = colors[index % len(colors)]
        ax.plot(x, y, color=color, linewidth=1.2, label=f"{label}: error {found.error:.3f}")
        ax.scatter(x, y, 20 + 300 * share, color=color, zorder=3)
    ax.set(xlim=(0, 1.03), ylim=(0, 1.03), aspect="equal")
    ax.set_xlabel("confidence: probability of the predicted class")
    ax.set_ylabel("share of predictions that are right")
    figures.legend_above(figure)
    return figure
