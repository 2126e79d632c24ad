"""The agent that adapts by remembering, in the evaluator's hands and in a user's."""

from __future__ import annotations

import io
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from metarl import envs
from metarl.agents.memory_agent import MemoryAgent
from metarl.algorithms.rl2 import RL2
from metarl.algorithms.settings.rl2 import RL2Settings
from metarl.envs.process_vector import ProcessVectorEnv
from metarl.evaluation.plan import EvaluationPlan
from metarl.evaluation.protocol import evaluate
from metarl.experience.inputs import as_given, as_shown, shown_in
from metarl.experience.rollout import RolloutWorker
from metarl.random import Key
from metarl.types import Agent, Inputs, Trial
from tests.envs.local_pool import LocalPool
from tests.experience.test_rollout import Stairs
from tests.image_grid import ImageGrid
from tests.spaces_envs import Spaced
from tests.toy_envs import Arms, Line

TASKS, LANES, EPISODES = 3, 4, 3
KEY = Key(5, 0, evaluation=True)
STAIRS = np.array([[2.0], [4.0], [9.0]])
CORES = ["lstm", {"name": "transformer", "context": 6}]  # shorter than a trial, longer than a round


def trained(make: Any, iterations: int = 2, **changes: Any) -> tuple[RL2, RolloutWorker]:
    worker = RolloutWorker(make)
    env = worker.env(1)
    options = {"tasks": 4, "lanes": 2, "width": 8, "minibatches": 2, "initial_std": 0.5}
    config = RL2Settings(**(options | changes))
    rl2 = RL2(config, env.single_observation_space, env.single_action_space, seed=1)
    for iteration in range(1, iterations + 1):
        rl2.update(rl2.collect(worker, Key(1, iteration)))
    return rl2, worker


class Recorder(MemoryAgent):
    """Keeps its actions and what it was shown, a list a round."""

    def begin(self, *args: Any, **options: Any) -> None:
        super().begin(*args, **options)
        self.rounds: list[list[tuple[Inputs, np.ndarray, np.ndarray]]] = [[]]

    def act(self, observation: np.ndarray, active: np.ndarray) -> np.ndarray:
        assert self._shape is not None
        obs = as_shown(as_given(observation, self._shape), self.actor.moments)
        inputs = Inputs(obs, *self._last, episode_start=self._start)
        action = super().act(observation, active)
        self.rounds[-1].append((inputs, action.copy(), active))
        return action

    def adapt(self) -> None:
        super().adapt()
        self.rounds.append([])


def evaluated(rl2: RL2, worker: RolloutWorker, mode: Any, tasks: np.ndarray, **options: Any) -> Any:
    agent = Recorder(rl2._actor(rl2.input_moments), mode, KEY)
    plan = EvaluationPlan("held_out", LANES, EPISODES - 1, seed=KEY.seed)
    return agent, evaluate(agent, worker.env(len(tasks) * LANES), tasks, replace(plan, **options))


def played(agent: Recorder, m: int, b: int) -> tuple[list[Inputs], list[np.ndarray]]:
    """Of one lane, the steps on which it was active."""
    steps = [(i, a) for r in agent.rounds for i, a, active in r if active[m, b]]
    return [Inputs(*(x[m, b] for x in i)) for i, _ in steps], [a[m, b] for _, a in steps]


def several_choices(num_lanes: int) -> ProcessVectorEnv:
    params = {"observations": "tuple", "actions": "multi_discrete"}
    return ProcessVectorEnv(Spaced, num_lanes, params, pool=LocalPool(), num_workers=1)


@pytest.mark.parametrize(
    ("make", "tasks", "core"),
    [
        (Stairs, STAIRS, "lstm"),  # episodes of uneven lengths
        (Stairs, STAIRS, CORES[1]),
        (lambda n: Line(n, horizon=4), np.array([[0.5], [-0.5], [0.1]]), "lstm"),
        (lambda n: Arms(n, horizon=2), np.array([[0.0], [3.0], [4.0]]), "lstm"),
        (ImageGrid, np.array([[0.0], [2.0], [10.0]]), "lstm"),
        (several_choices, np.array([[0.0], [1.0], [2.0]]), "lstm"),
    ],
    ids=["stairs", "transformer", "line", "arms", "images", "several_choices"],
)
def test_it_acts_on_what_it_was_trained_on_and_as_it_was_trained_to(
    make: Any, tasks: Any, core: Any
) -> None:
    """Driven by the evaluator, it plays the very trial that the rollout worker would collect."""
    rl2, worker = trained(make, core=core)
    atol = 0.0 if core == "lstm" else 1e-5  # a mask, where lanes wait, rounds otherwise
    agent, evaluation = evaluated(rl2, worker, "stochastic", tasks)
    trial: Trial = worker.collect(rl2._actor(rl2.input_moments), tasks, LANES, KEY, EPISODES)
    np.testing.assert_allclose(
        evaluation.returns, trial.episode_returns().permute(2, 0, 1).numpy(), rtol=1e-5
    )
    for m in range(TASKS):
        for b in range(LANES):
            valid = trial.valid[m, b]
            inputs, actions = played(agent, m, b)
            acted = torch.from_numpy(np.array(actions))
            torch.testing.assert_close(acted, trial.actions[m, b][valid], rtol=0, atol=atol)
            for name in Inputs._fields:
                seen = torch.stack([getattr(i, name) for i in inputs])
                shown = getattr(shown_in(trial), name)[m, b][valid]
                torch.testing.assert_close(seen, shown, rtol=0, atol=atol)


