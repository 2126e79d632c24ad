"""Frames into files: a GIF, which shows everywhere, and a smaller and smoother MP4."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterable
from pathlib import Path

import numpy as np
from PIL import Image

from metarl.errors import EnvironmentFailure
from metarl.storage.files import PENDING

GIF_COLOURS = 32
GIF_PAUSE_S = 1.0  # on the last frame, before it begins anew
_X264 = ["-crf", "27", "-preset", "medium", "-movflags", "+faststart"]


def write_movie(
    frames: Iterable[np.ndarray], fps: float, folder: Path, name: str, gif_every: int = 1
) -> list[Path]:
    """Write `<name>.gif` and `<name>.mp4`; each appears whole or, after a failure, not at all.

    Args:
        frames: uint8 [H, W, RGB], all of one even size; drawn one at a time.
        fps: Frames a second.
        folder: Which exists.
        name: Of the files.
        gif_every: The GIF takes every so many frames, at as many fewer a second.

    Raises:
        EnvironmentFailure: there is no ffmpeg, or the files cannot be written.
    """
    made = [folder / f"{name}.gif", folder / f"{name}.mp4"]
    # The endings stay, since ffmpeg goes by them.
    pending = [path.with_name(f"{PENDING}{os.getpid()}-{path.name}") for path in made]
    try:
        small = _write_mp4(pending[1], frames, fps, gif_every)
        duration = 10 * round(100 * gif_every / fps)  # ms; a GIF counts hundredths of a second
        last = duration + round(1000 * GIF_PAUSE_S)
        durations = [duration] * (len(small) - 1) + [last]
        small[0].save(
            pending[0], append_images=small[1:], save_all=True, duration=durations, loop=0
        )
        for path, whole in zip(pending, made, strict=True):
            os.replace(path, whole)
    except OSError as error:
        raise EnvironmentFailure(
            f"The video cannot be written to {folder}: {error.strerror or 'ffmpeg failed'}."
        ) from error
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
    path: Path, frames: Iterable[np.ndarray], fps: float, keep_every: int
) -> list[Image.Image]:
    """Encode the frames, and keep some of them for the GIF, all in one palette."""
    from imageio.v2 import get_writer

    kept: list[Image.Image] = []
    writer = get_writer(
        path,
        "FFMPEG",
        fps=fps,
        codec="libx264",
        quality=None,
        macro_block_size=2,
        ffmpeg_log_level="quiet",
        output_params=_X264,
    )
    with contextlib.closing(writer):
        for number, frame in enumerate(frames):
            writer.append_data(frame)
            if number % keep_every == 0:
                image = Image.fromarray(frame)
                kept.append(
                    image.quantize(palette=kept[0], dither=Image.Dither.NONE)
                    if kept
                    else image.quantize(GIF_COLOURS, Image.Quantize.MAXCOVERAGE, kmeans=2)
                )
    return kept
