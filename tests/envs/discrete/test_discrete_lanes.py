"""What bandits, tabular MDPs and grid worlds share: lanes, seeds, masks, pictures, Gymnasium."""

from __future__ import annotations

import warnings
from typing import Any

import gymnasium
import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env

from metarl.envs import TaskEnv, TaskVectorEnv, make
from metarl.envs.discrete.lanes import normals, uniforms

MAKERS: list[dict[str, Any]] = [
    {"name": "bandit", "pulls": 6},
    {"name": "bandit", "pulls": 6, "rewards": "gaussian"},
    {"name": "tabular_mdp", "horizon": 6},
    {"name": "grid_world", "horizon": 6},
]
IDS = {
    "metarl/Bandit-v0": "bandit",
    "metarl/TabularMDP-v0": "tabular_mdp",
    "metarl/GridWorld-v0": "grid_world",
}


@pytest.fixture(params=MAKERS, ids=lambda params: "-".join(map(str, params.values())))
def env(request: pytest.FixtureRequest) -> TaskVectorEnv:
    return make(num_envs=5, **request.param)


def actions(env: TaskVectorEnv, steps: int, seed: int = 0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return rng.integers(env.single_action_space.n, size=(steps, env.num_envs))  # type: ignore[attr-defined]


def played(env: TaskVectorEnv, chosen: np.ndarray) -> np.ndarray:
    """Observations and rewards [T, N, o + 1] of actions [T, N]."""
    rows = []
    for row in chosen:
        observation, reward, *_ = env.step(row)
        assert observation in env.observation_space
        rows.append(np.concatenate([observation, reward[:, None]], axis=1))
    return np.stack(rows)


def test_a_seed_gives_the_same_episodes_again_and_another_one_others(env: TaskVectorEnv) -> None:
    chosen = actions(env, 6)
    env.reset(seed=3)
    first = played(env, chosen)
    env.reset()
    later = played(env, chosen)
    env.reset(seed=3)
    np.testing.assert_array_equal(played(env, chosen), first)
    env.reset()
    np.testing.assert_array_equal(played(env, chosen), later)
    assert (first != later).any() == (env._name != "GridWorld"), "nothing is drawn there"


def test_a_lane_does_not_depend_on_the_others(env: TaskVectorEnv) -> None:
    env.reset(seed=[5, 9, 8, 7, 6])
    alone = played(env, actions(env, 6))[:, 0]
    env.reset(seed=[5, 1, 2, 3, 4])
    chosen = actions(env, 6, seed=1)
    chosen[:, 0] = actions(env, 6)[:, 0]
    rows = [played(env, chosen[:3])]
    env.reset(seed=[-1, 3, 4, 5, 6], options={"reset_mask": np.arange(5) % 2 == 1})
    rows.append(played(env, chosen[3:]))
    np.testing.assert_array_equal(np.concatenate(rows)[:, 0], alone)


def test_an_episode_ends_with_the_horizon_and_is_frozen(env: TaskVectorEnv) -> None:
    env.reset(seed=0)
    for t, row in enumerate(actions(env, 6)):
        before, _, terminated, truncated, _ = env.step(row)
        assert not terminated.any()
        assert (truncated == (t == 5)).all()
    after, reward, *_ = env.step(actions(env, 1, seed=9)[0])
    np.testing.assert_array_equal(after, before)
    assert not reward.any()


def test_an_action_that_is_none_is_refused(env: TaskVectorEnv) -> None:
    env.reset(seed=0)
    said = {
        r"Action -1 of lane 0: it must be from 0 to \d": np.full(5, -1),
        r"Action 99 of lane 0: it must be from 0 to \d": np.full(5, 99),
        "Actions are float64: they must be integers": np.zeros(5),
    }
    for sentence, wrong in said.items():
        with pytest.raises(ValueError, match=sentence):
            env.step(wrong)


def test_pictures_follow_the_state(env: TaskVectorEnv) -> None:
    env.reset(seed=0)
    drawing = env.renderer(160, 90)
    states = [env.render_states(slice(0, None, 2))]
    for row in actions(env, 3):
        env.step(row)
        states.append(env.render_states(slice(0, None, 2)))
    pictures = [drawing.draw(state[-1]) for state in states if state is not None]
    assert {picture.shape for picture in pictures} == {(90, 160, 3)}
    assert pictures[0].dtype == np.uint8
    assert len({picture.tobytes() for picture in pictures}) > 1
    drawing.close()
    assert env.task_caption(env.tasks[0])


@pytest.mark.parametrize(("env_id", "name"), IDS.items())
def test_gymnasium_makes_one_that_equals_a_lane(env_id: str, name: str) -> None:
    single = gymnasium.make(env_id, render_mode="rgb_array")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        check_env(single.unwrapped)
    vector = gymnasium.make_vec(env_id, num_envs=3)
    assert isinstance(vector, TaskVectorEnv)
    task = vector.task_distribution.held_out()[1]
    single = TaskEnv(name, task=task)
    vector.set_tasks(np.tile(task, (3, 1)))
    chosen = actions(vector, 5)[:, 0]
    for seed in (5, None):
        observation, _ = single.reset(seed=seed)
        batch, _ = vector.reset(seed=None if seed is None else [1, seed, 2])
        np.testing.assert_array_equal(observation, batch[1])
        for action in chosen:
            row = single.step(action)
            rows = vector.step(np.full(3, action))
            np.testing.assert_array_equal(row[0], rows[0][1])
            assert row[1] == rows[1][1]


def test_drawn_numbers_are_uniform_and_normal() -> None:
    keys = np.arange(200, dtype=np.uint64)[:, None] * np.uint64(977)
    u, z = (draw(keys, np.arange(500)[None]).ravel() for draw in (uniforms, normals))
    assert 0.0 < u.min() < 1e-3
    assert 1.0 > u.max() > 1.0 - 1e-3
    counts = np.histogram(u, bins=20, range=(0, 1))[0]
    assert ((counts - 5000) ** 2 / 5000).sum() < 43.8  # chi-squared, 19 degrees, p = 0.001
    np.testing.assert_allclose([z.mean(), z.std()], [0.0, 1.0], atol=0.01)
    assert abs(np.corrcoef(u[:-1], u[1:])[0, 1]) < 0.01
    assert abs(np.corrcoef(u[:-500], u[500:])[0, 1]) < 0.01  # of keys beside each other
