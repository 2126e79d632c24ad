"""The contract of TaskVectorEnv: tasks, masks, seeds, freezing, fresh arrays."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from gymnasium import spaces
from gymnasium.error import ResetNeeded
from gymnasium.vector import AutoresetMode

from metarl.envs import SimulationFailure, UniformInterval, make
from metarl.envs.vector import TaskVectorEnv

MAKERS: list[dict[str, Any]] = [
    {"name": "point_navigation", "start": "random", "horizon": 6},
    {"name": "half_cheetah_vel", "horizon": 6},
    {"name": "half_cheetah_dir", "horizon": 6, "observe_position": True},
]


@pytest.fixture(params=MAKERS, ids=lambda params: params["name"])
def env(request: pytest.FixtureRequest) -> TaskVectorEnv:
    return make(num_envs=5, **request.param)


def actions_of(env: TaskVectorEnv, seed: int) -> np.ndarray:
    shape = env.action_space.shape
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


def tasks_of(env: TaskVectorEnv, seed: int) -> np.ndarray:
    return env.task_distribution.sample(np.random.default_rng(seed), env.num_envs)


def test_shapes_types_and_metadata(env: TaskVectorEnv) -> None:
    assert env.metadata == {"autoreset_mode": AutoresetMode.DISABLED, "render_modes": []}
    observation, info = env.reset(seed=0)
    assert observation in env.observation_space
    assert info == {}
    observation, reward, terminated, truncated, info = env.step(actions_of(env, 0))
    assert observation in env.observation_space
    assert (observation.dtype, reward.dtype) == (np.float64, np.float64)
    assert (terminated.dtype, truncated.dtype) == (bool, bool)
    assert reward.shape == terminated.shape == truncated.shape == (5,)
    assert info == {}
    assert env.single_action_space.low.tolist() == [-1.0] * env.action_space.shape[1]


def test_a_task_changes_at_the_lanes_next_reset(env: TaskVectorEnv) -> None:
    validation = env.task_distribution.validation()
    np.testing.assert_array_equal(env.tasks, validation[np.arange(5) % len(validation)])
    first, second = tasks_of(env, 1), tasks_of(env, 4)
    env.set_tasks(first)
    env.reset(seed=0)
    env.set_tasks(second)
    second_given = second.copy()
    second[:] = 0.0  # the caller's array stays the caller's
    np.testing.assert_array_equal(env.tasks, first)
    mask = np.array([True, False, False, True, False])
    env.reset(options={"reset_mask": mask})
    np.testing.assert_array_equal(env.tasks, np.where(mask[:, None], second_given, first))
    env.reset()
    np.testing.assert_array_equal(env.tasks, second_given)


def test_a_reset_takes_a_task_for_the_lanes_it_resets(env: TaskVectorEnv) -> None:
    env.reset(seed=0)
    before, row = env.tasks, tasks_of(env, 3)[2]
    mask = np.array([False, True, False, False, True])
    env.reset(options={"reset_mask": mask, "task": row})
    np.testing.assert_array_equal(env.tasks, np.where(mask[:, None], row, before))
    with pytest.raises(ValueError, match=r"\[1, 3\]: it must be \[n, \d\], a row of"):
        env.reset(options={"task": [0.0, 1.0, 2.0]})


def test_rewards_depend_on_the_lanes_own_task(env: TaskVectorEnv) -> None:
    """All lanes the same but for the task: a permutation of tasks permutes rewards."""
    tasks = env.task_distribution.validation()[[0, 1, 0, 1, 1]]
    actions = np.tile(actions_of(env, 0)[:1], (5, 1))
    env.set_tasks(tasks)
    env.reset(seed=[7] * 5)
    observation, reward, *_ = env.step(actions)
    np.testing.assert_array_equal(observation, np.tile(observation[:1], (5, 1)))
    assert reward[0] == reward[2] != reward[1] == reward[3] == reward[4]


def test_seeds_by_lane(env: TaskVectorEnv) -> None:
    by_number, _ = env.reset(seed=40)
    by_list, _ = env.reset(seed=[40, 41, 42, 43, 44])
    by_array, _ = env.reset(seed=np.arange(40, 45))
    np.testing.assert_array_equal(by_number, by_list)
    np.testing.assert_array_equal(by_number, by_array)
    assert len(np.unique(by_number, axis=0)) == 5
    goes_on, _ = env.reset()
    assert not (goes_on == by_number).all(axis=1).any()
    env.reset(seed=40)
    np.testing.assert_array_equal(env.reset()[0], goes_on)
    huge, _ = env.reset(seed=[2**128 + lane for lane in range(5)])
    assert len(np.unique(np.concatenate([huge, by_number]), axis=0)) == 10


def test_a_lane_does_not_depend_on_the_others(env: TaskVectorEnv) -> None:
    """Resetting, seeding or stepping other lanes leaves a lane's numbers alone, to the bit."""
    tasks = tasks_of(env, 0)

    def run(masks: bool) -> np.ndarray:
        env.set_tasks(tasks)
        env.reset(seed=[5, 0, 0, 0, 0] if masks else [5, 9, 8, 7, 6])
        rows = []
        for step in range(5):
            if masks and step in (1, 3):
                seeds = [-1, 3, 4, 5, 6]  # not read for lane 0, which is not reset
                env.reset(
                    seed=seeds, options={"reset_mask": np.array([False, True, True, False, True])}
                )
            actions = actions_of(env, 100 + step + 50 * masks)
            actions[0] = actions_of(env, step)[0]
            observation, reward, *_ = env.step(actions)
            rows.append([*observation[0], reward[0]])
        env.reset(options={"reset_mask": np.array([True, False, False, False, False])})
        return np.array([*rows, [*env.step(np.zeros_like(actions))[0][0], 0.0]])

    np.testing.assert_array_equal(run(False), run(True))


