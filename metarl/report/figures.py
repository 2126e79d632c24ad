"""How figures look: colours, style, size, legend.

Colours are Okabe and Ito's, which colour-blind readers tell apart. Figures are drawn without
pyplot, so no global state is touched and no display is needed; matplotlib is imported when the
first plot is drawn.
"""

from __future__ import annotations

import functools
import io
import itertools
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, ParamSpec

import numpy as np
from PIL import Image

from metarl.errors import message_of, warn
from metarl.report.words import BAYES_ADAPTIVE

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from metarl.evaluation.measures import Measure
    from metarl.evaluation.result import AdaptiveReference, Reference
    from metarl.evaluation.statistics import Interval

BLUE, ORANGE, GREEN, VERMILLION = "#0072B2", "#E69F00", "#009E73", "#D55E00"
PURPLE, SKY, GREY, BLACK = "#CC79A7", "#56B4E9", "#666666", "#000000"
BEFORE, AFTER = ORANGE, BLUE
SERIES = (BLUE, VERMILLION, GREEN, PURPLE, ORANGE, SKY, BLACK)
REFERENCE_STYLES = ((0, (6, 2)), (0, (2, 2)), (0, (6, 2, 1, 2)), (0, (1, 1)))
_DPI = 170
_STYLE: dict[Any, Any] = {
    "font.size": 11.0,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": "#e6e6e6",
    "legend.frameon": False,
    "lines.linewidth": 2.0,
    "text.parse_math": False,  # a name with dollars is no formula
}


_P = ParamSpec("_P")


def png(draw: Callable[_P, Figure]) -> Callable[_P, bytes]:
    """Make a drawing function return its figure as a PNG file of 256 colours, a third of the size.

    It draws under this module's style; the user's matplotlib settings come back afterwards. A
    picture that cannot be drawn costs a warning, never the measurement: it is empty.
    """

    @functools.wraps(draw)
    def drawn(*args: _P.args, **kwargs: _P.kwargs) -> bytes:
        try:
            return drawn_or_failed(*args, **kwargs)
        except Exception as error:  # matplotlib, its fonts, the data: anything
            warn_of_picture(draw.__name__.removeprefix("plot_").replace("_", " "), error)
            return b""

    def drawn_or_failed(*args: _P.args, **kwargs: _P.kwargs) -> bytes:
        import matplotlib
        from matplotlib.backends.backend_agg import FigureCanvasAgg

        with matplotlib.rc_context(_STYLE), io.BytesIO() as small:
            figure = draw(*args, **kwargs)
            figure.set_facecolor("white")
            canvas = FigureCanvasAgg(figure)
            canvas.draw()  # under the style too: ticks are made only now
            picture = Image.fromarray(np.asarray(canvas.buffer_rgba())).convert("RGB")
            palette = picture.quantize(256, Image.Quantize.MAXCOVERAGE, kmeans=2)
            palette.save(small, "PNG", optimize=True)
            return small.getvalue()

    return drawn


def warn_of_picture(name: str, error: Exception) -> None:
    """Say that a picture is missing."""
    said = f"{type(error).__name__}: {message_of(error)}"
    warn(f"the {name} cannot be drawn; all else is there. {said}")


def new_figure(width: float, height: float, compress: bool = False) -> Figure:
    """An empty figure, inches; compress where panels keep their aspect."""
    from matplotlib.figure import Figure
    from matplotlib.layout_engine import ConstrainedLayoutEngine

    layout = ConstrainedLayoutEngine(h_pad=0.09, compress=compress)
    return Figure(figsize=(width, height), dpi=_DPI, layout=layout)


def single_axes(width: float, height: float) -> tuple[Figure, Axes]:
    """A figure with one pair of axes."""
    figure = new_figure(width, height)
    return figure, figure.subplots()


