"""Videos: that they show what was measured, before on the left and after on the right."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import imageio_ffmpeg
import numpy as np
import pytest
from PIL import Image

from metarl.envs.tasks import UniformInterval
from metarl.errors import EnvironmentFailure
from metarl.evaluation.measurements import Evaluation
from metarl.evaluation.plan import EvaluationPlan
from metarl.evaluation.protocol import evaluate
from metarl.report.movie import write_movie
from metarl.report.video import NoPictures, shown_tasks, write_video
from tests.evaluation.fakes import CountingAgent, StairEnv, navigation_evaluation

STEPS = 11  # of an episode below


class FlatRenderer:
    """Draws a state (x, grey) as a grey picture."""

    def __init__(self, size: tuple[int, int]) -> None:
        self.size = size
        self.closed = False

    def draw(self, state: np.ndarray) -> np.ndarray:
        assert np.isfinite(state).all()
        return np.full((self.size[1], self.size[0], 3), state[1], dtype=np.uint8)

    def close(self) -> None:
        self.closed = True


class FlatEnv:
    """An environment with pictures, as a video asks for them."""

    render_fps = 20.0

    def task_caption(self, task: np.ndarray) -> str:
        return f"task {task[0]:g}"

    def motion_caption(self, states: np.ndarray, task: np.ndarray) -> str:
        assert np.isfinite(states).all()
        return f"{len(states) - 1} steps"

    def renderer(self, width: int, height: int) -> FlatRenderer:
        self.drawn_by = FlatRenderer((width, height))
        return self.drawn_by


def scenes(states: np.ndarray, tasks: np.ndarray) -> Evaluation:
    rounds, n, times, _ = states.shape
    return Evaluation(
        tasks=tasks,
        task_columns=("velocity",),
        task_units=("m/s",),
        split="held_out",
        action_mode="stochastic",
        adaptation_axis="gradient_step",
        step_sizes=[0.1],
        seeds=(0,),
        returns=np.zeros((rounds, n, 1)),
        env_steps_used=np.zeros(rounds),
        rewards=np.zeros((rounds, n, times - 1)),
        paths=None,
        states=states,
    )


def gif_frames(path: Path) -> list[np.ndarray]:
    with Image.open(path) as gif:
        frames = []
        for k in range(gif.n_frames):
            gif.seek(k)
            frames.append(np.asarray(gif.convert("RGB")))
        return frames


def mp4_frames(path: Path) -> tuple[dict[str, Any], list[np.ndarray]]:
    reader = imageio_ffmpeg.read_frames(str(path))
    meta = next(reader)
    width, height = meta["size"]
    frames = [np.frombuffer(f, np.uint8).reshape(height, width, 3) for f in reader]
    return meta, frames


def test_a_video_shows_three_tasks_before_and_after(tmp_path: Path) -> None:
    # Grey tells task, round and time; the tasks stand in no order, one of four is not shown.
    tasks = np.array([[2.0], [0.0], [1.0], [3.0]])
    states = np.zeros((3, 4, STEPS + 1, 2), dtype=np.float32)
    states[..., 1] = 20 + 50 * tasks[:, 0, None]
    states[2, ..., 1] += 30
    states[..., 1] += np.arange(STEPS + 1)
    states[2, 1, 7:] = np.nan  # an episode that is over stands still
    env = FlatEnv()
    gif, mp4 = write_video(scenes(states, tasks), env, tmp_path)  # type: ignore[arg-type]
    assert sorted(path.name for path in tmp_path.iterdir()) == [gif.name, mp4.name]
    assert env.drawn_by.closed

    meta, frames = mp4_frames(mp4)
    assert meta["fps"] == 20.0
    assert len(frames) == STEPS + 1
    small = gif_frames(gif)
    assert len(small) == 6  # every second one
    height, width, _ = small[0].shape
    assert frames[0].shape == (height, width, 3)
    assert (width % 2, height % 2) == (0, 0)
    with Image.open(gif) as picture:
        assert picture.info["duration"] == 100  # ms, so that it plays as fast

    def grey(frame: np.ndarray, row: int, column: int) -> float:
        y, x = 30 + 188 * row + 120, 8 + 328 * column + 200  # below the text of a panel
        return float(frame[y : y + 20, x : x + 20].mean())

    shown = [0.0, 2.0, 3.0]  # from low to high
    for t, frame in enumerate(frames):
        for row, task in enumerate(shown):
            before, after = 20 + 50 * task + t, 50 + 50 * task + t
            if task == 0.0:
                after = min(after, 50 + 6)
            assert abs(grey(frame, row, 0) - before) < 3.0, (t, row)
            assert abs(grey(frame, row, 1) - after) < 3.0, (t, row)
    assert small[0][:30].min() < 60  # headings
    assert np.abs(small[-1].astype(int) - frames[10].astype(int)).mean() < 6.0


def test_which_tasks_are_shown() -> None:
    velocities = np.array([[1.5], [0.2], [2.9], [0.9], [2.2]])
    assert shown_tasks(velocities) == [1, 0, 2]
    assert shown_tasks(np.array([[1.0], [-1.0]])) == [1, 0]  # as many as there are
    corners = np.array([[0, 0], [0.1, 0], [0.5, 0.5], [-0.5, 0.5]])
    assert set(shown_tasks(corners)) >= {2, 3}
    assert len(set(shown_tasks(corners))) == 3


def test_navigation_is_shown_as_moving_points(tmp_path: Path) -> None:
    evaluation = navigation_evaluation()
    gif, mp4 = write_video(evaluation, StairEnv(1), tmp_path)  # type: ignore[arg-type]
    frames = gif_frames(gif)
    assert len(frames) == 11  # 21 positions, every second one
    assert len(mp4_frames(mp4)[1]) == 21
    middle = frames[0].shape[1] // 2
    left, right = frames[-1][:, :middle], frames[-1][:, -middle:]
    # Before adaptation the points stay near the start, afterwards their trails lead to the goals.
    coloured = [int((np.ptp(half.astype(int), axis=2) > 60).sum()) for half in (left, right)]
    assert coloured[1] > 1.2 * coloured[0]
    assert gif.stat().st_size < 300_000
    assert mp4.stat().st_size < 300_000


def test_an_environment_without_pictures_is_named(tmp_path: Path) -> None:
    evaluation = evaluate(
        CountingAgent(),
        Blind(3),  # type: ignore[arg-type]
        Blind(3).task_distribution.held_out(),
        EvaluationPlan("held_out", episodes=1, adaptation_steps=0),
    )
    with pytest.raises(NoPictures, match=r"Blind cannot be shown.*MujocoTaskVectorEnv"):
        write_video(evaluation, Blind(3), tmp_path)  # type: ignore[arg-type]
    assert list(tmp_path.iterdir()) == []


class Blind(StairEnv):
    position_columns = None


class Visible(StairEnv):
    """Its state is the steps taken and the lane."""

    def render_states(self, lanes: slice) -> np.ndarray:
        return np.stack([self.steps, np.arange(self.num_envs)], axis=1)[lanes]


@pytest.mark.parametrize("mode", ["stochastic", "deterministic"])
def test_states_are_those_of_the_first_lanes_in_the_measured_rounds(mode: Any) -> None:
    states = evaluate(
        CountingAgent(mode=mode),
        Visible(6),  # type: ignore[arg-type]
        Visible(6).task_distribution.held_out(),
        EvaluationPlan("held_out", episodes=2, adaptation_steps=1, seed=5),
    ).states
    assert states is not None
    assert states.shape == (2, 3, 5, 2)
    nan = np.nan
    steps = [[0, 1, 2, nan, nan], [0, 1, 2, 3, nan], [0, 1, 2, 3, 4]]  # lengths 2, 3, 9 of 4
    lanes = [[0, 0, 0, nan, nan], [2, 2, 2, 2, nan], [4, 4, 4, 4, 4]]
    for k in range(2):
        np.testing.assert_array_equal(states[k, ..., 0], steps)
        np.testing.assert_array_equal(states[k, ..., 1], lanes)


def test_a_failed_video_leaves_nothing_behind(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def frames() -> Any:
        yield np.zeros((16, 16, 3), np.uint8)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_movie(frames(), 20.0, tmp_path)
    assert list(tmp_path.iterdir()) == []

    def no_program() -> str:
        raise RuntimeError("No ffmpeg exe could be found.")

    black = [np.zeros((16, 16, 3), np.uint8)] * 3
    monkeypatch.setattr(imageio_ffmpeg._io, "get_ffmpeg_exe", no_program)
    with pytest.raises(EnvironmentFailure, match="there is no ffmpeg"):
        write_movie(black, 20.0, tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_cannot_be_written_is_an_environment_failure(tmp_path: Path) -> None:
    black = [np.zeros((16, 16, 3), np.uint8)] * 3
    with pytest.raises(EnvironmentFailure, match="cannot be written"):
        write_movie(black, 20.0, tmp_path / "nowhere")


def test_the_tasks_of_the_cheetah_are_low_middle_and_high() -> None:
    tasks = UniformInterval(0.0, 2.0).held_out()
    low, middle, high = tasks[shown_tasks(tasks), 0]
    assert low < 0.1 < 0.9 < middle < 1.1 < 1.9 < high


@pytest.mark.parametrize(("fps", "frames", "ms"), [(4.0, 5, 250), (20.0, 3, 100)])
def test_a_slow_movie_loses_no_frame(tmp_path: Path, fps: float, frames: int, ms: int) -> None:
    columns = [np.repeat(np.eye(32, dtype=np.uint8)[k], 3).reshape(32, 3) for k in range(5)]
    gif, _ = write_movie((np.stack([255 * one] * 32) for one in columns), fps, tmp_path)
    with Image.open(gif) as image:
        assert (image.n_frames, image.info["duration"]) == (frames, ms)  # type: ignore[attr-defined]
