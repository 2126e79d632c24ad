"""Environments of other frameworks as ours: tasks as dictionaries, arrays, indices and contexts."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import pytest
from gymnasium.wrappers import TimeLimit

import metarl
from metarl.envs import FiniteTasks, UniformInterval, make
from metarl.envs.adapters import from_contexts, from_sample_tasks, from_task_indices
from metarl.envs.adapters.sampled_tasks import TaskForm
from metarl.envs.faults import BrokenContract
from metarl.envs.task_contract import check_distribution
from tests.envs.foreign_envs import (
    CarlPoint,
    Directions,
    GymPoint,
    ListedPoint,
    ProMPPoint,
    make_points,
)


def test_dictionaries_become_rows_and_rows_dictionaries() -> None:
    task = {"goal": np.array([0.25, -1.0]), "direction": -1, "matrix": np.arange(4).reshape(2, 2)}
    form = TaskForm(task)
    assert form.columns == (
        *("goal_0", "goal_1", "direction"),
        *("matrix_0", "matrix_1", "matrix_2", "matrix_3"),
    )
    row = form.row(task)
    assert row.tolist() == [0.25, -1.0, -1.0, 0.0, 1.0, 2.0, 3.0]
    again = form.task(row)
    assert again.keys() == task.keys()
    assert again["direction"] == -1
    assert again["direction"].dtype == int
    np.testing.assert_array_equal(again["goal"], task["goal"])
    np.testing.assert_array_equal(again["matrix"], task["matrix"])
    assert TaskForm(1.5).columns == ("task",)
    assert TaskForm(1.5).task(np.array([0.5])) == 0.5
    np.testing.assert_array_equal(TaskForm(np.zeros(2)).task(np.array([0.5, 2.0])), [0.5, 2.0])


def test_the_tasks_are_those_that_the_environment_samples() -> None:
    env = make_points()
    tasks: Any = env.task_distribution  # type: ignore[attr-defined]
    check_distribution(tasks)
    assert tasks.columns == ("goal_0", "goal_1", "scale")
    assert (len(tasks.validation()), len(tasks.held_out()), tasks.finite) == (20, 40, False)
    drawn = tasks.sample(np.random.default_rng(5), 3)
    np.testing.assert_array_equal(drawn, tasks.sample(np.random.default_rng(5), 3))
    theirs = GymPoint()
    theirs.seed(int(np.random.default_rng(5).integers(1, 2**31)))
    wanted = [[*task["goal"], task["scale"]] for task in theirs.sample_tasks(3)]
    np.testing.assert_array_equal(drawn, wanted)


def test_what_draws_from_numpys_global_generator_leaves_it_as_it_was() -> None:
    env = from_sample_tasks(ProMPPoint, horizon=10)
    tasks = env.task_distribution
    np.random.seed(7)  # noqa: NPY002
    drawn = tasks.sample(np.random.default_rng(5), 3)
    after = np.random.uniform()  # noqa: NPY002
    np.random.seed(7)  # noqa: NPY002
    assert after == np.random.uniform()  # noqa: NPY002
    np.testing.assert_array_equal(drawn, tasks.sample(np.random.default_rng(5), 3))
    assert tasks.columns == ("task_0", "task_1")
    env.set_task(drawn[0])
    env.reset(seed=0)
    assert env._inner._goal.tolist() == drawn[0].tolist()


def test_a_few_tasks_are_a_finite_list() -> None:
    tasks = from_sample_tasks(Directions, horizon=5).task_distribution
    check_distribution(tasks)
    assert tasks.finite
    assert sorted(tasks.held_out().flatten().tolist()) == [-1.0, 1.0]


class Many(Directions):
    """So many tasks, in Gymnasium's ways."""

    size = 150

    def sample_tasks(self, num_tasks: int) -> Any:
        return list(self.np_random.integers(self.size, size=num_tasks))


def test_what_is_evaluated_is_not_trained_on() -> None:
    tasks = from_sample_tasks(Many, horizon=5).task_distribution
    drawn = tasks.sample(np.random.default_rng(0), 2000)
    evaluated = np.concatenate([tasks.validation(), tasks.held_out()])
    assert not tasks.finite
    assert len(np.unique(evaluated)) == 60
    assert len(np.unique(drawn)) == 90
    assert not np.isin(drawn, evaluated).any()
    fewer = from_sample_tasks(type("Fewer", (Many,), {"size": 100}), horizon=5).task_distribution
    assert fewer.finite
    assert len(fewer.held_out()) == 100


