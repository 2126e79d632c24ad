"""Pictures of MuJoCo environments. They need EGL or OSMesa; what a machine lacks it says."""

from __future__ import annotations

import gymnasium
import numpy as np
import pytest

from metarl import envs
from metarl.envs import rendering
from metarl.envs.rendering import RendererMissing, backend

TILES = 80 / 60  # metres in which the floor's pattern repeats


def test_without_a_library_a_sentence_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    tried: list[str] = []
    monkeypatch.delenv("MUJOCO_GL", raising=False)
    monkeypatch.setattr(rendering.sys, "platform", "linux")
    monkeypatch.setattr(rendering, "_works", lambda name: bool(tried.append(name)))
    with pytest.raises(RendererMissing, match=r"libegl1.*libosmesa6"):
        backend.__wrapped__()
    assert tried == ["egl", "osmesa"]
    monkeypatch.setattr(rendering, "_works", lambda name: name == "osmesa")
    assert backend.__wrapped__() == "osmesa"


def test_a_library_that_the_user_chose_is_the_only_one_tried(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("MUJOCO_GL", "osmesa")
    monkeypatch.setattr(rendering, "_works", lambda name: name == "egl")
    with pytest.raises(RendererMissing, match="MUJOCO_GL is 'osmesa'"):
        backend.__wrapped__()
    monkeypatch.setenv("MUJOCO_GL", "os; import nothing")
    with pytest.raises(RendererMissing, match="unset it"):
        backend.__wrapped__()


def test_a_library_that_is_not_there_does_not_work() -> None:
    assert not rendering._works("no_such_library")


@pytest.fixture
def renderer() -> None:
    try:
        backend()
    except RendererMissing as error:
        pytest.skip(str(error))


@pytest.mark.usefixtures("renderer")
def test_the_camera_goes_along_and_the_floor_is_seen_to_move() -> None:
    env = envs.make("half_cheetah_vel", 2, num_threads=1)
    env.reset(seed=0)
    draw = env.renderer(160, 90)
    state = env.render_states(slice(0, 1))[0]
    picture = draw.draw(state).astype(int)
    assert picture.shape == (90, 160, 3)

    def moved(x: float) -> np.ndarray:
        there = state.copy()
        there[0] += x
        return draw.draw(there).astype(int)

    assert np.abs(moved(9 * TILES) - picture).mean() < 1.0  # 12 m on, where the floor looks alike
    assert np.abs(moved(9.5 * TILES) - picture).mean() > 10.0
    # The body's brown and rose are in the middle of the picture, whole; floor and sky are grey.
    coloured = np.ptp(picture, axis=2) > 40
    rows, columns = np.nonzero(coloured)
    assert len(rows) > 100
    assert 15 < columns.min() < columns.max() < 145
    assert 10 < rows.min() < rows.max() < 85
    draw.close()
    draw.close()
    env.close()


@pytest.mark.usefixtures("renderer")
@pytest.mark.parametrize("name", ["ant_goal", "humanoid_dir", "hopper_params"])
def test_the_whole_body_is_seen(name: str) -> None:
    env = envs.make(name, 1, num_threads=1)
    env.reset(seed=0)
    draw = env.renderer(160, 90)
    picture = draw.draw(env.render_states(slice(0, 1))[0]).astype(int)  # type: ignore[index]
    rows, columns = np.nonzero(np.ptp(picture, axis=2) > 40)
    assert len(rows) > 100
    assert 3 < columns.min() < columns.max() < 156
    assert 3 < rows.min() < rows.max() < 86
    draw.close()


@pytest.mark.usefixtures("renderer")
def test_a_picture_changes_nothing_of_the_simulation() -> None:
    observations = []
    for drawn in (False, True):
        env = envs.make("half_cheetah_dir", 1, num_threads=1, horizon=5)
        env.reset(seed=1)
        draw = env.renderer(32, 32) if drawn else None
        for _ in range(5):
            observation = env.step(np.full((1, 6), 0.7))[0]
            if draw is not None:
                draw.draw(np.zeros(9))
        observations.append(observation)
        env.close()
    np.testing.assert_array_equal(*observations)


@pytest.mark.usefixtures("renderer")
def test_a_single_environment_renders_its_present_state() -> None:
    env = gymnasium.make("metarl/HalfCheetahVel-v0", task=[1.0], render_mode="rgb_array")
    assert env.metadata["render_fps"] == 20
    env.reset(seed=3)
    first = env.render()
    assert isinstance(first, np.ndarray)
    assert (first.shape, first.dtype) == ((270, 480, 3), np.uint8)
    np.testing.assert_array_equal(env.render(), first)
    for _ in range(3):
        env.step(env.action_space.sample())
    assert not np.array_equal(env.render(), first)
    env.close()


def test_render_modes_that_there_are_not() -> None:
    with pytest.raises(ValueError, match="point_navigation has no pictures"):
        envs.TaskEnv("point_navigation", render_mode="rgb_array")
    with pytest.raises(ValueError, match="'human': it must be 'rgb_array'"):
        envs.TaskEnv("half_cheetah_vel", render_mode="human")
    env = envs.TaskEnv("half_cheetah_vel")
    env.reset(seed=0)
    assert env.render() is None
    env.close()


def test_captions() -> None:
    velocity, direction = envs.make("half_cheetah_vel", 1), envs.make("half_cheetah_dir", 1)
    goal = envs.make("point_navigation", 1)
    assert velocity.task_caption(np.array([0.5])) == "target speed 0.50 m/s"
    assert direction.task_caption(np.array([-1.0])) == "run backward"
    assert goal.task_caption(np.array([0.25, -0.5])) == "goal_x 0.25 m, goal_y -0.5 m"
