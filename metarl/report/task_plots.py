"""Return against the task parameter: a line for one-dimensional tasks, a map for two."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from metarl.report.figures import (
    AFTER,
    BEFORE,
    GREY,
    REFERENCE_STYLES,
    cycle,
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
    from matplotlib.figure import Figure

    from metarl.evaluation.protocol import Evaluation
    from metarl.evaluation.result import EvaluationResult


@styled
def plot_return_by_task(
    result: EvaluationResult, path: Path, evaluation: Evaluation | None = None
) -> None:
    """Return against the task parameter before and after adaptation.

    One-dimensional tasks: return against the parameter, with ± 1.96 standard errors over the
    episodes of a task. Two-dimensional ones: two maps of the tasks on one colour scale.

    Args:
        result: Of the evaluation.
        path: Of the PNG.
        evaluation: The episodes behind its headline mode, for the intervals.

    Raises:
        ValueError: Tasks of more than two dimensions.
    """
    tasks = np.array(result.tasks)  # [n, d]
    ends = sorted({0, result.adaptation_steps})
    returns = np.array(result.headline.returns)[ends]  # [2, n]: before, after
    labels = axis_labels(result.task_columns, result.task_units)
    names = [step_name(result.x, k) for k in ends]
    if tasks.shape[1] == 1:
        references = {name: np.array(ref.returns) for name, ref in result.references.items()}
        errors = None if evaluation is None else _standard_errors(evaluation.returns[ends])
        _line(tasks[:, 0], labels[0], returns, errors, names, references, path)
    elif tasks.shape[1] == 2:
        figure = new_figure(6.0, 3.4, compress=True)
        axes = figure.subplots(1, len(names), sharex=True, sharey=True, squeeze=False)[0]
        titles = [
            f"{name}\nmean {number(row.mean())}" for name, row in zip(names, returns, strict=True)
        ]
        equal = len(set(result.task_units)) == 1
        scatter_map(figure, list(axes), tasks, list(returns), titles, labels, equal, len(names))
        save(figure, path)
    else:
        raise ValueError(f"No plot shows tasks of {tasks.shape[1]} dimensions; 1 or 2 can be.")


def axis_labels(columns: Sequence[str], units: Sequence[str]) -> list[str]:
    """The task's columns with their units."""
    return [
        f"{column.replace('_', ' ')} ({unit})" if unit else column.replace("_", " ")
        for column, unit in zip(columns, units, strict=True)
    ]


def scatter_map(
    figure: Figure,
    axes: Sequence[Axes],
    tasks: np.ndarray,
    returns: Sequence[np.ndarray],
    titles: Sequence[str],
    labels: Sequence[str],
    equal: bool,
    columns: int,
) -> None:
    """A map of the tasks a panel, coloured by return on one scale.

    Args:
        figure: Gets the colour bar.
        axes: Of the panels; those beyond the returns are hidden.
        tasks: [n, 2].
        returns: [n] a panel.
        titles: A panel's each.
        labels: Of the two axes.
        equal: Whether both axes have one unit.
        columns: Panels a row.
    """
    values = np.stack(returns)
    for index, ax in enumerate(axes):
        if index >= len(returns):
            ax.set_visible(False)
            continue
        points = ax.scatter(
            tasks[:, 0],
            tasks[:, 1],
            c=returns[index],
            s=90,
            cmap="viridis",
            vmin=values.min(),
            vmax=values.max(),
            edgecolors="#333333",
            linewidths=0.6,
        )
        ax.set_title(titles[index], fontsize=10)
        if index + columns >= len(returns):
            ax.set_xlabel(labels[0])
            ax.tick_params(labelbottom=True)
        if index % columns == 0:
            ax.set_ylabel(labels[1])
        ax.margins(0.1)
        if equal:
            ax.set_aspect("equal", adjustable="box")
    figure.colorbar(points, ax=list(axes), label="mean return of the task", pad=0.02)


def _standard_errors(returns: np.ndarray) -> np.ndarray | None:
    """1.96 standard errors over the episodes of a task, [k, n, B] -> [k, n]; None for one."""
    episodes = returns.shape[2]
    if episodes < 2:
        return None
    return 1.96 * returns.std(axis=2, ddof=1) / np.sqrt(episodes)


def _line(
    parameter: np.ndarray,
    label: str,
    returns: np.ndarray,
    errors: np.ndarray | None,
    names: Sequence[str],
    references: Mapping[str, np.ndarray],
    path: Path,
) -> None:
    figure, ax = single_axes(6.0, 4.6)
    order = np.argsort(parameter)
    joined = "-" if len(parameter) > 5 else ""
    for k, (name, color, marker) in enumerate(zip(names, (BEFORE, AFTER), "so", strict=False)):
        ax.errorbar(
            parameter[order],
            returns[k][order],
            yerr=None if errors is None else errors[k][order],
            fmt=f"{marker}{joined}",
            color=color,
            label=name,
            markersize=4.5,
            linewidth=1.2,
            elinewidth=0.8,
        )
    styles = cycle(REFERENCE_STYLES, len(references))
    for (name, row), style in zip(references.items(), styles, strict=True):
        ax.plot(
            parameter[order],
            row[order],
            color=GREY,
            linestyle=style,
            linewidth=1.4,
            label=name.replace("_", " "),
        )
    ax.set_xlabel(f"task: {label}")
    bars = "" if errors is None else "\n(bars: ± 1.96 SE over episodes)"
    ax.set_ylabel(f"mean return of the task{bars}")
    legend_above(figure)
    save(figure, path)
