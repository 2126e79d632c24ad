"""The agent in a user's own loop is the agent of training, to the bit."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from envs import TaskVectorEnv
from metarl.algorithms.maml import MAML, MAMLConfig
from metarl.gradient_learner import GradientLearner
from metarl.networks import PolicyActor
from metarl.params import Params, detach, stack
from metarl.random import Key
from metarl.rollout import RolloutWorker
from metarl.types import Learner
from tests.test_rollout import TASKS, Stairs
from tests.toy_envs import Arms

LANES = 5
KEY = Key(3, 8)
MAKERS = [lambda n: Stairs(n, rude=False), lambda n: Arms(n, horizon=4)]


def agent(env: TaskVectorEnv, **changes: Any) -> MAML:
    options: dict[str, Any] = {"hidden_sizes": (6,), "inner_lr": (0.5, 0.2), "discount": 0.9}
    config = MAMLConfig(**(options | changes))
    return MAML(config, env.single_observation_space, env.single_action_space, seed=1)


def tasks_of(env: TaskVectorEnv) -> np.ndarray:
    return TASKS if isinstance(env, Stairs) else np.array([[0.0], [3.0], [4.0]])


def play(learner: Learner, env: TaskVectorEnv, key: Key) -> np.ndarray:
    """One round of episodes as a user's loop has it; the returns ``[M, B]``."""
    shape = (3, LANES)
    env.set_tasks(np.repeat(tasks_of(env), LANES, axis=0))
    observation, _ = env.reset(seed=key.reset_seeds(*shape))
    active = np.ones(shape, dtype=bool)
    returns = np.zeros(shape)
    while active.any():
        action = learner.act(observation.reshape(*shape, -1), active)
        observation, reward, terminated, truncated, _ = env.step(
            action.reshape(3 * LANES, *action.shape[2:])
        )
        learner.observe(
            action,
            reward.reshape(shape),
            terminated.reshape(shape),
            truncated.reshape(shape),
            observation.reshape(*shape, -1),
        )
        returns += reward.reshape(shape)
        active &= ~(terminated | truncated).reshape(shape)
    return returns


@pytest.mark.parametrize("make", MAKERS, ids=["early ends", "discrete"])
@pytest.mark.parametrize("options", [{}, {"inner_estimator": "lvc", "gae_lambda": 0.9}], ids=str)
def test_own_loop_reproduces_training(make: Any, options: dict[str, Any]) -> None:
    env = make(3 * LANES)
    maml = agent(env, **options)
    worker = RolloutWorker(make)
    theta = stack(maml.params, 3)
    learner = maml.learner("stochastic", KEY)
    learner.begin(3, LANES)
    for k in range(4):
        actor = PolicyActor(maml.policy, detach(theta))
        trajectory = worker.collect(actor, tasks_of(env), LANES, KEY.at(k))
        returns = play(learner, env, KEY.at(k))
        assert np.array_equal(trajectory.returns().numpy(), returns.astype(np.float32))
        samples = maml.adaptation.samples(trajectory)
        theta = maml.adaptation.step(theta, samples, k).adapted
        learner.adapt()
        for name, p in theta.items():
            assert torch.equal(p, learner.params[name]), (k, name)
    first = stack(maml.params, 3)
    assert all(not torch.equal(p, first[name]) for name, p in theta.items())


def test_tasks_adapt_apart() -> None:
    env = Stairs(3 * LANES, rude=False)
    learner = agent(env).learner("stochastic", KEY)
    learner.begin(3, LANES)
    play(learner, env, KEY)
    learner.adapt()
    weight = learner.params["layer0.weight"]
    assert not torch.equal(weight[0], weight[1])
    assert not torch.equal(weight[1], weight[2])


def test_begin_forgets() -> None:
    env = Stairs(3 * LANES, rude=False)
    maml = agent(env)
    learner = maml.learner("stochastic", KEY)
    learner.begin(3, LANES)
    first = play(learner, env, KEY)
    learner.adapt()
    adapted = {name: p.clone() for name, p in learner.params.items()}
    learner.begin(3, LANES)
    assert learner.adaptation_step == 0
    assert np.array_equal(play(learner, env, KEY), first)
    learner.adapt()
    assert all(torch.equal(p, adapted[name]) for name, p in learner.params.items())
    before = {name: p.clone() for name, p in maml.params.items()}
    assert all(torch.equal(p, before[name]) for name, p in learner.meta_params.items())


def test_step_sizes_of_the_evaluation() -> None:
    env = Stairs(3 * LANES, rude=False)
    assert agent(env).learner("stochastic", KEY).step_sizes == [0.5, 0.2]
    maml = agent(env, evaluation_inner_lr=(0.3, 0.1))
    assert maml.learner("stochastic", KEY).step_sizes == [0.3, 0.1]

    def moved(maml: MAML) -> Params:
        learner = maml.learner("stochastic", KEY)
        learner.begin(3, LANES)
        play(learner, env, KEY)
        learner.adapt()
        return {name: p - maml.params[name] for name, p in learner.params.items()}

    large, small = moved(agent(env)), moved(maml)
    for name in large:
        torch.testing.assert_close(0.6 * large[name], small[name], atol=1e-6, rtol=1e-3)