def panels(figure: Figure, count: int, columns: int, sharex: bool = False) -> list[Axes]:
    """Axes of so many panels, row by row, on one vertical axis; the last row may have gaps."""
    rows = -(-count // columns)
    axes = figure.subplots(rows, columns, squeeze=False, sharex=sharex, sharey=True).reshape(-1)
    for ax in axes[count:]:
        ax.set_visible(False)
    return list(axes[:count])


def interval_band(
    ax: Axes, x: Sequence[float] | np.ndarray, intervals: Sequence[Interval | None], color: str
) -> None:
    """Intervals as a band, that of one measurement as a bar; nothing where one task gives none."""
    known = [interval for interval in intervals if interval is not None]
    if len(known) > 1:
        ax.fill_between(x, *np.array(known).T, color=color, alpha=0.2, linewidth=0)
    elif known:
        ax.plot([x[0], x[0]], known[0], color=color, alpha=0.35, linewidth=4)


def mean_label(by: Measure, intervals: Sequence[Interval | None], *, trained: bool = False) -> str:
    """Of the axis of means over tasks with their intervals; or over trainings as well."""
    if intervals[0] is None:
        return f"{by.noun} on the one task"
    if trained:
        return f"mean {by.noun} of trainings\n(band: 95 % interval)"
    return f"mean {by.noun} over tasks\n({'band' if len(intervals) > 1 else 'bar'}: 95 % interval)"


def bayes_adaptive_line(ax: Axes, bayes_optimal: Sequence[Reference] | None) -> None:
    """What the best adaptive agent earns at least, episode by episode, where that is known."""
    if bayes_optimal is not None:
        means = [reference.mean for reference in bayes_optimal]
        ax.plot(range(len(means)), means, "d:", color=GREY, linewidth=1.4, label=BAYES_ADAPTIVE)


def adaptive_references(
    ax: Axes, known: Mapping[str, AdaptiveReference] | None, x: np.ndarray | None = None
) -> None:
    """What other agents earn that adapt as well, episode by episode or at these places."""
    markers = itertools.cycle("^vPX*")
    for (name, reference), marker in zip((known or {}).items(), markers, strict=False):
        means, label = [each.mean for each in reference.episodes], name.replace("_", " ")
        places = range(len(means)) if x is None else x
        every = max(len(means) // 10, 1)
        line: Any = {"color": GREY, "linewidth": 1.0, "markevery": every}
        ax.plot(places, means, f"{marker}-.", label=label, **line)


def in_legend(name: str) -> str:
    """A label that shows: matplotlib hides those that begin with an underscore."""
    return f" {name}" if name.startswith("_") else name


def legend_above(figure: Figure) -> None:
    """The legend of the first axes, outside of them, where it hides no data."""
    handles, labels = figure.axes[0].get_legend_handles_labels()
    entry = max(map(len, labels)) * 0.085 + 0.75  # inches: its text, and the line before it
    columns = max(int(figure.get_figwidth() / entry), 1)
    rows = -(-len(labels) // columns)
    columns = -(-len(labels) // rows)  # no wider than the rows need
    figure.legend(handles, labels, loc="outside upper center", ncols=columns)


def label_lines(ax: Axes, values: Mapping[str, float]) -> None:
    """Horizontal grey lines, each named at its right end, where no other name stands.

    Call it when the axes have their limits: names are moved apart by the height of a line of text.
    """
    if not values:
        return
    ordered = sorted(values.items(), key=lambda item: item[1])
    styles = dict(zip(values, itertools.cycle(REFERENCE_STYLES), strict=False))
    for name, value in ordered:
        ax.axhline(value, color=GREY, linestyle=styles[name], linewidth=1.4, zorder=1)
    low, high = ax.get_ylim()
    ax.set_ylim(low, high)
    height = ax.bbox.height / _DPI * 72 * 0.8  # points; the layout leaves about so much
    gap = (high - low) * 13 / height
    places = _spread([value for _, value in ordered], gap)
    for (name, value), place in zip(ordered, places, strict=True):
        ax.annotate(
            f"{name.replace('_', ' ')} {number(value)}",
            (1.0, place),
            xycoords=("axes fraction", "data"),
            xytext=(5, 0),
            textcoords="offset points",
            va="center",
            fontsize=10,
            color="#404040",
            annotation_clip=False,
        )


def _spread(values: Sequence[float], gap: float) -> list[float]:
    """Places at least a gap apart, near their values, which ascend: crowds centre on their mean."""
    crowds: list[list[float]] = []
    for value in values:
        crowds.append([value])
        while len(crowds) > 1:
            below, above = crowds[-2], crowds[-1]
            top = sum(below) / len(below) + gap * (len(below) - 1) / 2
            bottom = sum(above) / len(above) - gap * (len(above) - 1) / 2
            if bottom - top >= gap:
                break
            crowds[-2:] = [below + above]
    return [
        sum(crowd) / len(crowd) + gap * (i - (len(crowd) - 1) / 2)
        for crowd in crowds
        for i in range(len(crowd))
    ]


def number(value: float) -> str:
    """Two decimals, with a minus sign that reads as one."""
    return f"{value:.2f}".replace("-", "−")
