"""What the discrete environments look like, drawn with Pillow."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

_INK, _PAPER, _PALE, _LINE = (25, 25, 25), (255, 255, 255), (228, 232, 236), (170, 178, 186)
_AGENT, _GOAL, _WON, _LOST = (0, 114, 178), (230, 159, 0), (0, 158, 115), (213, 94, 0)
_CAPTION, _LEGEND = 26, 22  # room above, for what is written there and for the legend
_EDGE = 10
_SCALE = 2  # drawn larger and reduced, which smooths the lines


class _Drawing:
    """A picture of so many pixels."""

    def __init__(self, width: int, height: int) -> None:
        self._size = (width * _SCALE, height * _SCALE)

    def _blank(self) -> tuple[Image.Image, ImageDraw.ImageDraw]:
        picture = Image.new("RGB", self._size, _PAPER)
        return picture, ImageDraw.Draw(picture)

    def _legend(self, draw: ImageDraw.ImageDraw, entries: dict[str, tuple[int, int, int]]) -> float:
        """Names of the colours, which so are all in the first picture; where room begins below."""
        x, middle = float(_EDGE * _SCALE), (_CAPTION + _LEGEND / 2) * _SCALE
        font = ImageFont.load_default(11 * _SCALE)
        for name, colour in entries.items():
            side = 5 * _SCALE
            draw.rectangle([x, middle - side, x + 2 * side, middle + side], colour)
            draw.text((x + 3 * side, middle), name, _INK, font, anchor="lm")
            x += 5 * side + draw.textlength(name, font)
        return float((_CAPTION + _LEGEND) * _SCALE)

    def _pixels(self, picture: Image.Image) -> NDArray[np.uint8]:
        return np.asarray(picture.reduce(_SCALE))

    def close(self) -> None:
        """Nothing is held."""


class BanditDrawing(_Drawing):
    """A column an arm: its mean as a grey bar, how often it was pulled as a blue one.

    The arm pulled last has a dot above, green where it paid more than 0, else red.

    Args:
        width: In pixels.
        height: In pixels.
        arms: k.
        pulls: n, a full blue bar.
    """

    def __init__(self, width: int, height: int, arms: int, pulls: int) -> None:
        super().__init__(width, height)
        self._arms, self._most = arms, pulls

    def draw(self, state: NDArray[np.floating]) -> NDArray[np.uint8]:
        """The state: means [k], pulls [k], the last arm (−1 before the first) and its reward."""
        picture, draw = self._blank()
        k = self._arms
        means, pulls, (arm, reward) = state[:k], state[k : 2 * k], state[2 * k :]
        low, high = min(0.0, float(means.min())), max(1.0, float(means.max()))
        names = {"mean": _LINE, "pulls": _AGENT, "it paid": _WON, "it did not": _LOST}
        bottom = self._size[1] - _EDGE * _SCALE
        top = self._legend(draw, names) + 14 * _SCALE
        width = (self._size[0] - 2 * _EDGE * _SCALE) / k
        for i in range(k):
            left = _EDGE * _SCALE + i * width
            heights = ((means[i] - low) / (high - low), pulls[i] / self._most)
            for share, colour, start in zip(heights, (_LINE, _AGENT), (0.12, 0.5), strict=True):
                box = [left + start * width, bottom - float(share) * (bottom - top)]
                draw.rectangle([*box, left + (start + 0.38) * width, bottom], colour)
            if i == round(float(arm)):
                colour, radius = _WON if reward > 0 else _LOST, 5 * _SCALE
                draw.circle((left + width / 2, top - 1.4 * radius), radius, colour)
        draw.line([(_EDGE * _SCALE, bottom), (self._size[0] - _EDGE * _SCALE, bottom)], _INK, 2)
        return self._pixels(picture)


class MDPDrawing(_Drawing):
    """The states on a circle, the present one blue, with a line from the one before.

    Args:
        width: In pixels.
        height: In pixels.
        states: S.
    """

    def __init__(self, width: int, height: int, states: int) -> None:
        super().__init__(width, height)
        self._states = states

    def draw(self, state: NDArray[np.floating]) -> NDArray[np.uint8]:
        """The state: now, before (−1 at the start), the action, and what it paid."""
        picture, draw = self._blank()
        now, before, _, reward = (float(x) for x in state)
        names = {"state": _AGENT, "paid more than 1": _WON, "less": _LOST}
        top = self._legend(draw, names)
        room = self._size[1] - top
        middle, radius = (self._size[0] / 2, top + room / 2), 0.38 * room
        angles = [2 * math.pi * i / self._states - math.pi / 2 for i in range(self._states)]
        places = [
            (middle[0] + 1.8 * radius * math.cos(a), middle[1] + radius * math.sin(a))
            for a in angles
        ]
        if before >= 0:
            line = [places[round(before)], places[round(now)]]
            draw.line(line, _WON if reward > 1 else _LOST, 2 * _SCALE)
        for i, place in enumerate(places):
            colour = _AGENT if i == round(now) else _PALE
            draw.circle(place, 0.2 * radius, colour, _INK if i == 0 else _LINE, _SCALE)
        return self._pixels(picture)


class GridDrawing(_Drawing):
    """The cells, the goal as an orange one, the agent as a blue dot.

    Args:
        width: In pixels.
        height: In pixels.
        size: Cells of a side.
    """

    def __init__(self, width: int, height: int, size: int) -> None:
        super().__init__(width, height)
        self._cells = size

    def draw(self, state: NDArray[np.floating]) -> NDArray[np.uint8]:
        """The state: the agent's cell (x, y) and the goal's."""
        picture, draw = self._blank()
        side = (self._size[1] - (_CAPTION + _EDGE) * _SCALE) / self._cells
        left = (self._size[0] - side * self._cells) / 2
        bottom = self._size[1] - _EDGE * _SCALE
        x, y, goal_x, goal_y = (round(float(value)) for value in state)
        for column in range(self._cells):
            for row in range(self._cells):
                corner = left + column * side, bottom - (row + 1) * side
                colour = _GOAL if (column, row) == (goal_x, goal_y) else _PALE
                draw.rectangle(
                    [*corner, corner[0] + side, corner[1] + side], colour, _PAPER, 2 * _SCALE
                )
        draw.circle((left + (x + 0.5) * side, bottom - (y + 0.5) * side), 0.3 * side, _AGENT)
        return self._pixels(picture)
