"""Bandits: what is paid, and what the best learners earn."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest

from metarl.envs import make
from metarl.envs.discrete import exact_bandit
from metarl.envs.discrete.bandit import Bandit


def expectimax(counts: tuple[tuple[int, int], ...], pulls: int) -> float:
    """What the best agent expects of its pulls, p ~ U[0, 1]: every arm, every outcome."""
    if pulls == 0:
        return 0.0
    worth = []
    for arm, (s, f) in enumerate(counts):
        mean = (s + 1) / (s + f + 2)
        won = expectimax((*counts[:arm], (s + 1, f), *counts[arm + 1 :]), pulls - 1)
        lost = expectimax((*counts[:arm], (s, f + 1), *counts[arm + 1 :]), pulls - 1)
        worth.append(mean * (1.0 + won) + (1.0 - mean) * lost)
    return max(worth)


@functools.cache
def over_the_prior(arms: int, pulls: int) -> float:
    """What a plan earns in the mean over the prior: integrated exactly by Gauss and Legendre."""
    plan = exact_bandit.bayes_optimal_plan(arms, pulls)
    assert plan is not None
    nodes, weights = np.polynomial.legendre.leggauss(pulls)
    grids = np.meshgrid(*[(nodes + 1) / 2] * arms, indexing="ij")
    weight = functools.reduce(np.multiply.outer, [weights / 2] * arms)
    means = np.stack([grid.ravel() for grid in grids], axis=1)
    return float(exact_bandit.planned_rewards(plan, means).sum(axis=0) @ weight.ravel())


@pytest.mark.parametrize(("arms", "pulls"), [(2, 4), (3, 3), (2, 1)])
def test_the_plan_earns_what_a_search_of_all_outcomes_finds(arms: int, pulls: int) -> None:
    expected = expectimax(((0, 0),) * arms, pulls)
    assert over_the_prior(arms, pulls) == pytest.approx(expected, abs=1e-12)


def test_the_bayes_optimum_of_five_arms_and_ten_pulls() -> None:
    """The plan followed through all 1,023 beliefs, each with the probability that it is reached."""
    plan = exact_bandit.bayes_optimal_plan(5, 10)
    assert plan is not None
    total = 0.0
    reached = [(1.0, np.zeros((5, 2)))]  # successes and failures of each arm
    for node in range(1023):
        probability, counts = reached[node]
        arm = plan[node]
        mean = (counts[arm, 0] + 1) / (counts[arm].sum() + 2)
        total += probability * mean
        for p, column in ((1 - mean, 1), (mean, 0)):
            after = counts.copy()
            after[arm, column] += 1
            reached.append((probability * p, after))
    assert total == pytest.approx(6.66, abs=0.005)


def test_gittins_indices_are_those_of_the_tables() -> None:
    """Gittins, Glazebrook & Weber 2011, tables of Bernoulli arms at discount 0.9, prior U[0, 1]."""
    index = exact_bandit.bernoulli_indices(60, 0.9)
    found = [index[58, s, f] for s, f in ((0, 0), (0, 1), (1, 0))]
    np.testing.assert_allclose(found, [0.7029, 0.5001, 0.8001], atol=5e-4)


def test_finite_horizon_indices_by_hand() -> None:
    """One pull: the mean. Two: λ with (1/2 − λ) + 1/2 (2/3 − λ) = 0, and so on."""
    index = exact_bandit.bernoulli_indices(3)
    assert index[1, 1, 1] == pytest.approx(0.5, abs=1e-6)
    assert index[1, 2, 0] == pytest.approx(0.75, abs=1e-6)
    assert index[2, 0, 0] == pytest.approx(5 / 9, abs=1e-6)
    assert index[2, 1, 0] == pytest.approx((2 / 3 + 2 / 3 * 3 / 4) / (1 + 2 / 3), abs=1e-6)
    bonus = exact_bandit.gaussian_bonuses(3)
    assert bonus[1, 0] == pytest.approx(0.0, abs=1e-9)
    # x with −x = E (x + σZ)_+, σ² = 1 − 1/2
    normal = np.random.default_rng(0).standard_normal(400_000)
    excess = np.maximum(-bonus[2, 0] + np.sqrt(0.5) * normal, 0.0).mean()
    assert bonus[2, 0] == pytest.approx(excess, abs=2e-3)


@pytest.mark.parametrize("rewards", ["bernoulli", "gaussian"])
def test_an_arm_pays_by_its_mean_and_the_episodes_seed(rewards: str) -> None:
    env = make("bandit", 4000, rewards=rewards, arms=3, pulls=4)
    means = np.array([0.2, 0.5, 0.9])
    env.set_tasks(np.tile(means, (4000, 1)))
    paid = []
    for arm in (2, 2, 0):
        env.reset(seed=0)
        paid.append([env.step(np.full(4000, arm))[1] for _ in range(4)])
    np.testing.assert_array_equal(paid[0], paid[1])
    for each, mean in ((paid[0], 0.9), (paid[2], 0.2)):
        deviation = 1.0 if rewards == "gaussian" else np.sqrt(mean * (1 - mean))
        assert np.mean(each) == pytest.approx(mean, abs=4 * deviation / np.sqrt(16_000))
        assert np.std(each) == pytest.approx(deviation, rel=0.05)
    # The same luck for whoever pulls another arm: what 0.2 pays, 0.9 pays too.
    assert (np.array(paid[0]) >= np.array(paid[2])).all()


def returns_of(env: Bandit, agent: Any, tasks: np.ndarray, lanes: int) -> np.ndarray:
    """Return of an agent in every lane, [n, B], of the seed 0."""
    env = make(
        "bandit", len(tasks) * lanes, arms=env._arms, pulls=env.horizon, rewards=env._rewards
    )  # type: ignore[assignment]
    env.set_tasks(np.repeat(tasks, lanes, axis=0))
    observation, _ = env.reset(seed=0)
    shape = (len(tasks), lanes)
    agent.begin(*shape)
    total = np.zeros(shape)
    for _ in range(env.horizon):
        arm = agent.act(observation.reshape(*shape, -1), np.ones(shape, dtype=bool))
        observation, reward, terminated, truncated, _ = env.step(arm.ravel())
        total += reward.reshape(shape)
        flags = terminated.reshape(shape), truncated.reshape(shape)
        agent.observe(arm, reward.reshape(shape), *flags, observation.reshape(*shape, -1))
    return total


def agents_of(env: Bandit) -> Mapping[str, Any]:
    return {name: make_agent(0) for name, make_agent in env.reference_agents(1).items()}


def test_references_rank_as_they_should_and_the_line_is_what_the_best_earns() -> None:
    env = Bandit(1, arms=5, pulls=10)
    tasks, agents = env.task_distribution.held_out()[:300], agents_of(env)
    assert list(agents) == ["thompson", "ucb1", "bayes_optimal"]
    returns = {name: returns_of(env, agent, tasks, 20) for name, agent in agents.items()}
    line = env.bayes_optimal_returns(tasks, 1)
    assert line is not None
    errors = returns["bayes_optimal"].mean(axis=1) - line[0]
    assert abs(errors.mean()) < 3 * errors.std() / np.sqrt(300)
    best = returns["bayes_optimal"].mean()
    assert returns["ucb1"].mean() < returns["thompson"].mean() + 0.3 < best + 0.3
    assert returns["thompson"].mean() > 10 * tasks.mean() + 0.3, "it learns"
    assert (env.optimal_returns(tasks) >= line[0] - 1e-9).all()


def test_a_long_bandit_has_gittins_agent() -> None:
    for params in ({"pulls": 40}, {"pulls": 40, "rewards": "gaussian"}):
        env = Bandit(1, arms=4, **params)  # type: ignore[arg-type]
        tasks, agents = env.task_distribution.held_out()[:100], agents_of(env)
        assert list(agents) == ["thompson", "ucb1", "gittins"]
        found = {name: returns_of(env, agent, tasks, 10).mean() for name, agent in agents.items()}
        assert found["gittins"] > found["thompson"] + 1.0
        line = env.bayes_optimal_returns(tasks, 1)
        assert line is not None
        assert line.mean() == pytest.approx(found["gittins"], abs=0.6)
    assert list(agents_of(Bandit(1, pulls=500))) == ["thompson", "ucb1"]
    assert Bandit(1, pulls=500).bayes_optimal_returns(np.full((1, 5), 0.5), 1) is None


def test_a_trial_of_several_episodes_is_one_horizon() -> None:
    env = Bandit(1, arms=2, pulls=3)
    tasks = env.task_distribution.held_out()[:50]
    line, whole = env.bayes_optimal_returns(tasks, 2), Bandit(1, arms=2, pulls=6)
    expected = whole.bayes_optimal_returns(tasks, 1)
    assert line is not None
    assert expected is not None
    np.testing.assert_allclose(line.sum(axis=0), expected[0])


def test_tasks_and_presets() -> None:
    env = make("bandit", 1, preset="duan_2016", arms=10, pulls=100)
    assert (env.horizon, env.single_action_space.n) == (100, 10)  # type: ignore[attr-defined]
    assert make("bandit", 1, preset="wang_2016").task_distribution.dim == 2
    held_out = env.task_distribution.held_out()
    assert held_out.shape == (1000, 10)
    assert held_out.mean() == pytest.approx(0.5, abs=0.01)
    with pytest.raises(ValueError, match="no out-of-range tasks"):
        env.task_distribution.out_of_range()
    with pytest.raises(ValueError, match=r"Bernoulli arms must be in \[0, 1\]"):
        env.set_tasks(np.full((1, 10), 1.5))
    gaussian = make("bandit", 1, rewards="gaussian").task_distribution
    assert gaussian.out_of_range().mean() == pytest.approx(3.0, abs=0.1)
    with pytest.raises(ValueError, match="rewards is 'beta'"):
        make("bandit", 1, rewards="beta")