def test_a_reset_may_name_the_task() -> None:
    env: Any = make_points()
    env.reset(seed=0, options={"task": [0.25, -0.5, 2]})
    assert env._inner._goal.tolist() == [0.5, -1.0]
    with pytest.raises(ValueError, match="option 'goal': only 'task' is known"):
        env.reset(options={"goal": [0.25, -0.5]})


def test_the_old_gyms_ways_become_gymnasiums() -> None:
    env = from_sample_tasks(GymPoint, horizon=10)
    env.set_task([0.5, 0.5, 1])
    first, info = env.reset(seed=3)
    assert info == {}
    np.testing.assert_array_equal(first, env.reset(seed=3)[0])
    assert env.observation_space.contains(first)
    steps = [env.step(np.zeros(2, np.float32)) for _ in range(7)]
    assert [(*step[2:4],) for step in steps] == [(False, False)] * 6 + [(False, True)]
    env.set_task([0.0, 0.0, 1])
    env.reset(seed=3)
    for _ in range(3):
        toward = np.clip(-env._inner._x, -0.1, 0.1)
        *_, reward, terminated, truncated, _ = env.step(toward)
        if terminated:
            break
    assert (terminated, truncated) == (True, False)
    assert reward > -0.05


def test_an_index_chooses_from_a_fixed_list() -> None:
    env = from_task_indices(ListedPoint, horizon=10, train=10, held_out=4)
    tasks = env.task_distribution
    check_distribution(tasks)
    assert tasks.held_out().flatten().tolist() == [10.0, 11.0, 12.0, 13.0]
    assert tasks.validation().flatten().tolist() == [8.0, 9.0]
    assert set(tasks.sample(np.random.default_rng(0), 200).flatten()) == set(range(8))
    env.set_task([12])
    env.reset(seed=0)
    assert env._inner._goal.tolist() == [1.2, 0.0]
    with pytest.raises(ValueError, match=r"Task 0 is \[14.0\]: it must be an index from 0 to 13"):
        tasks.check([[14]])
    with pytest.raises(BrokenContract, match="ListedPoint has 14 tasks: train and held_out ask fo"):
        from_task_indices(ListedPoint, horizon=10, train=10, held_out=5)


def test_a_context_is_applied_at_the_next_reset_and_stays_unseen() -> None:
    theirs = CarlPoint()
    env = from_contexts(lambda: theirs, UniformInterval(-2.0, 2.0, column="l"), horizon=5)
    env.set_task([-1.5])
    observation, _ = env.reset(seed=0)
    assert env.observation_space.contains(observation)
    assert theirs.applied == [{"l": -1.5, "n": 3}]
    assert env.step(0)[1] == 1.0
    env.set_task([0.5])
    assert env.step(0)[1] == 1.0
    env.reset()
    assert theirs.applied[1:] == [{"l": 0.5, "n": 3}]
    assert env.step(0)[1] == 0.0
    whole = FiniteTasks([[2.0], [5.0]], ("n",), ("",))
    env = from_contexts(lambda: theirs, whole, horizon=5)
    env.set_task([5.0])
    env.reset()
    assert theirs.applied[-1] == {"l": 1.0, "n": 5}
    assert isinstance(theirs.applied[-1]["n"], int)
    with pytest.raises(BrokenContract, match="Unknown context feature 'len': CarlPoint has l, n"):
        from_contexts(CarlPoint, UniformInterval(0.0, 1.0, column="len"), horizon=5)
    with pytest.raises(
        BrokenContract, match="TimeLimit is a wrapper around CarlPoint: give from_c"
    ):
        from_contexts(lambda: TimeLimit(TimeLimit(CarlPoint(), 4), 3), whole, horizon=5)
    with pytest.raises(BrokenContract, match="ListedPoint has no method get_context_features, as"):
        from_contexts(ListedPoint, whole, horizon=5)


