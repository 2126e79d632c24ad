"""Synthetic glyphs in Omniglot's layout, drawn by the tests: nobody's alphabet."""

from __future__ import annotations

import zlib
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw


def draw_glyphs(
    folder: Path, alphabets: Mapping[str, int], images: int = 4, size: int = 20
) -> Path:
    """Draw so many characters of every alphabet: dark strokes of their own, shaky in each image."""
    for alphabet, number in alphabets.items():
        for index in range(number):
            place = folder / alphabet / f"character{index + 1:02}"
            place.mkdir(parents=True)
            rng = np.random.default_rng(zlib.crc32(f"{alphabet}/{index}".encode()))
            strokes = rng.uniform(0.1, 0.9, (3, 3, 2))  # of three points each
            for image in range(images):
                shaken = (strokes + rng.normal(0.0, 0.02, strokes.shape)) * size
                picture = Image.new("1", (size, size), 1)
                for stroke in shaken:
                    ImageDraw.Draw(picture).line([*map(tuple, stroke)], fill=0, width=2)
                picture.save(place / f"{index + 1:04}_{image + 1:02}.png")
    return folder
