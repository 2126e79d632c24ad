"""Task distributions: their evaluation sets are fixed, disjoint and where they should be."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from metarl import envs
from metarl.envs import FiniteTasks, GoalRegion, TaskDistribution, UniformInterval

CONTINUOUS: list[TaskDistribution] = [
    UniformInterval(0.0, 3.0),
    UniformInterval(-1.0, 2.0),
    GoalRegion(),
    GoalRegion("circle", 2.0),
    GoalRegion("semicircle", 1.0),
    envs.make("point_navigation", 1, preset="maml_2017").task_distribution,
    envs.make("half_cheetah_vel", 1, preset="maml_2017").task_distribution,
]


def in_region(distribution: TaskDistribution, tasks: np.ndarray) -> np.ndarray:
    """Whether each task lies in the training range, from the definition."""
    if isinstance(distribution, UniformInterval):
        return ((tasks >= distribution.low) & (tasks <= distribution.high))[:, 0]
    assert isinstance(distribution, GoalRegion)
    if distribution.region == "square":
        return (np.abs(tasks) <= distribution.radius).all(axis=1)
    on_arc = np.abs(np.hypot(*tasks.T) - distribution.radius) < 1e-12
    return on_arc & (tasks[:, 1] >= 0) if distribution.region == "semicircle" else on_arc


@pytest.mark.parametrize("distribution", CONTINUOUS)
def test_evaluation_sets_have_their_size_and_range_and_share_no_task(
    distribution: TaskDistribution,
) -> None:
    validation, held_out = distribution.validation(), distribution.held_out()
    beyond, train = distribution.out_of_range(), distribution.sample(np.random.default_rng(0), 500)
    d = distribution.dim
    assert (validation.shape, held_out.shape, beyond.shape) == ((20, d), (40, d), (40, d))
    assert train.shape == (500, d)
    assert in_region(distribution, validation).all()
    assert in_region(distribution, held_out).all()
    assert in_region(distribution, train).all()
    assert not in_region(distribution, beyond).any()
    if isinstance(distribution, GoalRegion):
        assert distribution.contains(np.concatenate([validation, held_out, train])).all()
        assert not distribution.contains(beyond).any()
        assert not distribution.contains(np.array([[0.0, -1.001 * distribution.radius]])).any()
    rows = np.concatenate([validation, held_out, beyond, train])
    assert rows.dtype == np.float64
    assert len(np.unique(rows, axis=0)) == len(rows)


@pytest.mark.parametrize("distribution", CONTINUOUS)
def test_evaluation_sets_depend_on_no_generator(distribution: TaskDistribution) -> None:
    """REFERENCE trap: held-out tasks drawn from the training generator."""
    rng = np.random.default_rng(3)
    np.random.seed(1)  # noqa: NPY002
    before = [distribution.split(name).copy() for name in envs.tasks.SPLITS]
    distribution.sample(rng, 100)
    untouched = np.random.RandomState(1).random_sample()
    assert np.random.random_sample() == untouched, "the global generator moved"  # noqa: NPY002
    np.random.seed(2)  # noqa: NPY002
    for name, tasks in zip(envs.tasks.SPLITS, before, strict=True):
        np.testing.assert_array_equal(distribution.split(name), tasks)
        distribution.split(name)[:] = 0.0  # a caller's writes stay with the caller
        np.testing.assert_array_equal(distribution.split(name), tasks)


def test_training_tasks_depend_on_their_generator_and_nothing_else() -> None:
    """REFERENCE trap: tasks from a re-seeded global generator make the run's seed mean nothing."""
    for distribution in CONTINUOUS:
        np.random.seed(0)  # noqa: NPY002
        first = distribution.sample(np.random.default_rng(5), 8)
        np.random.seed(0)  # noqa: NPY002
        assert not np.array_equal(first, distribution.sample(np.random.default_rng(6), 8))
        np.testing.assert_array_equal(first, distribution.sample(np.random.default_rng(5), 8))


