"""Videos of environments that draw themselves: they show the measured episodes, or are refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from metarl.envs.faults import SimulationFailure
from metarl.envs.process_vector import ProcessVectorEnv
from metarl.evaluation.measurements import Evaluation
from metarl.evaluation.plan import EvaluationPlan
from metarl.evaluation.protocol import evaluate
from metarl.report import video
from metarl.report.video import (
    NoPictures,
    check_pictures,
    fitted,
    panel_size,
    shown_tasks,
    write_video,
)
from tests.envs import drawing_envs, user_envs
from tests.envs.local_pool import LocalPool
from tests.evaluation.fakes import CountingAgent

TASKS = 4


class Pusher(CountingAgent):
    """Of two actions, a random one before its adaptation and to the right after it."""

    def act(self, observation: np.ndarray, active: np.ndarray) -> np.ndarray:
        noise = np.random.default_rng(len(self.log)).uniform(-1, 1, (*active.shape, 2))
        self.log.append("act")
        return np.asarray(noise + 0.5 * self.adaptations)


def local(cls: type, lanes: int = 1, **params: Any) -> ProcessVectorEnv:
    return ProcessVectorEnv(cls, lanes, params, num_workers=2, pool=LocalPool())


def measured(env: ProcessVectorEnv, episodes: int = 2) -> Evaluation:
    tasks = env.task_distribution.held_out()[:TASKS]
    plan = EvaluationPlan("held_out", episodes=episodes, adaptation_steps=1, seed=5)
    return evaluate(Pusher(), env, tasks, plan)


@pytest.fixture
def movie(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """The frames of each movie and how many a second; nothing is encoded."""
    made: list[Any] = []

    def write(frames: Any, fps: float, folder: Path) -> list[Path]:
        made.append((list(frames), fps))
        return []

    monkeypatch.setattr(video, "write_movie", write)
    return made


def test_the_pictures_are_of_the_measured_episodes(
    movie: list[Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    env = local(drawing_envs.Drawn, TASKS * 2)
    evaluation = measured(env)
    write_video(evaluation, env, tmp_path)
    frames, fps = movie[0]
    assert fps == 10.0
    assert evaluation.paths is not None  # [2, n, T+1, 2], of the same first lanes
    shown = shown_tasks(evaluation.tasks)
    x = evaluation.paths[..., 0][:, shown]
    lengths = np.isfinite(x).sum(axis=2) - 1
    assert len(frames) == lengths.max() + 1
    assert len(set(lengths.ravel())) > 1  # some end earlier, and stand still
    width, height = panel_size((61, 93, 3))
    for t, frame in enumerate(frames):
        for (column, row), length in np.ndenumerate(lengths):
            left, top = 8 + column * (width + 8), 30 + row * (height + 28) + 20
            middle = frame[top + height // 2, left + width // 2].astype(float)
            expected = drawing_envs.grey(x[column, row, min(t, length)])
            assert np.abs(middle - expected).max() == 0.0, (t, column, row)
    assert "warning" not in capsys.readouterr().err


def test_an_environment_that_does_not_repeat_itself_is_told_of(
    movie: list[Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    env = local(drawing_envs.Forgetful, TASKS * 2)
    env.reset(seed=0)
    write_video(measured(env), env, tmp_path)
    assert len(movie) == 1
    assert "Forgetful does not repeat itself after a reset with the" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("cls", "said"),
    [
        (drawing_envs.Nothing, r"Nothing.render \(\S+drawing_envs.py, line \d+\) returned None as"),
        (drawing_envs.Floats, r"array of shape \[8, 8, 3\] and type float64 as its picture: it mu"),
        (drawing_envs.Grey, r"array of shape \[8, 8\] and type uint8 as its picture: it must be"),
        (drawing_envs.NoLibrary, r"DependencyNotInstalled: pygame is not installed \(\S+, line"),
        (drawing_envs.NoMode, "NoMode cannot be .*its constructor NoMode takes no render_mode"),
        (
            user_envs.Reach,
            r'Reach cannot be .* rgb_array, in metadata\["render_modes"\] and.*lists',
        ),
    ],
)
def test_what_cannot_be_drawn_is_refused_without_a_step(
    cls: type, said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(user_envs.Reach, "step", None)
    with pytest.raises(NoPictures, match=said):
        check_pictures(local(cls))


def test_what_can_be_drawn_is_not(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(user_envs.Reach, "step", None)
    check_pictures(local(drawing_envs.Drawn))
    # The environment in another mode, as it was configured, is drawn in this one.
    check_pictures(local(drawing_envs.Drawn, render_mode="human"))


def test_a_picture_that_fails_later_names_the_line(tmp_path: Path) -> None:
    env = local(drawing_envs.Weary, TASKS * 2)
    check_pictures(env)
    evaluation = measured(env)
    with pytest.raises(SimulationFailure, match=r"out of paint \(\S+drawing_envs.py, line"):
        write_video(evaluation, env, tmp_path)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("shape", [(1, 1), (7, 5), (500, 500), (3000, 2), (1, 4000), (2161, 3841)])
def test_pictures_of_any_size_fit(shape: tuple[int, int]) -> None:
    size = panel_size(shape)
    assert 160 <= size[0] <= 320
    assert 90 <= size[1] <= 240
    picture = np.full((*shape, 3), 7, dtype=np.uint8)
    panel = np.asarray(fitted(picture, size))
    assert panel.shape == (size[1], size[0], 3)
    assert (panel == 7).any()
    if max(shape) / min(shape) < 2:  # to its edges in one direction
        assert (panel == 7).all(axis=(1, 2)).any() or (panel == 7).all(axis=(0, 2)).any()