def test_deterministic_actions_are_the_mode_and_need_no_noise() -> None:
    rl2, worker = trained(Stairs)
    runs = [evaluated(rl2, worker, "deterministic", STAIRS)[1] for _ in range(2)]
    assert np.array_equal(runs[0].returns, runs[1].returns)
    agent = rl2.agent("deterministic", KEY)
    agent.begin(1, 2)
    observation, active = np.zeros((1, 2, 2)), np.ones((1, 2), dtype=bool)
    shown = as_shown(torch.from_numpy(observation), agent.actor.moments)
    starts = torch.ones(1, 2, dtype=torch.bool)
    inputs = Inputs(shown, torch.zeros(1, 2, 2), torch.zeros(1, 2), starts)
    distribution = agent.actor.step(inputs, None).distribution
    assert np.array_equal(agent.act(observation, active), distribution.mode().numpy())


@pytest.mark.parametrize("core", CORES)
def test_more_episodes_than_it_was_trained_on(core: Any) -> None:
    rl2, worker = trained(Stairs, episodes=2, core=core)
    evaluation = evaluated(rl2, worker, "deterministic", STAIRS, adaptation_steps=4)[1]
    assert evaluation.measurement_keys == [f"episode_{k}" for k in range(1, 6)]
    assert evaluation.episodes_used == [0, 1, 2, 3, 4]
    lengths = (np.sqrt(8 * evaluation.returns + 1) - 1) / 2  # of episodes that pay 1 + 2 + … + n
    used = np.concatenate([[0.0], lengths.mean((1, 2)).cumsum()[:-1]])
    np.testing.assert_allclose(evaluation.env_steps_used, used)


def test_forgetting_makes_every_episode_a_first_one() -> None:
    rl2, worker = trained(Stairs)
    agent, evaluation = evaluated(rl2, worker, "deterministic", STAIRS, forget=True)
    assert evaluation.forgets
    assert not evaluated(rl2, worker, "deterministic", STAIRS)[1].forgets
    assert len(agent.rounds) == 1  # begin() forgets the earlier ones
    first = agent.rounds[0][0][0]
    assert not first.previous_actions.any()
    assert not first.previous_rewards.any()
    assert agent.episode == 0


def drive(agent: Agent, env: Any, seed: int = 0) -> list[np.ndarray]:
    """One round on all lanes; the actions."""
    shape = agent._shape  # type: ignore[attr-defined]
    observation, _ = env.reset(seed=seed)
    actions = []
    while not env.finished.all():
        active = ~env.finished.reshape(shape)
        action = agent.act(observation.reshape(*shape, -1), active)
        observation, *outcome = env.step(action.reshape(env.num_envs, -1))[:4]
        agent.observe(action, *(x.reshape(shape) for x in outcome), observation)
        actions.append(action)
    return actions


@pytest.mark.parametrize("core", CORES)
def test_what_it_has_become_can_be_saved(core: Any) -> None:
    rl2, worker = trained(lambda n: Line(n, horizon=4), core=core)
    env = worker.env(4)
    agent = rl2.agent("stochastic", KEY)
    agent.begin(2, 2)
    drive(agent, env)
    agent.adapt()
    file = io.BytesIO()
    torch.save(agent.state_dict(), file)
    expected = drive(agent, env)
    file.seek(0)
    again = rl2.agent("stochastic", KEY)
    again.load_state_dict(torch.load(file, weights_only=True))
    assert np.array_equal(np.array(drive(again, env)), np.array(expected))
    new = rl2.agent("stochastic", KEY)
    new.begin(2, 2)
    assert not np.array_equal(np.array(drive(new, env)), np.array(expected))


@pytest.mark.parametrize("core", CORES)
def test_a_change_of_mode_starts_the_round_anew(core: Any) -> None:
    """In the second round a step overwrites what a Transformer's window still held at its start."""
    rl2, worker = trained(lambda n: Line(n, horizon=4), core=core)
    env = worker.env(4)
    agent = rl2.agent("deterministic", KEY)
    agent.begin(2, 2)
    drive(agent, env)
    agent.adapt()
    expected = drive(agent, env)
    agent.mode = "stochastic"
    other = drive(agent, env)
    agent.mode = "deterministic"
    assert np.array_equal(np.array(drive(agent, env)), np.array(expected))
    assert not np.array_equal(np.array(other), np.array(expected))


def test_it_is_an_agent() -> None:
    agent = trained(Stairs, 0)[0].agent("deterministic", KEY)
    assert isinstance(agent, Agent)
    assert agent.adaptation_axis == "episode"
    assert agent.step_sizes == []


def test_misuse_is_named() -> None:
    agent = trained(lambda n: envs.make("point_navigation", n, horizon=3), 0)[0].agent(
        "stochastic", KEY
    )
    observation, active = np.zeros((2, 2, 2)), np.ones((2, 2), dtype=bool)
    with pytest.raises(ValueError, match="begin"):
        agent.act(observation, active)
    with pytest.raises(ValueError, match="begin"):
        agent.adapt()
    agent.begin(2, 2)
    with pytest.raises(ValueError, match=r"expected observations and active lanes of \[2, 2\]"):
        agent.act(observation[:1], active)
    none = np.zeros((2, 2), dtype=bool)
    with pytest.raises(ValueError, match="must follow act"):
        agent.observe(np.zeros((2, 2, 2)), np.zeros((2, 2)), none, none, observation)
    action = agent.act(observation, active)
    agent.observe(action, np.zeros((2, 2)), ~none, none, observation)
    with pytest.raises(ValueError, match="call adapt"):
        agent.act(observation, active)
    agent.adapt()
    agent.act(observation, active)