def test_finished_lanes_are_frozen(env: TaskVectorEnv) -> None:
    env.reset(seed=0)
    for step in range(3):
        env.step(actions_of(env, step))
    mask = np.array([False, True, False, False, True])
    env.reset(options={"reset_mask": mask})
    for step in range(3):
        observation, _, terminated, truncated, _ = env.step(actions_of(env, step))
    np.testing.assert_array_equal(truncated | terminated, ~mask)
    np.testing.assert_array_equal(env.finished, ~mask)
    wild = actions_of(env, 9)
    wild[~mask] = np.nan  # what a frozen lane is told does not matter
    later, reward, terminated_later, truncated_later, _ = env.step(wild)
    np.testing.assert_array_equal(later[~mask], observation[~mask])
    assert (reward[~mask] == 0.0).all()
    assert (reward[mask] != 0.0).all()
    assert not (later[mask] == observation[mask]).all(axis=1).any()
    np.testing.assert_array_equal(terminated_later, terminated)
    np.testing.assert_array_equal(truncated_later, truncated)
    for _ in range(4):
        env.step(actions_of(env, 0))
    assert env.finished.all()
    frozen, reward, *_ = env.step(wild)
    np.testing.assert_array_equal(frozen, env.step(wild)[0])
    assert (reward == 0.0).all()


def test_returned_arrays_are_fresh(env: TaskVectorEnv) -> None:
    returned = [env.reset(seed=0)[0], env.finished, env.tasks]
    for step in range(2):
        returned += env.step(actions_of(env, step))[:4]
    copies = [array.copy() for array in returned]
    env.step(actions_of(env, 3))
    env.reset(seed=1)
    for array, copy in zip(returned, copies, strict=True):
        np.testing.assert_array_equal(array, copy)
    still = np.zeros(env.action_space.shape)
    second = [env.step(still)[0] for _ in range(2)][1]
    env.reset(seed=1)
    for array in env.step(still)[:4]:
        array[:] = 1  # nor do a caller's writes reach the environment
    np.testing.assert_array_equal(env.step(still)[0], second)
    assert not env.finished.any()


