"""HalfCheetah equals Gymnasium's HalfCheetah-v5 to the last bit; rewards by their formula."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import gymnasium
import mujoco
import numpy as np
import pytest
from mujoco.batch import SimulationError

from metarl.envs import SimulationFailure, make
from metarl.envs.locomotion.half_cheetah import HalfCheetahDir, HalfCheetahVel
from metarl.envs.locomotion.models import silence

LANES = 4


@pytest.fixture(scope="module")
def originals() -> Iterator[list[gymnasium.Env]]:
    with silence():
        envs = [gymnasium.make("HalfCheetah-v5").unwrapped for _ in range(LANES)]
    yield envs
    for env in envs:
        env.close()


def random_actions(steps: int, seed: int = 0) -> np.ndarray:
    """[T, N, 6] float32, as a policy's network gives them."""
    return np.random.default_rng(seed).uniform(-1, 1, (steps, LANES, 6)).astype(np.float32)


@pytest.mark.parametrize("threads", [1, 2, 3])
def test_a_thousand_steps_equal_gymnasium_bit_for_bit(
    originals: list[gymnasium.Env], threads: int
) -> None:
    env = HalfCheetahVel(LANES, horizon=1000, num_threads=threads)
    target = np.linspace(0.0, 3.0, LANES)
    env.set_tasks(target[:, None])
    observation, _ = env.reset(seed=11)
    for lane, original in enumerate(originals):
        np.testing.assert_array_equal(observation[lane], original.reset(seed=11 + lane)[0])
    for actions in random_actions(1000):
        observation, reward, terminated, _, _ = env.step(actions)
        cost = 0.05 * (actions.astype(np.float64) ** 2).sum(axis=1)
        for lane, original in enumerate(originals):
            expected, _, _, _, info = original.step(actions[lane])
            assert (observation[lane] == expected).all()
            assert -reward[lane] == pytest.approx(
                abs(info["x_velocity"] - target[lane]) + cost[lane], rel=1e-14
            )
        assert not terminated.any()
    assert env.finished.all()


@pytest.mark.parametrize("threads", [1, 2])
def test_partial_resets_and_frozen_lanes_equal_gymnasium_bit_for_bit(
    originals: list[gymnasium.Env], threads: int
) -> None:
    """Lanes restart at different times, with a seed or going on, and freeze at the horizon."""
    env = HalfCheetahVel(LANES, horizon=60, num_threads=threads)
    env.reset(seed=3)
    expected = np.stack([o.reset(seed=3 + lane)[0] for lane, o in enumerate(originals)])
    live = np.full(LANES, 60)
    rng = np.random.default_rng(0)
    frozen_steps = 0
    for step, actions in enumerate(random_actions(600, seed=1)):
        if rng.random() < 0.04:
            mask = rng.random(LANES) < 0.5
            seeds = rng.integers(2**60, size=LANES) if step % 2 else None
            observation, _ = env.reset(seed=seeds, options={"reset_mask": mask})
            for lane in np.flatnonzero(mask):
                seed = None if seeds is None else int(seeds[lane])
                expected[lane] = originals[lane].reset(seed=seed)[0]
            live[mask] = 60
            assert (observation == expected).all()
        observation, reward, _, truncated, _ = env.step(actions)
        for lane in np.flatnonzero(live):
            expected[lane] = originals[lane].step(actions[lane])[0]
        assert (observation == expected).all()
        assert ((reward == 0.0) == (live == 0)).all()
        live = np.maximum(live - 1, 0)
        assert (truncated == (live == 0)).all()
        frozen_steps += int((live == 0).sum())
    assert frozen_steps > 100, "the test is about frozen lanes"


def test_float64_and_out_of_range_actions_equal_gymnasium(originals: list[gymnasium.Env]) -> None:
    env = HalfCheetahDir(LANES)
    env.set_tasks([[1.0], [-1.0], [1.0], [-1.0]])
    env.reset(seed=0)
    for lane, original in enumerate(originals):
        original.reset(seed=lane)
    for actions in np.random.default_rng(4).normal(size=(100, LANES, 6)):
        observation, reward, *_ = env.step(actions)
        clipped = np.clip(actions, -1.0, 1.0)
        for lane, original in enumerate(originals):
            expected, _, _, _, info = original.step(actions[lane])
            assert (observation[lane] == expected).all()
            direction = 1.0 if lane % 2 == 0 else -1.0
            assert reward[lane] == pytest.approx(
                direction * info["x_velocity"] - 0.05 * (clipped[lane] ** 2).sum(), rel=1e-12
            )


