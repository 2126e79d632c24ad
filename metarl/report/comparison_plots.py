"""The plots of a comparison: groups of seeds against experience, side by side, and by task."""

from __future__ import annotations

import textwrap
from itertools import cycle
from typing import TYPE_CHECKING

import numpy as np

from metarl.report import figures
from metarl.report.evaluation_plots import Series, by_task
from metarl.report.evaluation_report import longest_trials
from metarl.report.figures import SERIES, in_legend, legend_above, png
from metarl.report.words import mode_words, step_name

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from metarl.evaluation.comparison import Comparison, Group

MARKERS = "osD^vPX"


@png
def plot_adaptation_curves(comparison: Comparison) -> Figure:
    """Mean return against episodes of experience: a line, a band and every seed's points a group.

    The axis is linear to 1 and logarithmic from there, since one agent's first adaptation may take
    one episode and another's forty. Of few-shot learning, against adaptation steps, which all learn
    from the same examples.
    """
    figure, ax = figures.single_axes(7.2, 5.0)
    groups, by = comparison.groups, comparison.first.by
    places = [_places(group) for group in groups]
    for group, place, color, marker in zip(
        groups, places, cycle(SERIES), cycle(MARKERS), strict=False
    ):
        mode, used = group.headline, np.array(place, dtype=np.float64)
        figures.interval_band(ax, used, mode.ci95, color)
        seeds = "1 seed" if len(group.runs) == 1 else f"{len(group.runs)} seeds"
        label = in_legend(f"{group.label} ({f'{mode_words(group.first)}, {seeds}'[2:]})")
        ax.plot(used, mode.mean, f"{marker}-", color=color, label=label, zorder=3)
        if len(group.runs) > 1:
            means = np.array(mode.seed_means)  # [K+1, S]
            ax.plot(used, means, marker, color="white", mec=color, markersize=4, zorder=4)
    _experience_axis(ax, sorted({x for place in places for x in place}), len(set(places)) == 1)
    if groups[0].first.few_shot is not None:
        ax.set_xlabel("adaptation steps on the support set")
    ax.set_ylabel(figures.mean_label(by, groups[0].headline.ci95))
    figures.bayes_adaptive_line(ax, comparison.bayes_optimal)
    figures.adaptive_references(ax, longest_trials([g.adaptive_references for g in groups]))
    figures.label_lines(ax, {name: ref.mean for name, ref in comparison.references.items()})
    legend_above(figure)
    return figure


def _places(group: Group) -> tuple[int, ...]:
    """Where its measurements stand on the axis of experience."""
    if group.first.few_shot is not None:
        return tuple(range(len(group.episodes_used)))
    return tuple(group.episodes_used)


def on_one_axis(comparison: Comparison) -> bool:
    """Whether several groups were all measured after the same adaptation."""
    measured = {(group.first.x, *group.episodes_used) for group in comparison.groups}
    return len(comparison.groups) > 1 and len(measured) == 1


@png
def plot_returns_by_group(comparison: Comparison) -> Figure:
    """A panel a measurement: every group's mean return, its interval, and its seeds.

    Each panel has its own axis, so that groups can be told apart where all have come close.

    Raises:
        ValueError: The groups were not measured after the same adaptation.
    """
    if not on_one_axis(comparison):
        raise ValueError("The groups were not all measured after the same adaptation.")
    groups = comparison.groups
    names = [textwrap.fill(group.label.replace("_", " "), 22) for group in groups]
    places = np.arange(len(groups))[::-1]  # the first on top
    count = len(groups[0].episodes_used)
    columns = min(count, 4)
    height = -(-count // columns) * (0.38 * len(groups) + 1.3)
    figure = figures.new_figure(2.4 * columns + 1.6, height)
    for k, ax in enumerate(figures.panels(figure, count, columns)):
        for place, group, color in zip(places, groups, cycle(SERIES), strict=False):
            mode = group.headline
            if (interval := mode.ci95[k]) is not None:
                ax.plot(interval, [place, place], color=color, linewidth=4, alpha=0.35)
            ax.plot(mode.mean[k], place, "o", color=color, zorder=3)
            if len(group.runs) > 1:
                means = mode.seed_means[k]
                ax.plot(means, np.full(len(means), place - 0.28), "|", color=color, markersize=6)
        ax.set_title(step_name(groups[0].first.x, k), fontsize=11)
        ax.set_ylim(-0.6, len(groups) - 0.5)
        ax.set_yticks(places, names)
        ax.tick_params(axis="y", length=0)
        ax.locator_params(axis="x", nbins=4)
    figure.supxlabel(f"mean {comparison.first.by.noun} over tasks", fontsize=11)
    return figure


def _experience_axis(ax: Axes, ticks: list[int], single: bool) -> None:
    from matplotlib.ticker import FixedLocator, NullLocator, StrMethodFormatter

    if not single:
        ax.set_xscale("symlog", linthresh=1, linscale=0.6)
        shown = [ticks[-1]]
        for tick in ticks[-2::-1]:  # those that leave each other room, the last one first
            if tick <= 1 or 1.9 * tick <= shown[0]:
                shown.insert(0, tick)
        ticks = shown
        ax.set_xlim(-0.15, max(ticks[-1], 1) * 1.25)
    ax.xaxis.set_major_locator(FixedLocator(ticks))
    ax.xaxis.set_minor_locator(NullLocator())
    ax.xaxis.set_major_formatter(StrMethodFormatter("{x:.0f}"))
    ax.set_xlabel("episodes of experience\nused before the measured ones")


@png
def plot_returns_by_task(comparison: Comparison) -> Figure:
    """Return against the task, each group after its last adaptation.

    One-dimensional tasks: a line a group, its points the mean over seeds, bars from the worst seed
    to the best. Two-dimensional ones: a map a group, on one colour scale.

    Raises:
        ValueError: Tasks of more than two dimensions.
    """
    groups, series = comparison.groups, []
    for group, color, marker in zip(groups, cycle(SERIES), cycle(MARKERS), strict=False):
        returns = np.array(group.headline.returns[-1])  # [S, n]
        mean = returns.mean(axis=0)
        reach = np.abs(np.stack([returns.min(axis=0), returns.max(axis=0)]) - mean)
        name = f"{group.label}\n{step_name(group.first.x, len(group.episodes_used) - 1)}"
        series.append(Series(name, mean, reach if len(returns) > 1 else None, color, marker))
    return by_task(comparison.first, series, "worst to best seed", {})
