"""Meta-World: the package's own environments, bridged to this MuJoCo, with goals that stay hidden.

Where `metaworld` is not installed only what is said of that is tested.
"""

from __future__ import annotations

import pickle
import sys
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import pytest

from metarl.cli.main import main
from metarl.envs import meta_world
from metarl.envs.faults import BrokenContract
from metarl.envs.meta_world import MetaWorld, MetaWorldTasks
from metarl.envs.registry import make
from metarl.envs.task_contract import check_distribution


@pytest.fixture
def package() -> Any:
    pytest.importorskip("metaworld", reason="an optional part")
    return meta_world.metaworld()


def play(env: Any, steps: int) -> np.ndarray:
    """Observations, the reset's too, and rewards of an episode, [steps + 1, o + 1]."""
    actions = np.random.default_rng(1).uniform(-1, 1, (steps, 4)).astype(np.float32)
    rows = [np.append(env.reset(seed=0)[0], 0.0)]
    for action in actions:
        observation, reward, *_ = env.step(action)
        rows.append(np.append(observation, reward))
    return np.array(rows)


def test_without_metaworld_a_sentence_says_how_to_install_it(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delitem(sys.modules, "metaworld", raising=False)
    (tmp_path / "metaworld.py").write_text("raise ModuleNotFoundError('no', name='metaworld')")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))  # the workers'
    said = "Meta-World is not installed: `pip install --no-deps metaworld==3.1.1`, without"
    with pytest.raises(BrokenContract, match=said):
        MetaWorld()
    assert main(["train", "rl2_metaworld_reach", "--run-dir", str(tmp_path / "run")]) == 2
    printed = capsys.readouterr().err
    assert printed.count("\n") == 1
    assert said in printed


def test_what_is_trained_on_and_what_is_held_out() -> None:
    train, test = [f"train-{i}" for i in range(10)], [f"test-{i}" for i in range(5)]
    many = MetaWorldTasks(train, test)
    check_distribution(many)
    drawn = many.sample(np.random.default_rng(0), 25)
    assert sorted(np.bincount(drawn[:, 0].astype(int)).tolist()) == [2] * 5 + [3] * 5
    assert drawn[:, 1].max() < 50
    for tasks, environments, each in ((many.validation(), 10, 2), (many.held_out(), 5, 10)):
        assert np.unique(tasks[:, 0], return_counts=True)[1].tolist() == [each] * environments
        assert tasks[:, 1].min() >= 50
    assert many.validation()[:, 0].max() < 10 <= many.held_out()[:, 0].min()
    check_distribution(MetaWorldTasks([f"train-{i}" for i in range(45)], test))
    one = MetaWorldTasks(["reach"], ["reach"])
    check_distribution(one)
    assert one.held_out().tolist() == [[0.0, goal] for goal in range(50, 100)]
    with pytest.raises(
        ValueError, match=r"Task 1 is \[0.5, 3.0\]: its entries \(environment, goal"
    ):
        one.check([[0, 3], [0.5, 3]])
    with pytest.raises(ValueError, match="the first from 0 to 0"):
        one.check([[1, 3]])


def test_more_training_goals_are_none_of_those_that_are_held_out() -> None:
    wide = MetaWorldTasks(["reach"], ["reach"], goals=1_000)
    check_distribution(wide)
    goals = wide.sample(np.random.default_rng(0), 20_000)[:, 1]
    assert np.unique(goals).tolist() == [*range(50), *range(150, 1_100)]
    fixed = MetaWorldTasks(["reach"], ["reach"])
    np.testing.assert_array_equal(wide.held_out(), fixed.held_out())
    np.testing.assert_array_equal(wide.validation(), fixed.validation())


def test_training_goals_are_at_least_one(package: Any) -> None:
    with pytest.raises(ValueError, match="goals is 0: it must be an integer of at least 1"):
        MetaWorld("reach-v3", goals=0)
    assert (
        MetaWorld("reach-v3", goals=1)
        .task_distribution.sample(np.random.default_rng(0), 2)
        .tolist()
        == [[0.0, 0.0]] * 2
    )


def test_it_is_the_packages_own_environment(package: Any) -> None:
    ours, own = MetaWorld("push-v3", horizon=20), package.ALL_V3_ENVIRONMENTS["push-v3"]()
    ours.set_task([0, 7])
    mine = play(ours, 20)
    drawn = {"rand_vec": meta_world._GOALS["push-v3", 7], "partially_observable": True}
    data = pickle.dumps(drawn | {"env_cls": type(own)})
    own.set_task(package.Task(env_name="push-v3", data=data))
    np.testing.assert_array_equal(mine, play(own, 20))
    assert ours._steps == 20