def test_the_torsos_position_is_get_body_com(originals: list[gymnasium.Env]) -> None:
    env = HalfCheetahVel(LANES, observe_position=True)
    observation, _ = env.reset(seed=0)
    for lane, original in enumerate(originals):
        original.reset(seed=lane)
    for actions in random_actions(50):
        for lane, original in enumerate(originals):
            torso: Any = original.unwrapped
            assert (observation[lane, 17:] == torso.get_body_com("torso")).all()
        observation = env.step(actions)[0]
        for lane, original in enumerate(originals):
            assert (observation[lane, :17] == original.step(actions[lane])[0]).all()


def test_physics_of_2017_is_a_slow_simulation_of_single_steps() -> None:
    """No frame skip; position and velocity are those of the whole body's centre of mass, now."""
    env: Any = make("half_cheetah_vel", LANES, preset="maml_2017")
    target = np.linspace(0.0, 2.0, LANES)
    env.set_tasks(target[:, None])
    observation, _ = env.reset(seed=0)
    slow = [mujoco.MjData(env._model) for _ in range(LANES)]
    for lane, data in enumerate(slow):
        data.qpos[:], data.qvel[:] = env._qpos[lane], env._qvel[lane]
        mujoco.mj_forward(env._model, data)
    for actions in random_actions(60):
        centres = np.array([data.subtree_com[1] for data in slow])
        np.testing.assert_allclose(observation[:, 17:], centres, rtol=1e-12)
        observation, reward, *_ = env.step(actions)
        for lane, data in enumerate(slow):
            data.ctrl[:] = actions[lane]
            mujoco.mj_step(env._model, data)
            seen = np.concatenate([data.qpos[1:], data.qvel])
            np.testing.assert_allclose(observation[lane, :17], seen, rtol=1e-9, atol=1e-12)
            mujoco.mj_forward(env._model, data)
            speed = (data.subtree_com[1, 0] - centres[lane, 0]) / 0.01
            mujoco.mj_subtreeVel(env._model, data)  # rllab's, at the end of the step
            assert speed == pytest.approx(data.subtree_linvel[1, 0], abs=0.05)
            cost = 0.05 * (actions[lane].astype(np.float64) ** 2).sum()
            assert -reward[lane] == pytest.approx(abs(speed - target[lane]) + cost, rel=1e-7)
            assert abs(speed - data.qvel[0]) > 1e-6  # which is the torso's


@pytest.mark.parametrize("cls", [HalfCheetahVel, HalfCheetahDir])
def test_how_upright_and_how_steadily_it_runs(cls: Any) -> None:
    """Over the second half of an episode, of a lane's own; the next episode begins anew."""
    env = cls(LANES, horizon=9)
    assert env.measures.keys() == env.episode_measures().keys() == {"pitched", "sway"}
    env.reset(seed=0)
    pitch, speed = [], []
    for step, actions in enumerate(random_actions(9)):
        if step == 5:
            env._qpos[0, 2] = 2.0 * np.pi - 2.0  # once around, and on its head
            env._qpos[1, 2] = 2.0 * np.pi
        before = env._qpos[:, 0].copy()
        env.step(actions)
        pitch.append(env._qpos[:, 2].copy())
        speed.append((env._qpos[:, 0] - before) / 0.05)
    found = env.episode_measures()
    np.testing.assert_allclose(found["sway"], np.std(speed[4:], axis=0), rtol=1e-9)
    beyond = np.cos(pitch[4:]) < np.cos(0.7)
    np.testing.assert_allclose(found["pitched"], beyond.mean(axis=0))
    assert found["pitched"][0] > 0.5
    assert found["pitched"][1] < 0.5
    env.step(random_actions(1)[0])  # all are finished: they stay as they are
    np.testing.assert_array_equal(env.episode_measures()["sway"], found["sway"])
    env.reset(seed=1, options={"reset_mask": np.arange(LANES) == 2})
    sway = env.episode_measures()["sway"]
    assert sway[2] == 0.0
    np.testing.assert_array_equal(sway[[0, 1, 3]], found["sway"][[0, 1, 3]])


