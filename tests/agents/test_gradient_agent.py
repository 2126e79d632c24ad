"""The agent in a user's own loop is the agent of training, to the bit."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from metarl.agents.gradient_agent import GradientAgent
from metarl.algorithms.cavia import CAVIA
from metarl.algorithms.maesn import MAESN
from metarl.algorithms.maml import MAML
from metarl.envs import TaskVectorEnv
from metarl.experience.rollout import RolloutWorker
from metarl.maths.params import Params, detach, stack
from metarl.maths.running_moments import RunningMoments
from metarl.networks.mlp import PolicyActor
from metarl.random import Key
from metarl.types import Agent
from tests.experience.test_rollout import TASKS, Stairs
from tests.toy_envs import Arms

LANES = 5
KEY = Key(3, 8)
MAKERS = [lambda n: Stairs(n, rude=False), lambda n: Arms(n, horizon=4)]


def make_maml(env: TaskVectorEnv, kind: type[MAML] = MAML, **changes: Any) -> MAML:
    options: dict[str, Any] = {"hidden_sizes": (6,), "inner_lr": (0.5, 0.2), "discount": 0.9}
    config: Any = kind.config_class(**(options | changes))
    return kind(config, env.single_observation_space, env.single_action_space, seed=1)


def tasks_of(env: TaskVectorEnv) -> np.ndarray:
    return TASKS if isinstance(env, Stairs) else np.array([[0.0], [3.0], [4.0]])


def play(agent: Agent, env: TaskVectorEnv, key: Key) -> np.ndarray:
    """One round of episodes as a user's loop has it; the returns ``[M, B]``."""
    shape = (3, LANES)
    env.set_tasks(np.repeat(tasks_of(env), LANES, axis=0))
    observation, _ = env.reset(seed=key.reset_seeds(*shape))
    active = np.ones(shape, dtype=bool)
    returns = np.zeros(shape)
    while active.any():
        action = agent.act(observation.reshape(*shape, -1), active)
        observation, reward, terminated, truncated, _ = env.step(
            action.reshape(3 * LANES, *action.shape[2:])
        )
        agent.observe(
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
@pytest.mark.parametrize(
    "options",
    [
        {},
        {"inner_estimator": "lvc", "gae_lambda": 0.9},
        {"action_noise": "episode"},
        {"kind": MAESN},
        {"kind": MAESN, "action_noise": "episode"},
        {"kind": CAVIA},
    ],
    ids=str,
)
def test_own_loop_reproduces_training(make: Any, options: dict[str, Any]) -> None:
    env = make(3 * LANES)
    maml = make_maml(env, **options)
    width = env.single_observation_space.shape[0]  # type: ignore[index]
    maml.moments = RunningMoments.of(3.0 + 2.0 * torch.randn(9, width))
    worker = RolloutWorker(make)
    theta = stack(maml.params, 3)
    agent = maml.agent("stochastic", KEY)
    agent.begin(3, LANES)
    for k in range(4):
        actor = PolicyActor(maml.policy, detach(theta), maml.moments)
        trajectory = worker.collect(actor, tasks_of(env), LANES, KEY.at(k))
        returns = play(agent, env, KEY.at(k))
        assert np.array_equal(trajectory.returns().numpy(), returns.astype(np.float32))
        samples = maml.advantages.samples(trajectory)
        theta = maml.adaptation.step(theta, samples, k).adapted
        agent.adapt()
        for name, p in theta.items():
            assert torch.equal(p, agent.params[name]), (k, name)
    first, rates = stack(maml.params, 3), maml.rates() or dict.fromkeys(theta, 1.0)
    for name, p in theta.items():
        assert torch.equal(p, first[name]) == (not torch.as_tensor(rates[name]).any()), name


def test_tasks_adapt_apart() -> None:
    env = Stairs(3 * LANES, rude=False)
    agent = make_maml(env).agent("stochastic", KEY)
    agent.begin(3, LANES)
    play(agent, env, KEY)
    agent.adapt()
    weight = agent.params["layer0.weight"]
    assert not torch.equal(weight[0], weight[1])
    assert not torch.equal(weight[1], weight[2])


def test_begin_forgets() -> None:
    env = Stairs(3 * LANES, rude=False)
    maml = make_maml(env)
    agent = maml.agent("stochastic", KEY)
    agent.begin(3, LANES)
    first = play(agent, env, KEY)
    agent.adapt()
    adapted = {name: p.clone() for name, p in agent.params.items()}
    agent.begin(3, LANES)
    assert agent.adaptation_step == 0
    assert np.array_equal(play(agent, env, KEY), first)
    agent.adapt()
    assert all(torch.equal(p, adapted[name]) for name, p in agent.params.items())
    before = {name: p.clone() for name, p in maml.params.items()}
    assert all(torch.equal(p, before[name]) for name, p in agent.meta_params.items())


def test_step_sizes_of_the_evaluation() -> None:
    env = Stairs(3 * LANES, rude=False)
    assert make_maml(env).agent("stochastic", KEY).step_sizes == [0.5, 0.2]
    maml = make_maml(env, evaluation_inner_lr=(0.3, 0.1))
    assert maml.agent("stochastic", KEY).step_sizes == [0.3, 0.1]

    def moved(maml: MAML) -> Params:
        agent = maml.agent("stochastic", KEY)
        agent.begin(3, LANES)
        play(agent, env, KEY)
        agent.adapt()
        return {name: p - maml.params[name] for name, p in agent.params.items()}

    large, small = moved(make_maml(env)), moved(maml)
    for name in large:
        torch.testing.assert_close(0.6 * large[name], small[name], atol=1e-6, rtol=1e-3)


@pytest.mark.parametrize("kind", [MAML, MAESN])
@pytest.mark.parametrize("noise", ["step", "episode"])
def test_noise_is_drawn_anew_as_often_as_asked(kind: type[MAML], noise: str) -> None:
    """A latent's once an episode, the actions' at every step or once as well; other at the next."""
    env = Stairs(3 * LANES, rude=False)
    agent = make_maml(env, kind, action_noise=noise).agent("stochastic", KEY)
    agent.begin(3, LANES)
    found = []
    for _ in range(2):
        rows = []
        for _ in range(4):
            observation, active = np.ones((3, LANES, 2)), np.ones((3, LANES), dtype=bool)
            agent.act(observation, active)
            agent.observe(*(np.zeros((3, LANES)) for _ in range(4)), observation)
            rows.append(agent._steps[-1])
        found.append(rows)
        agent.adapt()
    for rows, following in zip(found, [*found[1:], found[0]], strict=True):
        drawn = [row["observations"][..., 2:] for row in rows]
        assert drawn[0].shape[-1] == (2 if kind is MAESN else 0)
        for later in drawn[1:]:
            assert torch.equal(later, drawn[0])
        assert kind is MAML or not (drawn[0] == following[0]["observations"][..., 2:]).any()
        for later in rows[1:]:
            assert bool((later["actions"] == rows[0]["actions"]).all()) == (noise == "episode")


def test_without_noise_the_latent_is_its_mean() -> None:
    env = Arms(3 * LANES, horizon=2)
    agent = make_maml(env, MAESN).agent("deterministic", KEY)
    agent.begin(3, LANES)
    agent.act(np.ones((3, LANES, 1)), np.ones((3, LANES), dtype=bool))
    assert not agent._steps[-1]["observations"][..., 1:].any()


def test_deterministic_actions_are_the_mode() -> None:
    env = Arms(3 * LANES, horizon=2)
    agent = make_maml(env).agent("deterministic", KEY)
    agent.begin(3, LANES)
    observation = np.ones((3, LANES, 1))
    active = np.ones((3, LANES), dtype=bool)
    actions = agent.act(observation, active)
    logits = agent.adaptation.policy(agent.params, torch.ones(3, LANES, 1)).mode()
    assert np.array_equal(actions, logits.numpy())
    assert len(np.unique(actions)) == 1
    assert actions.dtype.kind == "i"


def test_an_environment_that_clips_in_place_changes_nothing() -> None:
    adapted = []
    for rude in (False, True):
        env = Stairs(3 * LANES, rude=rude)
        agent = make_maml(env).agent("stochastic", KEY)
        agent.begin(3, LANES)
        play(agent, env, KEY)
        agent.adapt()
        adapted.append(agent.params)
    for name, p in adapted[0].items():
        assert torch.equal(p, adapted[1][name]), name


# --- misuse -----------------------------------------------------------------------------------


@pytest.fixture
def agent() -> GradientAgent:
    agent = make_maml(Arms(2, horizon=1)).agent("stochastic", KEY)
    agent.begin(1, 2)
    return agent


OBSERVATION = np.ones((1, 2, 1))
ACTIVE = np.ones((1, 2), dtype=bool)


def step(agent: GradientAgent, ends: bool = True) -> None:
    action = agent.act(OBSERVATION, ACTIVE)
    flags = np.full((1, 2), ends)
    agent.observe(action, np.zeros((1, 2)), np.zeros((1, 2), dtype=bool), flags, OBSERVATION)


def test_act_before_begin() -> None:
    agent = make_maml(Arms(2)).agent("stochastic", KEY)
    with pytest.raises(ValueError, match="begin"):
        agent.act(OBSERVATION, ACTIVE)


@pytest.mark.parametrize(
    ("observation", "active"),
    [(np.ones((2, 2, 1)), ACTIVE), (OBSERVATION, np.ones((1, 3), dtype=bool))],
)
def test_other_sizes_than_begin_was_given(
    agent: GradientAgent, observation: np.ndarray, active: np.ndarray
) -> None:
    with pytest.raises(ValueError, match=r"\[1, 2\]"):
        agent.act(observation, active)


def test_a_second_episode_without_adapt(agent: GradientAgent) -> None:
    step(agent)
    with pytest.raises(ValueError, match="adapt"):
        agent.act(OBSERVATION, ACTIVE)
    agent.adapt()
    step(agent)


def test_observe_without_act(agent: GradientAgent) -> None:
    with pytest.raises(ValueError, match="act"):
        agent.observe(*[np.zeros((1, 2))] * 4, OBSERVATION)  # type: ignore[misc]
    step(agent, ends=False)
    with pytest.raises(ValueError, match="act"):
        agent.observe(*[np.zeros((1, 2))] * 4, OBSERVATION)  # type: ignore[misc]


def test_adapt_without_a_round(agent: GradientAgent) -> None:
    with pytest.raises(ValueError, match="round"):
        agent.adapt()
    agent.act(OBSERVATION, ACTIVE)
    with pytest.raises(ValueError, match="observe"):
        agent.adapt()


def test_adapt_on_deterministic_actions(agent: GradientAgent) -> None:
    agent.mode = "deterministic"
    step(agent)
    with pytest.raises(ValueError, match="mode"):
        agent.adapt()


def test_a_change_of_mode_starts_the_round_anew(agent: GradientAgent) -> None:
    first = agent.act(OBSERVATION, ACTIVE)
    agent.mode = "deterministic"
    step(agent)
    agent.mode = "stochastic"
    assert np.array_equal(agent.act(OBSERVATION, ACTIVE), first)


# --- saving -----------------------------------------------------------------------------------


def test_what_it_has_become_can_be_saved(tmp_path: Any) -> None:
    env = Stairs(3 * LANES, rude=False)
    maml = make_maml(env)
    agent = maml.agent("stochastic", KEY)
    agent.begin(3, LANES)
    play(agent, env, KEY)
    agent.adapt()
    torch.save(agent.state_dict(), tmp_path / "agent.pt")
    expected = play(agent, env, KEY.at(1))
    agent.adapt()

    other = maml.agent("stochastic", KEY)
    other.load_state_dict(torch.load(tmp_path / "agent.pt", weights_only=True))
    assert other.adaptation_step == 1
    assert np.array_equal(play(other, env, KEY.at(1)), expected)
    other.adapt()
    assert all(torch.equal(p, agent.params[name]) for name, p in other.params.items())


def test_lanes_may_play_one_after_another(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is adapted to begins with each lane's first step, whenever it was taken."""
    agent: Any = make_maml(Stairs(1)).agent("stochastic", KEY)
    agent.begin(1, 3)
    wanted: list[list[tuple[float, list[float]]]] = []
    for lane, length in enumerate((2, 4, 1)):
        turn = (np.arange(3) == lane)[None]
        wanted.append([])
        for step in range(length):
            action = agent.act(np.full((1, 3, 2), 10.0 * lane + step), turn)
            over = turn & (step == length - 1)
            reward = np.full((1, 3), lane - step / 4)
            agent.observe(action, reward, over, np.zeros((1, 3), bool), np.zeros((1, 3, 2)))
            wanted[-1].append((lane - step / 4, action[0, lane].tolist()))
    seen: list[Any] = []
    samples = agent.advantages.samples
    monkeypatch.setattr(
        type(agent.advantages), "samples", lambda _, played: seen.append(played) or samples(played)
    )
    agent.adapt()
    valid = seen[0].valid[0]
    assert valid.tolist() == [
        [True, True, False, False],
        [True, True, True, True],
        [True, False, False, False],
    ]
    assert seen[0].terminated[0].sum(-1).tolist() == [1, 1, 1]
    for lane, steps in enumerate(wanted):
        played = zip(seen[0].rewards[0, lane], seen[0].actions[0, lane], strict=True)
        given = [(float(reward), action.tolist()) for reward, action in played]
        assert given[: len(steps)] == steps
