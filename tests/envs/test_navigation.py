"""PointNavigation against numbers computed by hand, and its optimum against played policies."""

from __future__ import annotations

import time
from functools import partial
from typing import Any

import numpy as np
import pytest

from metarl.envs import FiniteTasks, make
from metarl.envs.navigation import PointNavigation


def one_lane(goal: list[float], **params: Any) -> PointNavigation:
    env = PointNavigation(1, **params)
    env.set_tasks([goal])
    env.reset(seed=0)
    return env


def play(env: PointNavigation, tasks: np.ndarray, policy: Any, seed: int = 0) -> np.ndarray:
    """Return of policy(position, goal, steps left) on each task, [N]."""
    env.set_tasks(tasks)
    position, _ = env.reset(seed=seed)
    total = np.zeros(env.num_envs)
    for step in range(env.horizon):
        position, reward, *_ = env.step(policy(position, tasks, env.horizon - step))
        total += reward
    assert env.finished.all()
    return total


def test_dense_reward_is_at_the_new_position() -> None:
    env = one_lane([0.3, 0.4])
    position, reward, terminated, truncated, info = env.step([[1.0, -0.5]])
    np.testing.assert_allclose(position, [[0.1, -0.05]], atol=1e-15)
    np.testing.assert_allclose(reward, [-np.hypot(0.2, 0.45)], atol=1e-15)
    assert not terminated[0]
    assert not truncated[0]
    assert info == {}


def test_actions_are_clipped_to_the_unit_box() -> None:
    env = one_lane([0.5, 0.5])
    np.testing.assert_allclose(env.step([[5.0, -1.5]])[0], [[0.1, -0.1]], atol=1e-15)
    np.testing.assert_allclose(env.step(np.array([[-7, 0]]))[0], [[0.0, -0.1]], atol=1e-15)


def test_step_size() -> None:
    env = one_lane([0.5, 0.5], step_size=0.25)
    np.testing.assert_allclose(env.step([[1.0, -0.5]])[0], [[0.25, -0.125]], atol=1e-15)


@pytest.mark.parametrize(
    ("goal", "arrives"),
    [
        ([0.109, 0.0], True),
        ([0.111, 0.0], False),
        ([0.1, 0.009], True),
        ([0.1, 0.011], False),
        ([0.109, 0.009], True),
    ],
)
def test_an_episode_terminates_in_the_box_around_the_goal(goal: list[float], arrives: bool) -> None:
    """The box, not the disc: both axes within 0.01."""
    env = one_lane(goal)
    _, reward, terminated, truncated, _ = env.step([[1.0, 0.0]])
    assert terminated[0] == arrives
    assert not truncated[0]
    assert reward[0] < 0.0, "the arriving step is paid too"
    assert not one_lane(goal, terminate=False).step([[1.0, 0.0]])[2][0]


def test_termination_and_truncation_are_different_flags() -> None:
    """REFERENCE trap: one `done` for both."""
    env = PointNavigation(2, horizon=2)
    env.set_tasks([[0.1, 0.0], [0.5, 0.5]])
    env.reset()
    *_, terminated, truncated, _ = env.step([[1.0, 0.0], [0.0, 0.0]])
    assert (terminated.tolist(), truncated.tolist()) == ([True, False], [False, False])
    *_, terminated, truncated, _ = env.step(np.zeros((2, 2)))
    assert (terminated.tolist(), truncated.tolist()) == ([True, False], [False, True])


def test_sparse_reward() -> None:
    env = one_lane([0.35, 0.0], reward="sparse", sparse_radius=0.2, terminate=False)
    rewards = [env.step([[1.0, 0.0]])[1][0] for _ in range(4)]
    np.testing.assert_allclose(rewards, [0.0, 0.85, 0.95, 0.95], atol=1e-12)
    diagonal = one_lane([0.25, 0.25], reward="sparse", sparse_radius=0.2, terminate=False)
    np.testing.assert_allclose(diagonal.step([[1.0, 1.0]])[1], [0.0])  # at √2·0.15 > 0.2
    np.testing.assert_allclose(diagonal.step([[1.0, 1.0]])[1], [1.0 - np.sqrt(2) * 0.05])