def test_neither_task_nor_absolute_x_is_observed() -> None:
    """REFERENCE trap: the observation contains absolute x. Two tasks and, by 5 m, two places."""
    for cls, tasks in ((HalfCheetahVel, [[0.0], [3.0]]), (HalfCheetahDir, [[-1.0], [1.0]])):
        env = cls(2)
        env.set_tasks(tasks)
        env.reset(seed=[1, 1])
        env._qpos[1, 0] += 5.0
        for actions in random_actions(30)[:, :1]:
            observation = env.step(np.repeat(actions, 2, axis=0))[0]
            assert observation.shape == (2, 17)
            # Contacts at another x are rounded differently: equal to rounding, not to the bit.
            np.testing.assert_allclose(observation[0], observation[1], rtol=1e-6, atol=1e-6)


def test_presets() -> None:
    def of(preset: str) -> tuple[float, float, int, int]:
        env = make("half_cheetah_vel", 1, preset=preset)
        velocities = env.task_distribution
        return velocities.low, velocities.high, env.horizon, env.reset(seed=0)[0].shape[1]  # type: ignore[attr-defined]

    assert of("maml_2017") == (0.0, 2.0, 200, 20)
    assert make("half_cheetah_vel", 1, preset="maml_2017").render_fps == 100.0
    assert of("promp") == (0.0, 3.0, 100, 17)
    assert of("varibad") == of("pearl") == (0.0, 3.0, 200, 20)


@pytest.mark.parametrize(
    ("params", "sentence"),
    [
        ({"velocity_low": 3.0}, "velocity_low is 3 and velocity_high is 3: velocity_low must be b"),
        ({"velocity_high": float("nan")}, "velocity_high is nan: it must be a finite number"),
        ({"horizon": -1}, "horizon is -1"),
        ({"observe_position": "yes"}, "observe_position is 'yes': it must be true or false"),
        ({"held_out": "maml_2017"}, r"velocities of \[0, 3\]: those velocities belong to \[0, 2\]"),
        ({"num_threads": -1}, "num_threads is -1: it must be an integer of at least 0"),
        ({"num_envs": 0}, "num_envs is 0: it must be an integer of at least 1"),
    ],
)
def test_wrong_parameters_get_one_sentence(params: dict[str, Any], sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence):
        HalfCheetahVel(**{"num_envs": 2, **params})


def diverge_by_action(env: HalfCheetahVel, actions: np.ndarray) -> None:
    actions[2, 0] = np.nan


def diverge_by_state(env: HalfCheetahVel, actions: np.ndarray) -> None:
    env._qvel[2, 1] = 1e12


@pytest.mark.parametrize("diverge", [diverge_by_action, diverge_by_state])
def test_a_diverged_simulation_is_one_error_and_leaves_no_file(
    diverge: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """MuJoCo itself resets a diverged state and goes on: the run would never know."""
    monkeypatch.chdir(tmp_path)
    env = HalfCheetahVel(4, num_threads=2)
    env.set_tasks([[0.5], [1.0], [1.5], [2.0]])
    env.reset(seed=0)
    env.step(np.zeros((4, 6)))
    actions = np.zeros((4, 6))
    diverge(env, actions)
    with pytest.raises(
        SimulationFailure,
        match=r"HalfCheetahVel failed in lane 2 \(task: velocity 1.5\) at step 1: .*warning BAD",
    ):
        env.step(actions)
    assert list(tmp_path.iterdir()) == []
    assert capfd.readouterr() == ("", "")
    assert mujoco.MjLogConfig.get().logto_file, "other users of MuJoCo keep their log"


def test_mujocos_own_error_names_the_lane(monkeypatch: pytest.MonkeyPatch) -> None:
    env = HalfCheetahVel(4)
    env.reset(seed=0)

    class Failing:
        def step(self, *args: Any, **kwargs: Any) -> None:
            raise SimulationError(np.array([3]), "out of arena memory", 4)

        def error(self, sim: int) -> str:
            return "out of arena memory"

    monkeypatch.setattr(env, "_batch", Failing())
    with pytest.raises(SimulationFailure, match=r"in lane 3 .*: MuJoCo: out of arena memory"):
        env.step(np.zeros((4, 6)))
