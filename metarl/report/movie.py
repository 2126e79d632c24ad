"""A movie as two files, a GIF and an MP4."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from metarl.envs.faults import SimulationFailure
from metarl.errors import EnvironmentFailure
from metarl.storage.files import PENDING

NAME = "adaptation"
GIF_EVERY = 2
"""The GIF takes every so many frames, at as many fewer a second; of a slow movie, all."""
_SLOW_FPS = 10.0
GIF_COLOURS = 32
GIF_PAUSE_MS = 1000  # on the last frame, before it begins anew
_X264: dict[str, Any] = {
    "codec": "libx264",
    "quality": None,
    "macro_block_size": 2,
    "ffmpeg_log_level": "quiet",
    "output_params": ["-crf", "27", "-preset", "medium", "-movflags", "+faststart"],
}


def write_movie(frames: Iterable[np.ndarray], fps: float, folder: Path) -> list[Path]:
    """Write a GIF, which shows everywhere, and a smaller and smoother MP4.

    Each appears whole or, after a failure, not at all.

    Args:
        frames: uint8 [H, W, RGB], all of one even size; drawn one at a time.
        fps: Frames a second.
        folder: Which exists.

    Raises:
        SimulationFailure: an environment failed to draw a frame.
        EnvironmentFailure: there is no ffmpeg, or the files cannot be written.
    """
    made = [folder / f"{NAME}.gif", folder / f"{NAME}.mp4"]
    # The endings stay, since ffmpeg goes by them.
    pending = [path.with_name(f"{PENDING}{os.getpid()}-{path.name}") for path in made]
    try:
        every = GIF_EVERY if fps > _SLOW_FPS else 1
        first, *others = _write_mp4(pending[1], frames, fps, every)
        duration = 10 * round(100 * every / fps)  # ms; a GIF counts hundredths of a second
        durations = [duration] * len(others) + [duration + GIF_PAUSE_MS]
        first.save(pending[0], append_images=others, save_all=True, duration=durations, loop=0)
        for path, whole in zip(pending, made, strict=True):
            os.replace(path, whole)
    except OSError as error:
        raise EnvironmentFailure(
            f"The video cannot be written to {folder}: {error.strerror or 'ffmpeg failed'}."
        ) from error
    except SimulationFailure:  # of an environment that draws the frames
        raise
    except RuntimeError as error:  # what imageio says of a machine without the program
        raise EnvironmentFailure(
            "The video cannot be written: there is no ffmpeg; install it, or set "
            "IMAGEIO_FFMPEG_EXE to its path."
        ) from error
    finally:
        for path in pending:
            with contextlib.suppress(OSError):
                path.unlink(missing_ok=True)
    return made


def _write_mp4(
    path: Path, frames: Iterable[np.ndarray], fps: float, every: int
) -> list[Image.Image]:
    """Encode the frames, and keep every so many of them for the GIF, all in one palette."""
    from imageio.v2 import get_writer

    kept: list[Image.Image] = []
    writer = get_writer(path, "FFMPEG", fps=fps, **_X264)
    with contextlib.closing(writer):
        for number, frame in enumerate(frames):
            writer.append_data(frame)
            if number % every:
                continue
            image = Image.fromarray(frame)
            if kept:
                kept.append(image.quantize(palette=kept[0], dither=Image.Dither.NONE))
            else:
                kept.append(image.quantize(GIF_COLOURS, Image.Quantize.MAXCOVERAGE, kmeans=2))
    return kept
