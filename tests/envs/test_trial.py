"""A whole trial as one Gymnasium episode: what it shows, where it ends, and whom it teaches."""

from __future__ import annotations

import warnings
from typing import Any

import gymnasium
import numpy as np
import pytest
import torch
from gymnasium import spaces
from gymnasium.error import ResetNeeded
from gymnasium.utils.env_checker import check_env

import metarl
from metarl.envs import TaskEnv, make
from metarl.envs.trial import TrialEnv
from metarl.errors import UserError
from metarl.experience.inputs import shown_in
from metarl.experience.rollout import RolloutWorker
from metarl.random import Key
from metarl.types import Decision, Inputs
from tests.envs.user_envs import Chooser, NoTasks, Reach
from tests.experience.test_rollout import Scripted

STAIRS, ARMS = "tests.experience.test_rollout:Stairs", "tests.toy_envs:Arms"


class AsInRollouts(gymnasium.Wrapper):
    """Resets with the seeds that the first lane of a rollout has, one an episode."""

    def reset(self, **kwargs: Any) -> Any:
        self.episode = getattr(self, "episode", -1) + 1
        return self.env.reset(seed=int(Key(1).at(self.episode).reset_seeds(1, 1)[0]))


class DictObservation(Chooser):
    observation_space = spaces.Dict({"x": spaces.Box(0, 1)})  # type: ignore[assignment]