def test_the_goal_is_not_observed() -> None:
    """REFERENCE trap: the observation contains the goal."""
    env = PointNavigation(2)
    env.set_tasks([[0.4, -0.3], [-0.2, 0.5]])
    position, _ = env.reset(seed=0)
    rng = np.random.default_rng(0)
    for _ in range(20):
        assert position.shape == (2, 2)
        np.testing.assert_array_equal(position[0], position[1])
        position = env.step(np.repeat(rng.uniform(-1, 1, (1, 2)), 2, axis=0))[0]
    assert env.position_columns == (0, 1)


def test_random_starts_fill_the_square_and_follow_the_seed() -> None:
    env = PointNavigation(400, region="square", radius=1.0, start="random")
    starts, _ = env.reset(seed=0)
    assert np.abs(starts).max() <= 1.0
    assert np.abs(starts.mean(axis=0)).max() < 0.1
    assert np.abs(starts.std(axis=0) - 1 / np.sqrt(3)).max() < 0.05
    np.testing.assert_array_equal(env.reset(seed=0)[0], starts)
    np.testing.assert_array_equal(env.reset(seed=1)[0][:-1], starts[1:])  # lane i has s + i
    assert not np.array_equal(env.reset()[0], starts)


@pytest.mark.parametrize(
    ("params", "mean"),
    [
        ({}, -0.51),
        ({"preset": "varibad"}, -3.84),
        ({"preset": "varibad", "reward": "sparse"}, 93.4),
    ],
)
def test_optimum_is_the_one_of_the_reference(params: dict[str, Any], mean: float) -> None:
    env = make("point_navigation", 1, **params)
    tasks = env.task_distribution.sample(np.random.default_rng(0), 20000)
    optimum = env.optimal_returns(tasks)
    assert optimum is not None
    assert optimum.shape == (20000,)
    assert abs(optimum.mean() - mean) < 0.01 * max(1.0, abs(mean))


def greedy(position: np.ndarray, goal: np.ndarray, left: int, step: float = 0.1) -> np.ndarray:
    return (goal - position) / step


def waiting(position: np.ndarray, goal: np.ndarray, left: int) -> np.ndarray:
    """Go and wait at 0.01 from the goal on the farther axis; arrive with the last step."""
    if left == 1:
        return greedy(position, goal, left)
    target = goal.copy()
    farther = np.abs(goal).argmax(axis=1)
    lanes = np.arange(len(goal))
    target[lanes, farther] -= 0.0100001 * np.sign(goal[lanes, farther])
    return greedy(position, target, left)


@pytest.mark.parametrize(
    ("params", "best"),
    [
        ({}, greedy),
        ({"horizon": 3}, greedy),
        # Steps shorter than the box of arrival: the way that termination saves shows.
        ({"step_size": 0.004, "radius": 0.05}, partial(greedy, step=0.004)),
        ({"terminate": False}, greedy),
        ({"region": "semicircle", "radius": 1.0}, greedy),
        ({"reward": "sparse", "terminate": False}, greedy),
        ({"reward": "sparse", "sparse_radius": 1.0, "horizon": 4, "terminate": False}, greedy),
        ({"reward": "sparse", "terminate": True}, waiting),
        ({"reward": "sparse", "terminate": True, "horizon": 5}, waiting),
    ],
)
def test_optimum_is_attained_and_never_exceeded(params: dict[str, Any], best: Any) -> None:
    env = PointNavigation(64, **params)
    tasks = env.task_distribution.sample(np.random.default_rng(1), 64)
    optimum = env.optimal_returns(tasks)
    np.testing.assert_allclose(play(env, tasks, best), optimum, atol=1e-5)
    rng = np.random.default_rng(2)
    for scale in (0.02, 0.2, 1.0):

        def noisy(position: np.ndarray, goal: np.ndarray, left: int, scale: float = scale) -> Any:
            return best(position, goal, left) + scale * rng.normal(size=goal.shape)

        assert (play(env, tasks, noisy) <= optimum + 1e-9).all()
        assert (play(env, tasks, lambda *_: rng.normal(size=(64, 2))) <= optimum + 1e-9).all()


