"""Training curves: return on training tasks against env steps and against wall-clock time."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from itertools import cycle
from typing import TYPE_CHECKING, Any

import numpy as np

from metarl.evaluation.measures import measured_by
from metarl.report import figures
from metarl.report.figures import AFTER, BEFORE, GREY, in_legend, png

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from metarl.evaluation.measures import Measure

_KEY = re.compile(r"(step|episode)_(\d{1,9})")

Lines = Sequence[Mapping[str, Any]]
"""Lines of a `metrics.jsonl`."""


@png
def plot_training_curves(groups: Mapping[str, Sequence[Lines]]) -> Figure:
    """Return before and after adaptation, above against env steps, below against wall-clock time.

    One curve a run; runs of a group share a colour. The return axis is the same in both.

    Args:
        groups: Label -> the metrics of its runs, one a seed.

    Raises:
        ValueError: No run has a line with returns.
    """
    runs = [(label, lines) for label, group in groups.items() for lines in group]
    if (by := curve_of(groups)) is None:
        raise ValueError("No run has returns in its metrics yet, so there is no curve to draw.")
    timed = all("wall_time_s" in line for _, lines in runs for line in lines)
    figure = figures.new_figure(6.0, 6.8 if timed else 4.4)
    axes = figures.panels(figure, 2 if timed else 1, 1)
    longest = max(line["wall_time_s"] if timed else 0 for _, lines in runs for line in lines)
    unit, seconds = ("hours", 3600) if longest > 2 * 3600 else ("minutes", 60)
    window = 1
    for ax, key, scale in zip(axes, ("env_steps", "wall_time_s"), (1.0, 1 / seconds), strict=False):
        for label, color in zip(groups, cycle(figures.SERIES), strict=False):
            for index, lines in enumerate(groups[label]):
                shown = "_" if index else in_legend(label)  # "_" keeps out of the legend
                used = _draw(ax, lines, key, scale, None if len(groups) == 1 else color, shown)
                window = max(window, used)
    if len(groups) > 1:
        axes[0].plot([], [], "--", color=GREY, label="before adaptation, or first episode")
    from matplotlib.ticker import EngFormatter

    axes[0].xaxis.set_major_formatter(EngFormatter(sep=""))
    axes[0].set_xlabel(f"{by.steps} of training")
    if timed:
        axes[1].set_xlabel(f"wall-clock time of training ({unit})")
    smoothed = f"\n(mean of {window} iterations)" if window > 1 else ""
    for ax in axes:
        ax.set_ylabel(f"mean {by.noun} on\ntraining tasks{smoothed}")
        ax.set_xlim(left=0)
    figures.legend_above(figure)
    return figure


def curve_of(groups: Mapping[str, Sequence[Lines]]) -> Measure | None:
    """What the curve is of; None if there is none to draw."""
    every = (line for group in groups.values() for lines in group for line in lines)
    return next((measured_by(line) for line in every if _ends(line)), None)


def _draw(ax: Axes, lines: Lines, x: str, scale: float, color: str | None, label: str) -> int:
    """The curves of one run; without a colour of its group, before and after have their own.

    Returns the number of iterations in the moving mean.
    """
    shown = [(line[x] * scale, ends) for line in lines if (ends := _ends(line))]
    if not shown:
        return 1
    along = np.array([place for place, _ in shown])
    window = max(len(shown) // 40, 1)
    names = list(shown[-1][1])
    for index, name in enumerate(names):
        returns = np.array([ends.get(name, np.nan) for _, ends in shown], dtype=np.float64)
        smooth = np.convolve(returns, np.ones(window) / window, mode="valid")
        last = index == len(names) - 1
        if color is None:
            text, shade = "_" if label == "_" else name, AFTER if last else BEFORE
        else:
            text, shade = label if last else "_", color
        style, width = ("-", 1.8) if last else ("--", 1.2)
        ax.plot(along[window - 1 :], smooth, style, color=shade, label=text, lw=width)
    return window


def _ends(line: Mapping[str, Any]) -> dict[str, float]:
    """The first and the last return of adaptation by their names in words, if the line has any.

    Before 0.2 gradient steps were called return/pre, return/step_1, … and return/post.
    """
    if (by := measured_by(line)) is None:
        return {}
    old = [line[key] for key in ("return/pre", "return/post") if key in line]
    ours = {key.partition("/")[2]: line[key] for key in line if key.startswith(f"{by.name}/")}
    named = [(int(n[2]), n[1], ours[key]) for key in ours if (n := _KEY.fullmatch(key))]
    found = sorted(named, key=lambda item: item[:2])
    if found and found[0][1] == "episode":
        return {f"episode {n}": value for n, _, value in (found[0], found[-1])}
    returns = old or [value for _, _, value in found]
    if not returns:
        return {}
    if len(returns) == 1 and found and found[0][0] > 0:
        return {"after adaptation": returns[0]}
    return {"before adaptation": returns[0], "after adaptation": returns[-1]}
