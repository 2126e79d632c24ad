"""How figures look: colours, style, size, legend, and the words they share.

Colours are Okabe and Ito's, which colour-blind readers tell apart. Figures are drawn without
pyplot, so no global state is touched and no display is needed; matplotlib is imported when the
first plot is drawn.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, ParamSpec

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

BLUE, ORANGE, GREEN, VERMILLION = "#0072B2", "#E69F00", "#009E73", "#D55E00"
PURPLE, SKY, GREY = "#CC79A7", "#56B4E9", "#666666"
BEFORE, AFTER = ORANGE, BLUE
SERIES = (BLUE, VERMILLION, GREEN, PURPLE, ORANGE, SKY)
REFERENCE_STYLES = ((0, (6, 2)), (0, (2, 2)), (0, (6, 2, 1, 2)), (0, (1, 1)))
_DPI = 150
_STYLE: dict[Any, Any] = {
    "font.size": 12.0,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": "#e6e6e6",
    "legend.frameon": False,
    "lines.linewidth": 2.0,
}


_P = ParamSpec("_P")


def styled(draw: Callable[_P, None]) -> Callable[_P, None]:
    """Draw under this module's style; the user's matplotlib settings come back afterwards."""

    @functools.wraps(draw)
    def drawn(*args: _P.args, **kwargs: _P.kwargs) -> None:
        import matplotlib

        with matplotlib.rc_context(_STYLE):
            draw(*args, **kwargs)

    return drawn


def step_name(adaptation_axis: str, k: int) -> str:
    """What a reader calls measurement k."""
    if adaptation_axis == "episode":
        return f"episode {k + 1}"
    if k == 0:
        return "before adaptation"
    return f"after {k} gradient step{'s' if k > 1 else ''}"


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


def legend_above(figure: Figure) -> None:
    """The legend of the first axes, outside of them, where it hides no data."""
    handles, labels = figure.axes[0].get_legend_handles_labels()
    columns = 3 if max(map(len, labels)) < 25 else 2
    figure.legend(handles, labels, loc="outside upper center", ncols=columns)


def save(figure: Figure, path: Path) -> None:
    """Write the PNG."""
    figure.savefig(path, format="png", facecolor="white", metadata={"Software": None})


def number(value: float) -> str:
    """Two decimals, with a minus sign that reads as one."""
    return f"{value:.2f}".replace("-", "−")
