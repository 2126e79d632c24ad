"""Whether figures are drawn: they take most of a report's time, and few tests look at them."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg

from metarl.report import figures

_DRAW, _DPI = FigureCanvasAgg.draw, figures._DPI


@contextlib.contextmanager
def blank() -> Iterator[None]:
    """Figures are made, saved and linked, small and white."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(FigureCanvasAgg, "draw", FigureCanvasAgg.get_renderer)
        patch.setattr(figures, "_DPI", 20)
        yield


@contextlib.contextmanager
def drawn() -> Iterator[None]:
    """As users see them, also within :func:`blank`."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(FigureCanvasAgg, "draw", _DRAW)
        patch.setattr(figures, "_DPI", _DPI)
        yield