def test_optimum_of_random_starts_is_their_mean() -> None:
    params = {"radius": 1.0, "start": "random", "horizon": 20, "terminate": False}
    env = PointNavigation(4000, **params)  # type: ignore[arg-type]
    optimum = env.optimal_returns([[0.3, -0.8]])
    played = play(env, np.tile([[0.3, -0.8]], (4000, 1)), greedy)
    assert abs(played.mean() - optimum[0]) < 4 * played.std() / np.sqrt(4000)


class Trilaterating:
    """Plays one trial in the real environment by the rule, told nothing but position and reward."""

    def __init__(self, goal: np.ndarray, env: PointNavigation, step: float) -> None:
        self.env, self.step = env, step
        self.told: list[tuple[np.ndarray, float]] = []
        self.candidates: list[np.ndarray] = []
        env.set_tasks([goal])

    def play(self) -> float:
        """One episode's return."""
        position, _ = self.env.reset(seed=0)
        total = 0.0
        while not self.env.finished[0]:
            if self.candidates:
                action = (self.candidates[0] - position[0]) / self.step
            else:
                action = [np.array([1.0, 0.0]), np.array([-1.0, 1.0])][len(self.told)]
            position, reward, terminated, *_ = self.env.step([action])
            total += reward[0]
            self.told.append((position[0], -reward[0]))
            if self.candidates:
                # A goal that would have brought another reward by now is none.
                self.candidates = [
                    point
                    for point in self.candidates
                    if all(abs(np.hypot(*(point - x)) - d) < 1e-7 for x, d in self.told)
                ] or self.candidates
            elif len(self.told) == 2:
                self.candidates = self.where_the_goal_can_be()
            elif terminated[0]:
                self.candidates = [position[0]]
        return total

    def where_the_goal_can_be(self) -> list[np.ndarray]:
        """The intersections of two circles, by solving for the angle on the first."""
        (x, r), (y, s) = self.told
        away = np.arctan2(*(y - x)[::-1])
        length = np.hypot(*(y - x))
        angle = np.arccos(np.clip((r**2 + length**2 - s**2) / (2 * r * length), -1, 1))
        points = [x + r * np.array([np.cos(a), np.sin(a)]) for a in (away + angle, away - angle)]
        points.sort(key=lambda point: np.hypot(*point))
        possible = [p for p in points if self.env.task_distribution.contains(p[None])[0]]  # type: ignore[attr-defined]
        return possible + [p for p in points if not any(p is q for q in possible)]


@pytest.mark.parametrize(
    "params",
    [
        {"preset": "maml_2017"},
        {"terminate": False, "horizon": 12},
        {"horizon": 1},
        {"horizon": 2},
        {"horizon": 7, "step_size": 0.2, "radius": 1.0},
        {"preset": "varibad", "horizon": 15},
        {"region": "circle", "horizon": 15},
    ],
)
def test_the_bayes_adaptive_line_is_what_its_agent_earns(params: dict[str, Any]) -> None:
    env = make("point_navigation", 1, **params)
    goals = np.concatenate([env.task_distribution.held_out()[:12], [[0.1, 0.005], [0.004, 0.1]]])
    line = env.bayes_optimal_returns(goals, 3)
    assert line is not None
    for goal, expected in zip(goals, line.T, strict=True):
        agent = Trilaterating(goal, env, params.get("step_size", 0.1))  # type: ignore[arg-type]
        np.testing.assert_allclose([agent.play() for _ in range(3)], expected, atol=1e-6)
    optimum = env.optimal_returns(goals)
    assert optimum is not None
    assert (line <= optimum + 1e-6).all()