class Picks(Scripted):
    """Draws one of five arms."""

    def draw_noise(self, rng: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
        return rng.uniform(0.0, 5.0, shape).astype(np.float32)

    def act(self, inputs: Inputs, noise: torch.Tensor, carry: None) -> Decision:
        return Decision(noise.long(), noise, None, None)


@pytest.mark.parametrize(
    ("name", "actor", "task"), [(STAIRS, Scripted(), [4.0]), (ARMS, Picks(), [3.0])]
)
def test_it_shows_what_agents_are_shown_here(name: str, actor: Scripted, task: Any) -> None:
    """The same trial by the rollout, whose actors are shown `shown_in`, and by hand."""
    worker = RolloutWorker(lambda lanes: make(name, lanes))
    trial = worker.collect(actor, np.array([task]), 1, Key(1), episodes=3)
    inputs = shown_in(trial)
    if trial.actions.is_floating_point():
        actions = inputs.previous_actions[0, 0]
    else:
        actions = torch.nn.functional.one_hot(inputs.previous_actions[0, 0] + 1, 6)[:, 1:]
    wanted = np.concatenate(
        [
            inputs.observations[0, 0],
            actions,
            inputs.previous_rewards[0, 0, :, None],
            inputs.episode_start[0, 0, :, None],
        ],
        axis=1,
    )
    env = TrialEnv(AsInRollouts(TaskEnv(name)), episodes=3)
    row, info = env.reset(options={"task": task})
    assert info["task"].tolist() == task
    steps = int(trial.valid.sum())
    assert trial.episode_start.sum() == 3 <= steps
    for step in range(steps):
        np.testing.assert_array_equal(row.astype(np.float32), wanted[step])
        row, reward, terminated, truncated, info = env.step(trial.actions[0, 0, step].numpy())
        assert reward == trial.rewards[0, 0, step]
        assert (terminated, truncated) == (step == steps - 1, False)
    np.testing.assert_array_equal(info["episode_returns"], trial.episode_returns()[0, 0])
    with pytest.raises(ResetNeeded, match="The trial is over"):
        env.step(trial.actions[0, 0, 0].numpy())


def test_gymnasiums_checker_has_nothing_to_say() -> None:
    env = metarl.as_gymnasium_trial(gymnasium.make("metarl/PointNavigation-v0"), episodes=2)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for harmless in (".*A Box observation space (min|max)imum value", ".*is different from t"):
            warnings.filterwarnings("ignore", message=harmless)
        check_env(env)


def test_every_reset_draws_a_training_task_unless_it_names_one() -> None:
    env = TrialEnv(TaskEnv("point_navigation"), episodes=2)
    tasks = [env.reset(seed=seed)[1]["task"].tolist() for seed in (4, None, 4, None)]
    assert tasks[:2] == tasks[2:]
    assert tasks[0] != tasks[1]
    # The same seed seeds the environment's own numbers: its start must not tell the goal.
    env = TrialEnv(TaskEnv("point_navigation", start="random"), episodes=2)
    own = np.random.default_rng(4).uniform(-0.5, 0.5, size=(1, 2))
    assert env.reset(seed=4)[1]["task"].tolist() == tasks[0] != own[0].tolist()
    assert env.reset(options={"task": [0.25, -0.5]})[1]["task"].tolist() == [0.25, -0.5]
    with pytest.raises(ValueError, match=r"it must be \[n, 2\]"):
        env.reset(options={"task": [0.25]})
    with pytest.raises(ValueError, match="option 'goal': only 'task' is known"):
        env.reset(options={"goal": [0.25, 0.5]})


def test_an_environment_of_ones_own_plays_in_it_as_it_is() -> None:
    """Its own box, in which the middle is shown as 0; observations of rank 2; its own horizon."""
    env = TrialEnv(Reach(noise=0.0), episodes=2)
    assert isinstance(env.observation_space, spaces.Box)
    assert env.observation_space.shape == (4 + 2 + 2,)
    env.reset(seed=0, options={"task": [0.4, 0.4]})
    row = env.step(np.array([3.0, -3.0], np.float32))[0]
    assert row[4:6].tolist() == [0.5, -1.0]
    ends = [env.step(np.array([2.0, 0.0], np.float32)) for _ in range(23)]
    assert [end[2] for end in ends] == [False] * 22 + [True]  # 12 steps an episode
    assert [end[0][-1] for end in ends].index(1.0) == 10
    still = Reach(noise=0.0)  # the second number has one value, which is shown as 0
    still.action_space = spaces.Box(np.array([0.0, 2.0]), np.array([4.0, 2.0]), dtype=np.float64)
    env = TrialEnv(still, episodes=1)
    env.reset(seed=0, options={"task": [0.4, 0.4]})
    assert env.step(np.array([1.0, 2.0]))[0][4:6].tolist() == [-0.5, 0.0]
    chooser = TrialEnv(Chooser(), episodes=1)  # whose actions begin at 5
    chooser.reset(options={"task": [6.0]})
    assert chooser.step(6)[0].tolist() == [6.0, 0.0, 1.0, 0.0, 1.0, 0.0]


@pytest.mark.parametrize(
    ("env", "said"),
    [
        ("point_navigation", "made of 'point_navigation': it must be a single gymnasium.Env, such"),
        (make("point_navigation", 2), "made of the PointNavigation: it must be a single gymn"),
        (gymnasium.make("CartPole-v1"), r"CartPoleEnv needs a method set_task\(task\) and an attr"),
        (NoTasks(), "NoTasks needs a method"),
    ],
)
def test_what_no_trial_is_made_of(env: Any, said: str) -> None:
    with pytest.raises(UserError, match=said):
        metarl.as_gymnasium_trial(env, episodes=2)


def test_the_number_of_episodes_is_checked() -> None:
    with pytest.raises(UserError, match="episodes is 0: it must be an integer of at least 1"):
        metarl.as_gymnasium_trial(TaskEnv("point_navigation"), episodes=0)
    assert TrialEnv(DictObservation(), episodes=1).observation_space.shape == (1 + 3 + 2,)


def _recurrent_ppo(steps: int, **settings: Any) -> Any:
    """sb3-contrib's agent after so many pulls on bandits of five arms, ten pulls a trial."""
    contrib = pytest.importorskip("sb3_contrib", reason="sb3-contrib is a dependency of dev")
    env_util = pytest.importorskip("stable_baselines3.common.env_util")
    envs = env_util.make_vec_env(_bandit, n_envs=8, seed=0)
    agent = contrib.RecurrentPPO("MlpLstmPolicy", envs, seed=0, device="cpu", **settings)
    return agent.learn(steps)


def _bandit() -> TrialEnv:
    return TrialEnv(TaskEnv("bandit", arms=5, pulls=10), episodes=1)


def _returns(agent: Any, trials: int) -> np.ndarray:
    """Of fresh trials of ten pulls on the agent's eight environments, [trials]."""
    rows, state, returns = agent.env.reset(), None, []
    start = np.ones(8, dtype=bool)
    while len(returns) < trials:
        actions, state = agent.predict(rows, state, start, deterministic=True)
        rows, _, start, infos = agent.env.step(actions)
        returns += [info["episode_returns"].sum() for info in infos if "episode_returns" in info]
    return np.array(returns)


def test_sb3_contribs_recurrent_ppo_runs_on_it() -> None:
    settings = {"n_steps": 20, "batch_size": 80, "n_epochs": 1}
    agent = _recurrent_ppo(2 * 8 * 20, policy_kwargs={"lstm_hidden_size": 8}, **settings)
    assert agent.num_timesteps == 2 * 8 * 20
    returns = _returns(agent, trials=16)
    assert len(returns) == 16
    assert set(returns.tolist()) <= set(range(11))


@pytest.mark.slow  # minutes
def test_sb3_contribs_recurrent_ppo_learns_to_adapt() -> None:
    """Without a memory every arm is worth 1/2, hence 5 in all; the best agent earns 6.66.

    Measured: 5.71, standard error 0.08.
    """
    settings = {"n_steps": 250, "batch_size": 500, "n_epochs": 5, "ent_coef": 0.01}
    returns = _returns(_recurrent_ppo(100_000, learning_rate=1e-3, **settings), trials=1000)
    error = returns.std() / np.sqrt(len(returns))
    assert returns.mean() - 4 * error > 5.0