def test_interval_sets_by_hand() -> None:
    velocities = UniformInterval(0.0, 3.0)
    np.testing.assert_allclose(velocities.validation()[[0, 1, 19], 0], [0.075, 0.225, 2.925])
    np.testing.assert_allclose(velocities.held_out()[[0, 1, 39], 0], [0.0375, 0.1125, 2.9625])
    np.testing.assert_allclose(velocities.out_of_range()[[0, 39], 0], [3.0125, 3.9875])


def test_square_sets_are_the_ones_of_every_version() -> None:
    """Pinned: an evaluation set that moves makes old results incomparable."""
    goals = GoalRegion()
    assert goals.validation()[0].tolist() == [-0.012062911409884691, 0.18049957742914557]
    assert goals.held_out()[39].tolist() == [-0.47510831197723746, -0.30295516224578023]
    assert goals.out_of_range()[7].tolist() == [-0.6599462674930692, 0.22846706118434668]


def test_square_sets_are_spread_evenly() -> None:
    held_out = GoalRegion("square", 1.0).held_out()
    # The first 32 of a digital net in base 2: each cell of a 4 × 8 grid holds exactly one.
    cells = np.floor((held_out[:32] + 1.0) / 2.0 * [4, 8]).astype(int)
    assert len(np.unique(cells, axis=0)) == 32
    assert abs(held_out.mean(axis=0)).max() < 0.05


@pytest.mark.parametrize("region", ["square", "circle", "semicircle"])
def test_training_goals_are_uniform(region: str) -> None:
    goals = GoalRegion(region, 2.0).sample(np.random.default_rng(0), 4000)
    if region == "square":
        uniform = [(goals[:, 0] + 2.0) / 4.0, (goals[:, 1] + 2.0) / 4.0]
    else:
        angle = np.arctan2(goals[:, 1], goals[:, 0]) % (2 * np.pi)
        uniform = [angle / (np.pi if region == "semicircle" else 2 * np.pi)]
    for values in uniform:
        assert stats.kstest(values, "uniform").pvalue > 0.001


def test_papers_own_held_out_tasks() -> None:
    """Finn et al. 2017: RandomState(1).uniform(...), first values known by heart of NumPy."""
    goals = envs.make("point_navigation", 1, preset="maml_2017").task_distribution.held_out()
    np.testing.assert_allclose(goals[0], [-0.082977995297426, 0.220324493442158], atol=1e-12)
    velocities = envs.make("half_cheetah_vel", 1, preset="maml_2017").task_distribution.held_out()
    np.testing.assert_allclose(velocities[:2, 0], [0.834044009405148, 1.440648986884316])


def test_finite_tasks_are_evaluated_in_full() -> None:
    directions = envs.make("half_cheetah_dir", 1).task_distribution
    assert directions.finite
    for split in ("validation", "held_out"):
        assert directions.split(split).tolist() == [[-1.0], [1.0]]
    drawn = directions.sample(np.random.default_rng(0), 100)
    assert drawn.shape == (100, 1)
    assert 30 < (drawn == 1.0).sum() < 70
    with pytest.raises(ValueError, match="nothing out of range"):
        directions.split("out_of_range")
    with pytest.raises(ValueError, match=r"Task 1 is \[0\.5\]: it must be one of"):
        directions.check([[1.0], [0.5]])


def test_wrong_tasks_get_one_sentence() -> None:
    goals = GoalRegion()
    with pytest.raises(ValueError, match=r"shape \[3\]: it must be \[n, 2\]"):
        goals.check([1.0, 2.0, 3.0])
    with pytest.raises(ValueError, match=r"Task 1 is \[nan, 0\.0\].*finite"):
        goals.check([[0.0, 0.0], [np.nan, 0.0]])
    with pytest.raises(ValueError, match="rows of 2 numbers"):
        goals.check([["left", "right"]])
    with pytest.raises(ValueError, match="split is 'test': it must be one of validation, held_out"):
        goals.split("test")
    with pytest.raises(ValueError, match="at least one task"):
        FiniteTasks(np.zeros((0, 1)), ("direction",), ("",))
    assert len(FiniteTasks([[1.0]], ("direction",), ("",)).split("held_out")) == 1
    with pytest.raises(ValueError, match="has each of its tasks once"):
        FiniteTasks([[1.0], [2.0], [1.0]], ("direction",), ("",))
