"""The plain Gymnasium environments, and registration."""

from __future__ import annotations

import subprocess
import sys
import warnings
from typing import Any

import gymnasium
import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env

from metarl import envs
from metarl.envs import TaskEnv, make

IDS = {
    "metarl/PointNavigation-v0": "point_navigation",
    "metarl/HalfCheetahVel-v0": "half_cheetah_vel",
    "metarl/HalfCheetahDir-v0": "half_cheetah_dir",
    "metarl/HalfCheetahParams-v0": "half_cheetah_params",
    "metarl/AntVel-v0": "ant_vel",
    "metarl/AntDir-v0": "ant_dir",
    "metarl/AntGoal-v0": "ant_goal",
    "metarl/HumanoidDir-v0": "humanoid_dir",
    "metarl/WalkerVel-v0": "walker_vel",
    "metarl/WalkerParams-v0": "walker_params",
    "metarl/HopperVel-v0": "hopper_vel",
    "metarl/HopperParams-v0": "hopper_params",
}


@pytest.mark.parametrize("env_id", IDS)
def test_passes_gymnasiums_checker(env_id: str) -> None:
    env = gymnasium.make(env_id)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        # As Gymnasium's own HalfCheetah, these observe unbounded numbers.
        warnings.filterwarnings("ignore", message=".*A Box observation space (min|max)imum value")
        check_env(env.unwrapped)


@pytest.mark.parametrize(("env_id", "name"), IDS.items())
def test_equals_a_lane_of_the_vector_environment(env_id: str, name: str) -> None:
    task = make(name, 1).task_distribution.held_out()[1]
    single = gymnasium.make(env_id, task=task, horizon=8)
    vector = gymnasium.make_vec(env_id, num_envs=3, horizon=8)
    assert isinstance(vector, envs.TaskVectorEnv)
    vector.set_tasks(np.tile(task, (3, 1)))
    for seed in (5, None):
        observation, _ = single.reset(seed=seed)
        observations, _ = vector.reset(seed=None if seed is None else [1, seed, 2])
        np.testing.assert_array_equal(observation, observations[1])
        truncated = False
        actions = np.random.default_rng(0).uniform(-1, 1, (8, *single.action_space.shape))
        for step, action in enumerate(actions.astype(np.float32)):
            assert not truncated
            observation, reward, terminated, truncated, _ = single.step(action)
            batch = vector.step(np.tile(action, (3, 1)))
            np.testing.assert_array_equal(observation, batch[0][1])
            assert (reward, terminated, truncated) == (batch[1][1], batch[2][1], batch[3][1])
            assert truncated == (step == 7), "its own horizon truncates it, no wrapper"
    single.close()
    vector.close()


def test_task_is_the_first_validation_task_or_the_given_one() -> None:
    env = TaskEnv("point_navigation")
    np.testing.assert_array_equal(env.task, env.task_distribution.validation()[0])
    given = TaskEnv("half_cheetah_vel", task=1.25, preset="promp")
    assert given.task.tolist() == [1.25]
    assert given.horizon == 100
    given.reset(seed=0)
    given.set_task([0.5])
    assert given.task.tolist() == [1.25]
    given.reset()
    assert given.task.tolist() == [0.5]
    with pytest.raises(ValueError, match=r"must be \[n, 2\]"):
        env.set_task([1.0, 2.0, 3.0])


@pytest.mark.parametrize("env_id", IDS)
def test_a_reset_takes_a_task(env_id: str) -> None:
    env = gymnasium.make(env_id)
    task = env.unwrapped.task_distribution.held_out()[1]  # type: ignore[attr-defined]
    env.reset(seed=0, options={"task": task})
    np.testing.assert_array_equal(env.unwrapped.task, task)  # type: ignore[attr-defined]
    env.reset(options={})
    np.testing.assert_array_equal(env.unwrapped.task, task)  # type: ignore[attr-defined]
    env.close()


@pytest.mark.parametrize(
    ("task", "said"),
    [
        ([0.1], r"\[1, 1\]: it must be \[n, 2\], a row of \(goal_x, goal_y\)"),
        ([[0.1, 0.2]], r"\[1, 1, 2\]: it must be \[n, 2\]"),
        ([0.1, np.nan], r"Task 0 is \[0.1, nan\]: its entries \(goal_x, goal_y\) must be finite"),
        ("left", r"Tasks must be rows of 2 numbers \(goal_x, goal_y\)"),
        ([[0.1], [0.2, 0.3]], "Tasks must be rows of 2 numbers"),
    ],
)
def test_a_task_that_does_not_fit_is_refused_by_a_reset(task: Any, said: str) -> None:
    env = TaskEnv("point_navigation")
    with pytest.raises(ValueError, match=said):
        env.reset(options={"task": task})
    with pytest.raises(ValueError, match=said):
        env.set_task(task)


def test_an_unknown_option_of_a_reset_is_refused() -> None:
    with pytest.raises(ValueError, match="option 'goal': only 'reset_mask' and 'task' are known"):
        TaskEnv("point_navigation").reset(options={"goal": [0.1, 0.2]})


def test_task_env_is_a_single_lane_of_its_seed() -> None:
    env: Any = TaskEnv("point_navigation", start="random")
    first, _ = env.reset(seed=4)
    second, _ = env.reset()
    again, _ = env.reset(seed=4)
    np.testing.assert_array_equal(first, again)
    assert not np.array_equal(first, second)
    np.testing.assert_array_equal(env.reset()[0], second)


def test_registering_twice_does_no_harm() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        envs.register()
    assert all(env_id in gymnasium.registry for env_id in IDS)


def test_importing_metarl_makes_the_ids_known() -> None:
    code = (
        "import gymnasium{}; env = gymnasium.make('{}metarl/PointNavigation-v0'); "
        "print(env.reset(seed=0)[0])"
    )
    assert run(code.format(", metarl", "")) == "[0. 0.]"
    assert run(code.format("", "metarl:")) == "[0. 0.]"


def test_environments_need_no_torch_and_stay_light() -> None:
    """Heavy libraries wait until an environment needs them."""
    code = (
        "import sys; from metarl import envs; light = set(sys.modules); "
        "envs.make('half_cheetah_vel', 2).reset(seed=0); "
        "env = envs.make('point_navigation', 2); env.task_distribution.held_out(); "
        "import metarl.envs.process_vector, metarl.envs.process_worker; "
        "print({'torch', 'pydantic', 'stable_baselines3'} & set(sys.modules), "
        "{'mujoco', 'scipy.stats'} & light)"
    )
    assert run(code) == "set() set()"


def run(code: str) -> str:
    """What a fresh interpreter prints."""
    result = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=False
    )
    assert result.returncode == 0, result.stderr
    return result.stdout.strip()