def test_carls_own_pendulum() -> None:
    """The package itself, where it is installed."""
    carl = pytest.importorskip("carl.envs", reason="carl-bench is no dependency")
    env = make("tests.envs.foreign_envs:make_carl", 2, num_workers=1)
    env.set_tasks([[0.5], [1.5]])
    env.reset(seed=[0, 0])
    theirs = carl.CARLPendulum(contexts={0: {"l": 1.5}})
    theirs.reset(seed=0)
    for _ in range(20):
        observation, *_ = env.step(np.full((2, 1), 0.5))
        wanted = theirs.step(np.array([1.0], np.float32))[0]["obs"]
        np.testing.assert_array_equal(observation[1], wanted)
    assert env.finished.all()
    assert not np.array_equal(observation[0], observation[1])
    env.close()


def test_a_config_names_the_function_that_adapts(tmp_path: Path) -> None:
    settings = {"name": "rl2", "tasks": 3, "episodes": 2, "width": 8, "minibatches": 1}
    run = metarl.train(
        {"name": "adapted"},
        env={"name": "tests.envs.foreign_envs:make_points", "region": 0.25},
        algorithm=settings,
        iterations=1,
        run_dir=str(tmp_path / "run"),
        evaluation={"at_end": False},
        **{"tracking.wandb": "disabled", "validation.enabled": False, "rollout.workers": 1},
    )
    assert run.worker.task_distribution.columns == ("goal_0", "goal_1", "scale")  # type: ignore[union-attr]
    assert np.abs(run.worker.task_distribution.held_out()[:, :2]).max() <= 0.25  # type: ignore[union-attr]
    assert run.iteration == 1
    run.worker.close()


class NoReset(GymPoint):
    reset_task = None  # type: ignore[assignment]


class Words(GymPoint):
    def sample_tasks(self, num_tasks: int) -> Any:
        return [{"name": "left"}] * num_tasks


class Uneven(GymPoint):
    def sample_tasks(self, num_tasks: int) -> Any:
        return [{"goal": np.zeros(1 + i % 2)} for i in range(num_tasks)]


class Stuck(GymPoint):
    def sample_tasks(self, num_tasks: int) -> Any:
        raise RuntimeError("no map")


class Colours(GymPoint):
    action_space = "red"  # type: ignore[assignment]


@pytest.mark.parametrize(
    ("env", "said"),
    [
        (NoReset, "NoReset has no method reset_task or set_task"),
        (Words, "gave a task with the str 'left': it must be made of numbers and arrays"),
        (Uneven, "all its tasks must have the same parts of the same shapes"),
        (Stuck, r"sample_tasks failed: RuntimeError: no map \(.*test_adapters.py, line"),
        (Colours, "Colours has the str 'red' as action_space: it must be a space of Gymnasium"),
    ],
)
def test_what_cannot_be_adapted_is_refused(env: type, said: str) -> None:
    with pytest.raises(BrokenContract, match=said):
        check_distribution(from_sample_tasks(env, horizon=5).task_distribution)


def test_an_environment_without_tasks_is_one_task() -> None:
    """Step by step that of Gymnasium, whose time limit is ours."""
    ours = make("single_task", 2, id="Pendulum-v1", horizon=7, num_workers=1)
    theirs = gymnasium.make("Pendulum-v1")
    try:
        assert ours.task_distribution.held_out().tolist() == [[0.0]]
        ours.set_tasks(np.zeros((2, 1)))
        shown, _ = ours.reset(seed=np.array([3, 4]))
        expected, _ = theirs.reset(seed=4)
        np.testing.assert_allclose(shown[1], expected)
        for step in range(1, 8):
            action = np.full((2, 1), 0.5)  # of [-1, 1], half of ±2
            shown, reward, terminated, truncated, _ = ours.step(action)
            expected, paid, *_ = theirs.step(np.array([1.0], dtype=np.float32))
            np.testing.assert_allclose(shown[1], expected, rtol=1e-5)
            assert reward[1] == pytest.approx(paid, rel=1e-5)
            assert not terminated.any()
            assert truncated.all() == (step == 7)
    finally:
        ours.close()
        theirs.close()
    with pytest.raises(ValueError, match="id is 'Pendulm-v1'"):
        make("single_task", 1, id="Pendulm-v1", num_workers=1).reset(seed=0)
