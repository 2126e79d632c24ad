"""Seeing the agent: one episode of a few tasks, before and after adaptation, side by side.

What is shown was recorded while it was measured, so a video changes no number and shows the very
episodes that the numbers are about.
"""

from __future__ import annotations

import contextlib
import functools
import math
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from metarl.envs.drawn_vector import DrawnVectorEnv, draws_itself, what_pictures_need
from metarl.envs.faults import SimulationFailure, users_code
from metarl.errors import warn
from metarl.evaluation.recording import Replay
from metarl.evaluation.task_sets import spread_tasks
from metarl.report.evaluation_plots import goals_of, square_window
from metarl.report.figures import SERIES
from metarl.report.movie import write_movie
from metarl.report.words import step_name

if TYPE_CHECKING:
    from metarl.envs.process_vector import ProcessVectorEnv
    from metarl.envs.vector import TaskVectorEnv
    from metarl.evaluation.measurements import Evaluation

SHOWN_TASKS = 3
_PANEL = (320, 180)  # pixels, width and height
_PATH_PANEL = 300
_LARGEST = (320, 240)  # of pictures that an environment draws itself
_CAPTION = 20
_GAP, _HEADER, _FOOTER = 8, 30, 26
_INK, _PAPER = (25, 25, 25), (255, 255, 255)
_FPS = 20.0

Panels = Callable[[int], list[list[Image.Image]]]
"""Time step -> rows of two pictures, before and after, or of one where nothing is adapted."""


class NoPictures(ValueError):
    """The environment cannot be shown; one sentence says what it would need."""


def write_video(evaluation: Evaluation, env: TaskVectorEnv, folder: Path) -> list[Path]:
    """Write `adaptation.gif` and `adaptation.mp4` of an evaluation.

    A MuJoCo environment is drawn as it looks, for a low, a middle and a high task, and so is one
    that draws itself, in which the episodes are played again; an agent with a position in the
    plane as a moving point, for a few tasks at once.

    Args:
        evaluation: The measurements, with what was recorded of them.
        env: The environment that they were made in, of any number of lanes.
        folder: Which exists.

    Returns:
        The two files.

    Raises:
        NoPictures: the environment has neither pictures nor a position.
        RendererMissing: this machine cannot draw MuJoCo's pictures.
        SimulationFailure: the environment failed while it drew itself.
        EnvironmentFailure: the files cannot be written.
    """
    if evaluation.states is not None:
        return _write_scenes(evaluation, evaluation.states, env, folder)
    if draws_itself(env):
        return _write_replay(evaluation, env, folder)
    if evaluation.paths is not None:
        return _write_paths(evaluation, evaluation.paths, folder)
    raise NoPictures(what_pictures_need(env))


def check_pictures(env: TaskVectorEnv) -> None:
    """See whether :func:`write_video` could draw an environment, by one picture; it is reset.

    Raises:
        NoPictures, RendererMissing: as there.
    """
    try:
        if draws_itself(env):
            with contextlib.closing(DrawnVectorEnv(env, 1)) as drawn:
                drawn.reset(seed=0)
                drawn.picture(0)
            return
        env.reset(seed=0)
        with users_code():
            states = env.render_states(slice(0, None))
            if states is not None:
                with contextlib.closing(env.renderer(*_PANEL)) as renderer:
                    Image.fromarray(renderer.draw(states[0]))
    except (SimulationFailure, ValueError) as error:
        raise NoPictures(f"--video cannot show the environment. {error}") from error
    if states is None and env.position_columns is None:
        raise NoPictures(what_pictures_need(env))


def shown_tasks(tasks: np.ndarray, count: int = SHOWN_TASKS) -> list[int]:
    """Indices of the tasks [n, d] that a video shows, chosen by the tasks alone.

    The lowest, the middle and the highest where a task is one number, else some that lie far apart.
    """
    if tasks.shape[1] > 1:
        return [int(i) for i in spread_tasks(tasks, count)]
    order = np.argsort(tasks[:, 0], kind="stable")
    places = np.linspace(0, len(order) - 1, min(count, len(order))).round().astype(int)
    return [int(order[place]) for place in places]


