"""VariBAD's grid world: its rewards, and the Bayes-optimal walk."""

from __future__ import annotations

import numpy as np
import pytest

from metarl.envs import make
from metarl.envs.discrete.grid_world import GridWorld, bayes_optimal_walk, possible_goals

STAY, UP, RIGHT, DOWN, LEFT = range(5)


def test_moves_walls_and_rewards_by_hand() -> None:
    env = GridWorld(1)
    env.set_tasks([[1, 2]])
    cells, rewards = [], []
    observation, _ = env.reset()
    for action in (LEFT, RIGHT, UP, UP, STAY, DOWN, DOWN, DOWN):
        cells.append(divmod(int(observation[0].argmax()), 5))
        observation, reward, *_ = env.step(np.array([action]))
        rewards.append(float(reward[0]))
    assert cells == [(0, 0), (0, 0), (1, 0), (1, 1), (1, 2), (1, 2), (1, 1), (1, 0)]
    assert rewards == [-0.1, -0.1, -0.1, 1.0, 1.0, -0.1, -0.1, -0.1]


def test_the_published_optima() -> None:
    env = make("grid_world", 1, preset="varibad")
    goals = env.task_distribution.held_out()
    assert len(goals) == 21
    known, line = env.optimal_returns(goals), env.bayes_optimal_returns(goals, 4)
    assert known is not None
    assert line is not None
    assert known.mean() == pytest.approx(11.07, abs=0.005)
    np.testing.assert_allclose(line.mean(axis=1), [4.0, 11.07, 11.07, 11.07], atol=0.005)


def test_the_walk_earns_what_the_line_says() -> None:
    """Walk it; stay on the goal; in the second episode walk the single path, then go straight."""
    walk = bayes_optimal_walk(5, 15)
    assert walk is not None
    goals = possible_goals(5)
    rest = sorted(set(goals) - set(walk), key=sum)
    path = [(0, 0)]
    for cell in rest:  # right and up alone, through all that was not visited
        while path[-1] != cell:
            x, y = path[-1]
            path.append((x + 1, y) if x < cell[0] else (x, y + 1))
    env = GridWorld(21)
    env.set_tasks(goals)
    returns = np.zeros((2, 21))
    for k, followed in enumerate((walk, (*path, *[path[-1]] * 15))):
        env.reset()
        for t in range(15):
            where = env._cell.copy()
            there = (where == env.tasks).all(axis=1)
            moves = np.zeros(21, dtype=int)
            for lane in np.flatnonzero(~there):
                goal = tuple(int(x) for x in goals[lane])
                x, y = where[lane]
                if k == 1 and goal in walk:  # known from the first episode
                    step = (1, 0) if x < goal[0] else (0, 1)
                else:
                    step = (followed[t + 1][0] - x, followed[t + 1][1] - y)
                moves[lane] = {(0, 0): 0, (0, 1): 1, (1, 0): 2, (0, -1): 3, (-1, 0): 4}[step]
            returns[k] += env.step(moves)[1]
    line = env.bayes_optimal_returns(goals, 2)
    assert line is not None
    np.testing.assert_allclose(returns, line)


def test_where_no_walk_reaches_the_bound_nothing_is_said() -> None:
    env = GridWorld(1, size=6, horizon=8)
    assert env.bayes_optimal_returns(env.task_distribution.held_out(), 2) is None
    assert bayes_optimal_walk(32, 2000) is None, "nor where the search would be too deep"


def test_only_possible_goals_are_tasks() -> None:
    sentence = r"must be one of its 21 tasks: \[\[0.0, 2.0\], .*\] … \(goal_x, goal_y\)"
    with pytest.raises(ValueError, match=sentence) as said:
        GridWorld(1).set_tasks([[1, 1]])
    assert len(str(said.value)) < 250