def test_the_bayes_adaptive_line_by_hand() -> None:
    """To (0.1, 0), to (0, 0.1), which leaves (0.3, 0.3) and its image (-0.2, -0.2), the nearer."""
    env = PointNavigation(1, horizon=6)
    line = env.bayes_optimal_returns([[0.3, 0.3], [-0.2, -0.2], [0.1, 0.005]], 2)
    assert line is not None
    there = [(0.1, 0.0), (0.0, 0.1), (-0.1, 0.0), (0.0, 0.1), (0.1, 0.2), (0.2, 0.3)]
    first = -sum(np.hypot(0.3 - x, 0.3 - y) for x, y in there)
    np.testing.assert_allclose(line[:, 0], [first, -np.sqrt(2) * 0.3], atol=1e-12)
    here = [(0.1, 0.0), (0.0, 0.1), (-0.1, 0.0), (-0.2, -0.1), (-0.2, -0.2)]
    first = -sum(np.hypot(-0.2 - x, -0.2 - y) for x, y in here)
    np.testing.assert_allclose(line[:, 1], [first, -np.sqrt(2) * 0.1], atol=1e-12)
    # The first step already ends in the box around the goal, and the second episode ends there too.
    np.testing.assert_allclose(line[:, 2], [-0.005, -0.005], atol=1e-12)


def test_the_bayes_adaptive_line_of_the_published_goals() -> None:
    env = make("point_navigation", 1, preset="maml_2017")
    line = env.bayes_optimal_returns(env.task_distribution.held_out(), 5)
    assert line is not None
    np.testing.assert_allclose(line.mean(axis=1), [-1.5599, *[-0.5441] * 4], atol=1e-4)


def test_the_bayes_adaptive_line_is_unknown_elsewhere() -> None:
    for params in ({"reward": "sparse"}, {"start": "random"}):
        assert make("point_navigation", 1, **params).bayes_optimal_returns([[0.1, 0.2]], 2) is None
    assert make("half_cheetah_vel", 1).bayes_optimal_returns([[1.0]], 2) is None
    env = make("point_navigation", 1)
    env.task_distribution = FiniteTasks([[0.1, 0.2], [0.3, 0.4]], ("goal_x", "goal_y"), ("m", "m"))
    assert env.bayes_optimal_returns([[0.1, 0.2]], 2) is None


def test_a_non_finite_action_is_an_error_with_lane_and_task() -> None:
    env = PointNavigation(3)
    env.set_tasks([[0.1, 0.2]] * 3)
    env.reset()
    actions = np.zeros((3, 2))
    actions[1, 0] = np.nan
    with pytest.raises(
        RuntimeError, match=r"PointNavigation failed in lane 1 \(task: goal_x 0.1, goal_y 0.2\)"
    ):
        env.step(actions)


@pytest.mark.parametrize(
    ("params", "sentence"),
    [
        ({"horizon": 0}, "horizon is 0: it must be an integer of at least 1"),
        ({"horizon": 1.5}, "horizon is 1.5: it must be an integer"),
        ({"horizon": True}, "horizon is True"),
        ({"radius": 0.0}, "radius is 0.0: it must be a finite number above 0"),
        ({"radius": float("inf")}, "radius is inf"),
        ({"radius": "wide"}, "radius is 'wide'"),
        ({"step_size": float("nan")}, "step_size is nan"),
        ({"sparse_radius": 1.5}, "sparse_radius is 1.5: .* above 0.015 and of at most 1"),
        ({"sparse_radius": 0.01}, "sparse_radius is 0.01"),
        ({"region": "ring"}, "region is 'ring': it must be one of square, disc, circle, semici"),
        ({"start": "goal"}, "start is 'goal': it must be one of origin, random"),
        ({"reward": 1}, "reward is 1: it must be one of dense, sparse"),
        ({"terminate": 1}, "terminate is 1: it must be true or false"),
        ({"held_out": "mine"}, "held_out is 'mine': it must be one of sobol, maml_2017"),
        ({"held_out": "maml_2017", "radius": 1.0}, "belong to the square of radius 0.5"),
    ],
)
def test_wrong_parameters_get_one_sentence(params: dict[str, Any], sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence):
        PointNavigation(2, **params)


def test_a_step_costs_little() -> None:
    """400 lanes in 25 to 35 µs on an idle core; ten times that is a loop over lanes."""
    env = PointNavigation(400)
    env.reset(seed=0)
    actions = np.random.default_rng(0).normal(size=(400, 2)).astype(np.float32)
    times = []
    for _ in range(90):
        start = time.perf_counter()
        env.step(actions)
        times.append(time.perf_counter() - start)
    assert np.median(times) < 350e-6