def _write_scenes(
    evaluation: Evaluation, states: np.ndarray, env: TaskVectorEnv, folder: Path
) -> list[Path]:
    """Rows of tasks; states float32 [K+1, n, T+1, q]."""
    env_fps = env.render_fps or _FPS
    stride = max(1, round(env_fps / _FPS))
    renderer = env.renderer(*_PANEL)

    def panels(t: int) -> list[list[Image.Image]]:
        return [
            [panel(states[k, task], task, t) for k in _shown_steps(evaluation)]
            for task in shown_tasks(evaluation.tasks)
        ]

    def panel(episode: np.ndarray, task: int, t: int) -> Image.Image:
        t = min(t, _last_step(episode))
        picture = Image.fromarray(renderer.draw(episode[t]))
        draw = ImageDraw.Draw(picture)
        draw.text((8, 5), env.task_caption(evaluation.tasks[task]), _INK, _font(15))
        motion = env.motion_caption(episode[: t + 1], evaluation.tasks[task])
        draw.text((8, 25), motion, _INK, _font(15))
        return picture

    def footer(t: int) -> str:
        return f"step {t}" if env.render_fps is None else f"{t / env_fps:.1f} s"

    steps = range(0, states.shape[2], stride)
    try:
        frames = _frames(evaluation, panels, footer, steps)
        return write_movie(frames, env_fps / stride, folder)
    finally:
        renderer.close()


def _write_replay(evaluation: Evaluation, env: ProcessVectorEnv, folder: Path) -> list[Path]:
    """Rows of tasks, as the environment draws itself."""
    env_fps = env.picture_fps or _FPS
    stride = max(1, round(env_fps / _FPS))
    shown, steps = shown_tasks(evaluation.tasks), _shown_steps(evaluation)
    recordings = [evaluation.recordings[k] for k in steps]
    with contextlib.closing(DrawnVectorEnv(env, len(shown) * len(steps))) as drawn:
        replay = Replay(drawn, evaluation.tasks, recordings, shown)
        size = panel_size(replay.pictures(0)[0].shape)

        def panels(t: int) -> list[list[Image.Image]]:
            pictures = iter([fitted(picture, size) for picture in replay.pictures(t)])
            columns = [[captioned(next(pictures), task) for task in shown] for _ in steps]
            return [list(row) for row in zip(*columns, strict=True)]

        def captioned(picture: Image.Image, task: int) -> Image.Image:
            panel = Image.new("RGB", (size[0], size[1] + _CAPTION), _PAPER)
            panel.paste(picture, (0, _CAPTION))
            caption = env.task_caption(evaluation.tasks[task])
            ImageDraw.Draw(panel).text((0, _CAPTION / 2), caption, _INK, _font(13), anchor="lm")
            return panel

        times = range(0, replay.length + 1, stride)
        frames = _frames(evaluation, panels, lambda t: f"step {t}", times)
        files = write_movie(frames, env_fps / stride, folder)
    if replay.differs:
        warn(
            "the video shows other episodes than those that were measured: "
            f"{drawn.name} does not repeat itself after a reset with the same seed."
        )
    return files


