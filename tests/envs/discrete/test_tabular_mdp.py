"""Random tabular MDPs: their prior, exact planning, posterior sampling."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from metarl.envs import make
from metarl.envs.discrete import psrl
from metarl.envs.discrete.psrl import PSRL, backward_induction
from metarl.envs.discrete.tabular_mdp import TabularMDP


def test_tables_are_the_priors() -> None:
    tables = TabularMDP(1).tables(np.arange(400)[:, None])
    np.testing.assert_allclose(tables.transitions.sum(axis=3), 1.0)
    # Dirichlet(1, …, 1) of ten: mean 1/10, variance (1/10)(9/10)/11.
    assert tables.transitions.std() == pytest.approx(np.sqrt(0.09 / 11), rel=0.01)
    assert tables.rewards.mean() == pytest.approx(1.0, abs=0.03)
    assert tables.rewards.std() == pytest.approx(1.0, abs=0.03)
    again = TabularMDP(1).tables([[7.0]])
    np.testing.assert_array_equal(again.rewards[0], tables.rewards[7])


def test_backward_induction_is_the_best_of_all_policies() -> None:
    """Two states, two actions, three steps: all 2^(2·3) policies, one after the other."""
    env = TabularMDP(1, states=2, actions=2, horizon=3)
    tasks = np.arange(5.0)[:, None]
    transitions, rewards = env.tables(tasks)
    best = np.full(5, -np.inf)
    for policy in itertools.product(range(2), repeat=6):
        reach, total = np.tile([1.0, 0.0], (5, 1)), np.zeros(5)
        for t in range(3):
            chosen = np.array(policy[2 * t : 2 * t + 2])
            total += (reach * rewards[:, [0, 1], chosen]).sum(axis=1)
            reach = np.einsum("ns,nsp->np", reach, transitions[:, [0, 1], chosen])
        best = np.maximum(best, total)
    np.testing.assert_allclose(env.optimal_returns(tasks), best)


def played(env: TabularMDP, agent: PSRL, tasks: np.ndarray, episodes: int) -> np.ndarray:
    """Mean return of each episode, [K]; two lanes a task."""
    env.set_tasks(np.repeat(tasks, 2, axis=0))
    shape = (len(tasks), 2)
    agent.begin(*shape)
    returns = []
    for k in range(episodes):
        observation, _ = env.reset(seed=k)
        total = np.zeros(shape)
        for _ in range(env.horizon):
            shown = observation.reshape(*shape, -1)
            action = agent.act(shown, np.ones(shape, dtype=bool))
            observation, reward, terminated, truncated, _ = env.step(action.ravel())
            total += reward.reshape(shape)
            flags = terminated.reshape(shape), truncated.reshape(shape)
            agent.observe(action, reward.reshape(shape), *flags, observation.reshape(*shape, -1))
        agent.adapt()
        returns.append(total.mean())
    return np.array(returns)


def test_the_optimal_policy_earns_what_is_computed() -> None:
    env = TabularMDP(4000)
    task = env.task_distribution.held_out()[:1]
    env.set_tasks(np.tile(task, (4000, 1)))
    value, actions = backward_induction(*env.tables(task), env.horizon)
    observation, _ = env.reset(seed=0)
    total = np.zeros(4000)
    for t in range(env.horizon):
        observation, reward, *_ = env.step(actions[t, 0, observation.argmax(axis=1)])
        total += reward
    error = total.std() / np.sqrt(4000)
    assert total.mean() == pytest.approx(value[0, 0], abs=3 * error)
    assert env.optimal_returns(task)[0] == value[0, 0]


def test_posterior_sampling_learns_and_repeats_itself() -> None:
    tasks = TabularMDP(1).task_distribution.held_out()[:30]
    env = make("tabular_mdp", 60)
    assert isinstance(env, TabularMDP)
    ((name, make_agent),) = env.reference_agents(10).items()
    assert name == "psrl"
    returns = played(env, make_agent(0), tasks, 10)
    assert returns[-3:].mean() > returns[0] + 3.0
    assert returns[-1] < env.optimal_returns(tasks).mean()
    np.testing.assert_array_equal(played(env, make_agent(0), tasks, 2), returns[:2])
    assert (played(env, make_agent(1), tasks, 2) != returns[:2]).all()


def test_the_posterior_is_what_was_seen() -> None:
    agent = PSRL(2, 2, 3, 1.0, 0)
    agent.begin(1, 1)
    one_hot = np.eye(2)
    for state, following in ((0, 1), (1, 1), (1, 0)):
        agent.act(one_hot[None, None, state], np.ones((1, 1), dtype=bool))
        flags = np.zeros((1, 1), dtype=bool)
        reward, after = np.full((1, 1), 2.0), one_hot[None, None, following]
        agent.observe(np.ones((1, 1), dtype=int), reward, flags, flags, after)
    assert agent._seen[0, :, 1].tolist() == [[0.0, 1.0], [1.0, 1.0]]
    assert agent._paid[0].tolist() == [[0.0, 2.0], [0.0, 4.0]]


def test_mdps_are_sampled_from_the_posterior(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of 20,000 lanes that have seen the same: moments of Dirichlet(1 + n) and of the normal."""
    lanes, sampled = 20_000, []

    def keep(*tables: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        sampled.append(tables[:2])
        return backward_induction(*tables)

    monkeypatch.setattr(psrl, "backward_induction", keep)
    agent = PSRL(3, 2, 4, 1.0, 0)
    agent.begin(1, lanes)
    flags = np.zeros((1, lanes), dtype=bool)
    for following, reward in ((1, 2.0), (1, 4.0), (2, 6.0)):  # all from state 0, action 1
        agent.act(np.tile(np.eye(3)[0], (1, lanes, 1)), ~flags)
        after = np.tile(np.eye(3)[following], (1, lanes, 1))
        agent.observe(
            np.ones((1, lanes), dtype=int), np.full((1, lanes), reward), flags, flags, after
        )
    sampled.clear()
    agent.adapt()
    transitions, rewards = (np.concatenate(part) for part in zip(*sampled, strict=True))
    assert len(rewards) == lanes
    seen = transitions[:, 0, 1]  # Dirichlet(1, 3, 2)
    np.testing.assert_allclose(seen.mean(axis=0), [1 / 6, 3 / 6, 2 / 6], atol=0.005)
    variances = [1 * 5 / 252, 3 * 3 / 252, 2 * 4 / 252]
    np.testing.assert_allclose(seen.var(axis=0), variances, rtol=0.05)
    assert transitions[:, 0, 0].mean(axis=0) == pytest.approx(np.full(3, 1 / 3), abs=0.005)
    # Of prior N(1, 1) and the rewards 2, 4, 6 of deviation 1: N((1 + 12)/4, 1/4).
    assert rewards[:, 0, 1].mean() == pytest.approx(3.25, abs=0.02)
    assert rewards[:, 0, 1].std() == pytest.approx(0.5, rel=0.03)
    assert rewards[:, 2, 0].mean() == pytest.approx(1.0, abs=0.03)
    assert rewards[:, 2, 0].std() == pytest.approx(1.0, rel=0.03)


def test_tables_that_no_memory_holds_are_refused() -> None:
    with pytest.raises(ValueError, match=r"states² · actions, here 4,000,000, must be at most 1,0"):
        TabularMDP(1, states=1000, actions=4)


def test_tasks_are_numbers_of_mdps() -> None:
    distribution = make("tabular_mdp", 1, preset="duan_2016").task_distribution
    drawn = distribution.sample(np.random.default_rng(0), 1000)
    assert drawn.min() >= 1000, "none of the evaluation sets"
    assert len(distribution.held_out()) == 200
    for wrong in (-1.0, 0.5, 2.0**53):
        with pytest.raises(ValueError, match="must be an integer of at least 0"):
            distribution.check([[wrong]])
