"""Training curves: return on training tasks against env steps and against wall-clock time."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from metarl.report.figures import (
    AFTER,
    BEFORE,
    GREY,
    legend_above,
    new_figure,
    save,
    series_colors,
    styled,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes

Lines = Sequence[Mapping[str, Any]]
"""Lines of a `metrics.jsonl`."""


@styled
def plot_training_curves(groups: Mapping[str, Sequence[Lines]], path: Path) -> None:
    """Return before and after adaptation, above against env steps, below against wall-clock time.

    One curve a run; runs of a group share a colour. The return axis is the same in both.

    Args:
        groups: Label -> the metrics of its runs, one a seed.
        path: Of the PNG.

    Raises:
        ValueError: No run has a line with returns.
    """
    runs = [(label, lines) for label, group in groups.items() for lines in group]
    if not has_returns(groups):
        raise ValueError("No run has returns in its metrics yet, so there is no curve to draw.")
    timed = all("wall_time_s" in line for _, lines in runs for line in lines)
    figure = new_figure(6.0, 6.8 if timed else 4.4)
    axes = figure.subplots(2 if timed else 1, 1, sharey=True, squeeze=False)[:, 0]
    longest = max(line["wall_time_s"] if timed else 0 for _, lines in runs for line in lines)
    unit, seconds = ("hours", 3600) if longest > 2 * 3600 else ("minutes", 60)
    window = 1
    for ax, key, scale in zip(axes, ("env_steps", "wall_time_s"), (1.0, 1 / seconds), strict=False):
        for label, color in zip(groups, series_colors(len(groups)), strict=True):
            for index, lines in enumerate(groups[label]):
                shown = label if index == 0 else "_"  # an underscore keeps out of the legend
                used = _draw(ax, lines, key, scale, None if len(groups) == 1 else color, shown)
                window = max(window, used)
    if len(groups) > 1:
        axes[0].plot([], [], "--", color=GREY, label="before adaptation, or first episode")
    from matplotlib.ticker import EngFormatter

    axes[0].xaxis.set_major_formatter(EngFormatter(sep=""))
    axes[0].set_xlabel("env steps of training")
    if timed:
        axes[1].set_xlabel(f"wall-clock time of training ({unit})")
    smoothed = f"\n(mean of {window} iterations)" if window > 1 else ""
    for ax in axes:
        ax.set_ylabel(f"mean return on\ntraining tasks{smoothed}")
        ax.set_xlim(left=0)
    legend_above(figure)
    save(figure, path)


def has_returns(groups: Mapping[str, Sequence[Lines]]) -> bool:
    """Whether there is a curve to draw."""
    return any(_return_keys(lines) for group in groups.values() for lines in group)


def read_metrics(path: Path) -> list[dict[str, Any]]:
    """The whole lines of a `metrics.jsonl`; a last line that is half-written is left out."""
    lines = path.read_text(encoding="utf-8").splitlines(keepends=True)
    return [json.loads(line) for line in lines if line.endswith("\n") and line.strip()]


def _draw(ax: Axes, lines: Lines, x: str, scale: float, color: str | None, label: str) -> int:
    """The curves of one run; without a colour of its group, before and after have their own.

    Returns the number of iterations in the moving mean.
    """
    window = 1
    for key, name, style in _return_keys(lines):
        points = [(line[x] * scale, line[key]) for line in lines if key in line]
        along, returns = np.array(points, dtype=np.float64).T
        window = max(len(returns) // 40, 1)
        smooth = np.convolve(returns, np.ones(window) / window, mode="valid")
        last = style == "-"
        if color is None:
            text = name if label != "_" else "_"
            shade = AFTER if last else BEFORE
        else:
            text, shade = label if last else "_", color
        ax.plot(
            along[window - 1 :], smooth, style, color=shade, label=text, lw=1.8 if last else 1.2
        )
    return window


def _return_keys(lines: Lines) -> list[tuple[str, str, str]]:
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