def test_deterministic_actions_are_the_mode() -> None:
    env = Arms(3 * LANES, horizon=2)
    learner = agent(env).learner("deterministic", KEY)
    learner.begin(3, LANES)
    observation = np.ones((3, LANES, 1))
    active = np.ones((3, LANES), dtype=bool)
    actions = learner.act(observation, active)
    logits = learner.adaptation.policy(learner.params, torch.ones(3, LANES, 1)).mode()
    assert np.array_equal(actions, logits.numpy())
    assert len(np.unique(actions)) == 1
    assert actions.dtype.kind == "i"


def test_an_environment_that_clips_in_place_changes_nothing() -> None:
    adapted = []
    for rude in (False, True):
        env = Stairs(3 * LANES, rude=rude)
        learner = agent(env).learner("stochastic", KEY)
        learner.begin(3, LANES)
        play(learner, env, KEY)
        learner.adapt()
        adapted.append(learner.params)
    for name, p in adapted[0].items():
        assert torch.equal(p, adapted[1][name]), name


# --- misuse -----------------------------------------------------------------------------------


@pytest.fixture
def learner() -> GradientLearner:
    learner = agent(Arms(2, horizon=1)).learner("stochastic", KEY)
    learner.begin(1, 2)
    return learner


OBSERVATION = np.ones((1, 2, 1))
ACTIVE = np.ones((1, 2), dtype=bool)


def step(learner: GradientLearner, ends: bool = True) -> None:
    action = learner.act(OBSERVATION, ACTIVE)
    flags = np.full((1, 2), ends)
    learner.observe(action, np.zeros((1, 2)), np.zeros((1, 2), dtype=bool), flags, OBSERVATION)


def test_act_before_begin() -> None:
    learner = agent(Arms(2)).learner("stochastic", KEY)
    with pytest.raises(ValueError, match="begin"):
        learner.act(OBSERVATION, ACTIVE)


@pytest.mark.parametrize(
    ("observation", "active"),
    [(np.ones((2, 2, 1)), ACTIVE), (OBSERVATION, np.ones((1, 3), dtype=bool))],
)
def test_other_sizes_than_begin_was_given(
    learner: GradientLearner, observation: np.ndarray, active: np.ndarray
) -> None:
    with pytest.raises(ValueError, match=r"\[1, 2\]"):
        learner.act(observation, active)


def test_a_second_episode_without_adapt(learner: GradientLearner) -> None:
    step(learner)
    with pytest.raises(ValueError, match="adapt"):
        learner.act(OBSERVATION, ACTIVE)
    learner.adapt()
    step(learner)


def test_observe_without_act(learner: GradientLearner) -> None:
    with pytest.raises(ValueError, match="act"):
        learner.observe(*[np.zeros((1, 2))] * 4, OBSERVATION)  # type: ignore[misc]
    step(learner, ends=False)
    with pytest.raises(ValueError, match="act"):
        learner.observe(*[np.zeros((1, 2))] * 4, OBSERVATION)  # type: ignore[misc]


def test_adapt_without_a_round(learner: GradientLearner) -> None:
    with pytest.raises(ValueError, match="round"):
        learner.adapt()
    learner.act(OBSERVATION, ACTIVE)
    with pytest.raises(ValueError, match="observe"):
        learner.adapt()


def test_adapt_on_deterministic_actions(learner: GradientLearner) -> None:
    learner.mode = "deterministic"
    step(learner)
    with pytest.raises(ValueError, match="mode"):
        learner.adapt()


def test_a_change_of_mode_starts_the_round_anew(learner: GradientLearner) -> None:
    first = learner.act(OBSERVATION, ACTIVE)
    learner.mode = "deterministic"
    step(learner)
    learner.mode = "stochastic"
    assert np.array_equal(learner.act(OBSERVATION, ACTIVE), first)


# --- saving -----------------------------------------------------------------------------------


def test_what_it_has_become_can_be_saved(tmp_path: Any) -> None:
    env = Stairs(3 * LANES, rude=False)
    maml = agent(env)
    learner = maml.learner("stochastic", KEY)
    learner.begin(3, LANES)
    play(learner, env, KEY)
    learner.adapt()
    torch.save(learner.state_dict(), tmp_path / "agent.pt")
    expected = play(learner, env, KEY.at(1))
    learner.adapt()

    other = maml.learner("stochastic", KEY)
    other.load_state_dict(torch.load(tmp_path / "agent.pt", weights_only=True))
    assert other.adaptation_step == 1
    assert np.array_equal(play(other, env, KEY.at(1)), expected)
    other.adapt()
    assert all(torch.equal(p, learner.params[name]) for name, p in other.params.items())
