"""The plots of a comparison: groups of seeds against experience, side by side, and by task."""

from __future__ import annotations

import textwrap
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from metarl.report.figures import (
    label_lines,
    legend_above,
    new_figure,
    number,
    save,
    series_colors,
    single_axes,
    step_name,
    styled,
)
from metarl.report.task_plots import axis_labels, scatter_map

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from metarl.evaluation.comparison import Comparison

MARKERS = "osD^vPX"


@styled
def plot_adaptation_curves(comparison: Comparison, path: Path) -> None:
    """Mean return against episodes of experience: a line, a band and every seed's points a group.

    The axis is linear to 1 and logarithmic from there, since one agent's first adaptation may take
    one episode and another's forty.
    """
    figure, ax = single_axes(7.2, 5.0)
    groups = comparison.groups
    ticks = sorted({used for group in groups for used in group.episodes_used})
    for index, (group, color) in enumerate(zip(groups, series_colors(len(groups)), strict=True)):
        mode, used = group.headline, np.array(group.episodes_used, dtype=np.float64)
        low, high = np.array(mode.ci95).T
        ax.fill_between(used, low, high, color=color, alpha=0.18, linewidth=0)
        marker = MARKERS[index % len(MARKERS)]
        seeds = "1 seed" if len(group.runs) == 1 else f"{len(group.runs)} seeds"
        label = f"{group.label} ({mode.action_mode}, {seeds})"
        ax.plot(used, mode.mean, f"{marker}-", color=color, label=label, zorder=3)
        if len(group.runs) > 1:
            for k, means in enumerate(mode.seed_means):
                ax.plot(
                    np.full(len(means), used[k]),
                    means,
                    marker,
                    color="white",
                    markeredgecolor=color,
                    markersize=4,
                    zorder=4,
                )
    _experience_axis(ax, ticks, single=len({tuple(g.episodes_used) for g in groups}) == 1)
    ax.set_ylabel("mean return over tasks\n(band: 95 % interval)")
    label_lines(ax, {name: ref.mean for name, ref in comparison.references.items()})
    legend_above(figure)
    save(figure, path)


def on_one_axis(comparison: Comparison) -> bool:
    """Whether several groups were all measured after the same adaptation."""
    measured = {(group.first.x, *group.episodes_used) for group in comparison.groups}
    return len(comparison.groups) > 1 and len(measured) == 1


@styled
def plot_returns_by_group(comparison: Comparison, path: Path) -> None:
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
    panels = len(groups[0].episodes_used)
    columns = min(panels, 4)
    rows = -(-panels // columns)
    figure = new_figure(2.4 * columns + 1.6, rows * (0.38 * len(groups) + 1.3))
    axes = figure.subplots(rows, columns, sharey=True, squeeze=False).reshape(-1)
    for ax in axes[panels:]:
        ax.set_visible(False)
    for k, ax in enumerate(axes[:panels]):
        for place, group, color in zip(places, groups, series_colors(len(groups)), strict=True):
            mode = group.headline
            ax.plot(mode.ci95[k], [place, place], color=color, linewidth=4, alpha=0.35)
            ax.plot(mode.mean[k], place, "o", color=color, zorder=3)
            if len(group.runs) > 1:
                means = mode.seed_means[k]
                ax.plot(means, np.full(len(means), place - 0.28), "|", color=color, markersize=6)
        ax.set_title(step_name(groups[0].first.x, k), fontsize=11)
        ax.set_ylim(-0.6, len(groups) - 0.5)
        ax.set_yticks(places, names)
        ax.tick_params(axis="y", length=0)
        ax.locator_params(axis="x", nbins=4)
    figure.supxlabel("mean return over tasks", fontsize=11)
    save(figure, path)


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


@styled
def plot_returns_by_task(comparison: Comparison, path: Path) -> None:
    """Return against the task, each group after its last adaptation.

    One-dimensional tasks: a line a group, its points the mean over seeds, bars from the worst seed
    to the best. Two-dimensional ones: a map a group, on one colour scale.

    Raises:
        ValueError: Tasks of more than two dimensions.
    """
    tasks = np.array(comparison.first.tasks)  # [n, d]
    groups = comparison.groups
    last = [np.array(group.headline.returns[-1]) for group in groups]  # each [S, n]
    labels = axis_labels(comparison.first.task_columns, comparison.first.task_units)
    names = [f"{g.label}\n{step_name(g.first.x, len(g.episodes_used) - 1)}" for g in groups]
    if tasks.shape[1] == 1:
        figure, ax = single_axes(6.0, 4.6)
        order = np.argsort(tasks[:, 0])
        joined = "-" if len(tasks) > 5 else ""
        for index, (returns, name, color) in enumerate(
            zip(last, names, series_colors(len(groups)), strict=True)
        ):
            mean = returns.mean(axis=0)
            reach = np.abs(np.stack([returns.min(axis=0), returns.max(axis=0)]) - mean)[:, order]
            ax.errorbar(
                tasks[order, 0],
                mean[order],
                yerr=reach if len(returns) > 1 else None,
                fmt=f"{MARKERS[index % len(MARKERS)]}{joined}",
                color=color,
                label=name.replace("\n", ", "),
                markersize=4,
                linewidth=1.2,
                elinewidth=0.8,
            )
        ax.set_xlabel(f"task: {labels[0]}")
        bars = "\n(bars: worst to best seed)" if max(map(len, last)) > 1 else ""
        ax.set_ylabel(f"mean return of the task{bars}")
        legend_above(figure)
    elif tasks.shape[1] == 2:
        columns = min(len(groups), 3)
        rows = -(-len(groups) // columns)
        panel = 4.1 / columns  # of 6 inches, beside labels and colour bar
        figure = new_figure(6.0, rows * (panel + 1.0) + 0.4, compress=True)
        axes = figure.subplots(rows, columns, sharex=True, sharey=True, squeeze=False).reshape(-1)
        means = [returns.mean(axis=0) for returns in last]
        wide = 54 // columns  # characters that a panel's title has room for
        names = [
            f"{textwrap.fill(g.label, wide)}\n{step_name(g.first.x, len(g.episodes_used) - 1)}"
            for g in groups
        ]
        titles = [f"{name}\nmean {number(m.mean())}" for name, m in zip(names, means, strict=True)]
        equal = len(set(comparison.first.task_units)) == 1
        scatter_map(figure, list(axes), tasks, means, titles, labels, equal, columns)
    else:
        raise ValueError(f"No plot shows tasks of {tasks.shape[1]} dimensions; 1 or 2 can be.")
    save(figure, path)