def test_wrong_use_gets_one_sentence(env: TaskVectorEnv) -> None:
    with pytest.raises(ResetNeeded, match="step was called before reset"):
        env.step(actions_of(env, 0))
    env.reset(seed=0)
    with pytest.raises(ValueError, match=r"Actions have the shape \[5, 9\]: it must be \[5, "):
        env.step(np.zeros((5, 9)))
    with pytest.raises(ValueError, match="4 tasks: it must be one for each of the 5 lanes"):
        env.set_tasks(tasks_of(env, 0)[:4])
    with pytest.raises(ValueError, match=r"reset_mask is int64 of the shape \[5\]: it must be bo"):
        env.reset(options={"reset_mask": np.ones(5, dtype=int)})
    with pytest.raises(ValueError, match=r"reset_mask is bool of the shape \[2\]"):
        env.reset(options={"reset_mask": np.ones(2, dtype=bool)})
    with pytest.raises(ValueError, match="option 'mask': only 'reset_mask' and 'task' are k"):
        env.reset(options={"mask": None})
    with pytest.raises(ValueError, match="3 seeds: it must be one integer, or one for each"):
        env.reset(seed=[1, 2, 3])
    with pytest.raises(ValueError, match="seed of lane 1 is -1: it must be an integer of at le"):
        env.reset(seed=[0, -1, 0, 0, 0])
    with pytest.raises(ValueError, match=r"is 0\.5: it must be an integer"):
        env.reset(seed=[0.5] * 5)


def test_lanes_never_reset_are_frozen() -> None:
    env = make("point_navigation", 3)
    env.reset(seed=0, options={"reset_mask": np.array([True, False, True])})
    position, reward, *_ = env.step(np.ones((3, 2)))
    assert position[1].tolist() == [0.0, 0.0]
    assert reward[1] == 0.0
    assert env.finished.tolist() == [False, True, False]


def test_an_unknown_optimum_is_none() -> None:
    assert make("half_cheetah_vel", 1).optimal_returns([[1.0]]) is None


def test_a_task_distribution_of_ones_own() -> None:
    env = make("half_cheetah_vel", 2, tasks=UniformInterval(5.0, 6.0))
    assert (env.tasks > 5.0).all()
    with pytest.raises(ValueError, match=r"have 1 numbers: PointNavigation needs 2 \(goal_x, goa"):
        make("point_navigation", 2, tasks=UniformInterval(5.0, 6.0))


class Careless(TaskVectorEnv):
    """A subclass that reports rewards and ends for frozen lanes too, as it may."""

    def __init__(self, num_envs: int) -> None:
        super().__init__(
            num_envs, UniformInterval(0, 1), 4, spaces.Box(-9, 9, (1,)), spaces.Discrete(3)
        )
        self.count = np.zeros((num_envs, 1))

    def _reset_lanes(self, lanes: np.ndarray) -> None:
        self.count[lanes] = 0.0

    def _advance(self, actions: np.ndarray, live: Any) -> tuple[np.ndarray, np.ndarray]:
        self.count[:, 0] += 1 if live is None else live
        return np.full(self.num_envs, np.nan if live is not None else 1.0), actions == 2

    def _observe(self) -> np.ndarray:
        return self.count.copy()


def test_what_a_subclass_says_of_frozen_lanes_is_ignored() -> None:
    env = Careless(2)
    env.reset(seed=0)
    *_, terminated, truncated, _ = env.step(np.array([2, 0]))
    assert (terminated.tolist(), truncated.tolist()) == ([True, False], [False, False])
    with pytest.raises(SimulationFailure, match=r"Careless failed in lane 1 \(task: velocity"):
        env.step(np.array([0, 0]))
    env.reset(seed=0)
    for _ in range(4):
        _, reward, *_ = env.step(np.array([0, 0]))
        assert reward.tolist() == [1.0, 1.0]
    assert env.finished.all()
    _, reward, terminated, truncated, _ = env.step(np.array([2, 2]))
    assert reward.tolist() == [0.0, 0.0]
    assert (terminated.tolist(), truncated.tolist()) == ([False, False], [True, True])