def panel_size(shape: tuple[int, ...]) -> tuple[int, int]:
    """Width and height of the panels for pictures [H, W, 3]: about as large, whatever theirs is."""
    height, width = shape[:2]
    scale = min(_LARGEST[0] / width, _LARGEST[1] / height)
    return max(_LARGEST[0] // 2, round(width * scale)), max(90, round(height * scale))


def fitted(picture: np.ndarray, size: tuple[int, int]) -> Image.Image:
    """A picture uint8 [H, W, 3] as large as fits, on paper of this width and height."""
    image, (width, height) = Image.fromarray(picture), size
    scale = min(width / image.width, height / image.height)
    small = max(1, round(image.width * scale)), max(1, round(image.height * scale))
    sharp = Image.Resampling.NEAREST if scale >= 2 else Image.Resampling.LANCZOS  # of few pixels
    image = image.resize(small, sharp, reducing_gap=2.0)
    paper = Image.new("RGB", size, _PAPER)
    paper.paste(image, ((width - small[0]) // 2, (height - small[1]) // 2))
    return paper


def _write_paths(evaluation: Evaluation, paths: np.ndarray, folder: Path) -> list[Path]:
    """All tasks in one picture; paths [K+1, n, T+1, 2]."""
    shown = shown_tasks(evaluation.tasks, len(SERIES))
    goals = goals_of(evaluation)
    goals = None if goals is None else goals[shown]
    steps = _shown_steps(evaluation)
    middle, half = square_window(paths[np.ix_(steps, shown)], goals)
    scale = 2  # drawn larger and reduced, which smooths the lines

    def pixel(position: np.ndarray) -> tuple[float, float]:
        x, y = (position - middle) / half
        return (1 + x) / 2 * _PATH_PANEL * scale, (1 - y) / 2 * _PATH_PANEL * scale

    def panel(k: int, t: int) -> Image.Image:
        picture = Image.new("RGB", (_PATH_PANEL * scale,) * 2, (243, 243, 243))
        draw = ImageDraw.Draw(picture)
        for i, (task, colour) in enumerate(zip(shown, SERIES, strict=False)):
            if goals is not None:
                draw.polygon(_star(pixel(goals[i]), 9 * scale), colour, _INK)
            episode = paths[k, task]
            visited = [pixel(p) for p in episode[: min(t, _last_step(episode)) + 1]]
            if len(visited) > 1:
                draw.line(visited, colour, 2 * scale, joint="curve")
            draw.circle(visited[-1], 5 * scale, colour, _INK, scale)
        return picture.reduce(scale)

    def panels(t: int) -> list[list[Image.Image]]:
        return [[panel(k, t) for k in steps]]

    def footer(t: int) -> str:
        return f"step {t}" + ("" if goals is None else "; stars: the goals, never observed")

    frames = _frames(evaluation, panels, footer, range(paths.shape[2]))
    return write_movie(frames, _FPS, folder)


def _star(centre: tuple[float, float], radius: float) -> list[tuple[float, float]]:
    """The ten corners of a star."""
    angles = [math.pi * (corner / 5 - 0.5) for corner in range(10)]
    radii = [radius, 0.45 * radius] * 5
    return [
        (centre[0] + r * math.cos(angle), centre[1] + r * math.sin(angle))
        for r, angle in zip(radii, angles, strict=True)
    ]


def _frames(
    evaluation: Evaluation, panels: Panels, footer: Callable[[int], str], steps: range
) -> Iterator[np.ndarray]:
    """Whole frames uint8 [H, W, RGB], H and W even: headings, rows of panels, a line below."""
    headings = [step_name(evaluation.adaptation_axis, k) for k in _shown_steps(evaluation)]
    for t in steps:
        rows = panels(t)
        width, height = rows[0][0].size
        across = len(headings) * (width + _GAP) + _GAP
        total = (across, _HEADER + len(rows) * (height + _GAP) + _FOOTER)
        frame = Image.new("RGB", (total[0] + total[0] % 2, total[1] + total[1] % 2), _PAPER)
        draw = ImageDraw.Draw(frame)
        for column, heading in enumerate(headings):
            left = _GAP + column * (width + _GAP)
            draw.text((left + width / 2, _HEADER / 2), heading, _INK, _font(17), anchor="mm")
            for row, pictures in enumerate(rows):
                frame.paste(pictures[column], (left, _HEADER + row * (height + _GAP)))
        draw.text((_GAP, total[1] - _FOOTER / 2 - 2), footer(t), _INK, _font(13), anchor="lm")
        yield np.asarray(frame)


def _shown_steps(evaluation: Evaluation) -> list[int]:
    """Before and after adaptation; the only measurement where nothing is adapted."""
    return sorted({0, evaluation.adaptation_steps})


def _last_step(episode: np.ndarray) -> int:
    """The last time step of an episode [T+1, ·] that was reached; NaN follows."""
    return int(np.isfinite(episode).all(axis=1).sum()) - 1


@functools.cache
def _font(size: int) -> ImageFont.FreeTypeFont:
    """Matplotlib's own font, which every installation has."""
    import matplotlib

    path = Path(matplotlib.get_data_path()) / "fonts" / "ttf" / "DejaVuSans.ttf"
    return ImageFont.truetype(str(path), size)