def test_the_weld_is_what_the_package_says(package: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Eleven numbers; a twelfth stays as the model has it."""
    from metaworld.sawyer_xyz_env import SawyerMocapBase

    env = package.ALL_V3_ENVIRONMENTS["reach-v3"]()
    weld = [0.0, 0.0, 0.0, 0.0, 0.0, 0.0, -1.0, 0.0, 0.0, 0.0, 5.0]
    assert env.model.eq_data[0, :11].tolist() == weld
    seen = []
    monkeypatch.setattr(
        SawyerMocapBase, "reset_mocap_welds", lambda env: seen.append(env.model.eq_data.copy())
    )
    package.ALL_V3_ENVIRONMENTS["reach-v3"]()
    assert env.model.eq_data.shape[1] == 12
    assert env.model.eq_data[0, 11] == seen[0][0, 11]


@pytest.mark.parametrize("name", ["reach-v3", "drawer-close-v3", "door-open-v3"])
def test_the_packages_scripted_policies_succeed(package: Any, name: str) -> None:
    """So the arm moves as it should: a weld that is none would leave the hand behind."""
    from metaworld.policies import ENV_POLICY_MAP

    env, policy = MetaWorld(name), ENV_POLICY_MAP[name]()
    env.set_task([0, 3])
    observation, _ = env.reset(seed=0)
    won = False
    for _ in range(300):
        observation = observation.copy()
        observation[-3:] = env._env._target_pos  # these may know
        observation, *_, info = env.step(np.clip(policy.get_action(observation), -1, 1))
        won = won or bool(info["success"])
    assert won


def test_the_goal_stays_hidden_in_every_class(package: Any) -> None:
    env = MetaWorld("ML45", horizon=3)
    assert len(env.task_distribution.names) == 50
    for environment in range(0, 50, 5):
        rows = []
        for goal in (0, 1):
            env.set_task([environment, goal])
            rows.append(play(env, 3))
            assert (rows[-1][:, 36:39] == 0.0).all()
            assert env._env._target_pos.any()


def test_an_episode_leaves_no_trace_in_the_next(package: Any) -> None:
    used, fresh = MetaWorld("ML10", horizon=30), MetaWorld("ML10", horizon=30)
    for env, tasks in ((used, ([2, 0], [4, 9], [2, 1])), (fresh, ([2, 1],))):
        for task in tasks:
            env.set_task(task)
            last = play(env, 30)
        if env is used:
            after = last
    np.testing.assert_array_equal(after, last)


@pytest.mark.slow
def test_lanes_of_several_classes_on_any_number_of_workers(package: Any) -> None:
    tasks = [[0, 0], [3, 1], [14, 2], [3, 7]]
    records = []
    for workers in (1, 2):
        env = make("meta_world", 4, num_workers=workers, benchmark="ML10", horizon=5)
        env.set_tasks(tasks)
        rows = [env.reset(seed=[1, 2, 3, 4])[0]]
        for step in range(5):
            observation, reward, _, truncated, info = env.step(np.full((4, 4), 0.2))
            rows += [observation, reward[:, None]]
            assert (truncated == (step == 4)).all()
            assert info["success"].shape == (4,)
        env.close()
        records.append(np.hstack(rows))
    np.testing.assert_array_equal(*records)
    assert len(np.unique(records[0][:, :39], axis=0)) == 4


@pytest.mark.parametrize(
    ("params", "said"),
    [
        ({"benchmark": "reach"}, "Unknown benchmark 'reach': did you mean '.*reach.*-v3'"),
        ({"horizon": 501}, "horizon is 501: it must be at most 500"),
        ({"reward_version": "v3"}, "reward_version is 'v3': it must be one of v1, v2"),
    ],
)
def test_wrong_parameters_get_a_sentence(package: Any, params: Any, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        MetaWorld(**params)


def test_pictures_are_drawn(package: Any) -> None:
    env = MetaWorld("reach-v3", render_mode="rgb_array")
    env.reset(seed=0)
    picture = env.render()
    assert (picture.shape, picture.dtype) == ((480, 480, 3), np.uint8)
    assert picture.std() > 10
    env.close()


def test_it_is_a_single_environment_too(package: Any) -> None:
    env = gymnasium.make("metarl/MetaWorld-v0", benchmark="ML10", horizon=3)
    env.reset(seed=0, options={"task": [3, 12]})
    assert env.unwrapped.task.tolist() == [3.0, 12.0]  # type: ignore[attr-defined]
    truncated = [env.step(env.action_space.sample())[3] for _ in range(3)]
    assert truncated == [False, False, True]
    with pytest.raises(ValueError, match="the first from 0 to 14"):
        env.reset(options={"task": [15, 0]})
    env.close()
    own = MetaWorld("reach-v3", horizon=3)
    own.reset(options={"task": [0, 12]})
    assert own._next == ("reach-v3", 12)
