"""PPO on each evaluated task with an algorithm's own experience: from scratch, or fine-tuned."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from gymnasium import spaces
from stable_baselines3.common.buffers import RolloutBuffer
from stable_baselines3.common.logger import Logger
from stable_baselines3.common.running_mean_std import RunningMeanStd

from metarl.agents.rounds import PlaysRounds
from metarl.evaluation.measurements import POOLED
from metarl.random import Key
from metarl.references.policy import ReferencePolicy
from metarl.references.ppo import make_ppo, policy_state, restore_statistics, with_choices
from metarl.references.settings import PerTaskSettings
from metarl.types import AdaptationAxis


class PerTaskAgent(PlaysRounds):
    """A :class:`metarl.types.Agent` whose :meth:`adapt` is stable-baselines3's PPO update.

    It holds no environment: a round's own episodes are put into PPO's rollout buffer, so it learns
    from what an algorithm would have, to the sample, and from nothing else. Where the agents are
    tasks, each learns from the B episodes of its task; where they are lanes, each from its own.

    Rewards are divided by the running standard deviation of the discounted return, as VecNormalize
    does. Observations are normalised by the multitask policy's statistics where it is fine-tuned,
    and not at all from scratch: statistics that change after an update would change the policy.

    Args:
        settings: PPO's.
        observation_space: Of one lane.
        action_space: Of one lane.
        axis: "gradient_step", "env_steps": one agent a task; "episode": one agent a lane.
        key: Names all streams.
        start: A stored multitask policy to fine-tune; None: random weights, other ones a task.
    """

    privileged = False
    step_sizes: list[float] = []  # noqa: RUF012

    def __init__(
        self,
        settings: PerTaskSettings,
        observation_space: spaces.Box,
        action_space: spaces.Space[Any],
        axis: AdaptationAxis,
        key: Key,
        start: Mapping[str, Any] | None = None,
    ) -> None:
        self.adaptation_axis = axis
        super().__init__("stochastic", key)
        self._agents: list[_Agent] = []
        self._settings, self._start = settings, start
        size = math.prod(observation_space.shape)  # images are rows of pixels
        observed = spaces.Box(-np.inf, np.inf, (size,), np.float32)
        self._spaces = (observed, with_choices(action_space))

    def begin(self, num_tasks: int, lanes: int, tasks: np.ndarray | None = None) -> None:
        """Start every agent anew, for M tasks × B lanes."""
        self._shape = (num_tasks, lanes)
        pooled = self.adaptation_axis in POOLED
        self._grouped = (num_tasks, lanes) if pooled else (num_tasks * lanes, 1)
        self._round = 0
        self._agents = []
        for agent in range(self._grouped[0]):
            with global_generators(self._key.generator("init", agent)):
                self._agents.append(_Agent(*self._spaces, self._settings, self._start))
        self._begin_round()

    def act(self, observation: np.ndarray, active: np.ndarray) -> np.ndarray:
        """Actions [M, B, a], or int [M, B], for observations [M, B, o]."""
        num_tasks, lanes = self._shape
        blocks = [self._policy.draw_noise(rng, lanes) for rng in self._streams]
        noise = torch.from_numpy(np.stack(blocks)).view(*self._grouped, -1)
        # [M, B, o] -> [agents, own lanes, o]
        grouped = observation.reshape(*self._grouped, -1).astype(np.float32)
        action = self._policy.act(grouped, None if self._mode == "deterministic" else noise).numpy()
        self._steps.append({"observations": grouped, "actions": action, "valid": active.copy()})
        played = action.reshape(num_tasks, lanes, *action.shape[2:])
        return played if self._policy.discrete else np.clip(played, -1.0, 1.0)

    def observe(
        self,
        action: np.ndarray,
        reward: np.ndarray,
        terminated: np.ndarray,
        truncated: np.ndarray,
        next_observation: np.ndarray,
    ) -> None:
        """Record what the last action brought, all [M, B]."""
        self._steps[-1]["rewards"] = np.array(reward, dtype=np.float32)

    def adapt(self) -> None:
        """PPO's update of every agent on the episodes that it just played."""
        # [agents, own lanes, ...] a step → [agents, own lanes, T, ...]
        fields = {
            name: np.stack([s[name].reshape(*self._grouped, *s[name].shape[2:]) for s in steps], 2)
            for steps in [self._steps]
            for name in steps[0]
        }
        key = self._key.at(self._round)
        for index, agent in enumerate(self._agents):
            own = {name: field[index] for name, field in fields.items()}
            with global_generators(key.generator("minibatch", index)):
                agent.learn(own)
        self._round += 1
        self._begin_round()

    def _begin_round(self) -> None:
        self._steps: list[dict[str, np.ndarray]] = []
        self._policy = ReferencePolicy.stack([agent.policy() for agent in self._agents])
        key = self._key.at(self._round)
        self._streams = [key.generator("action", m) for m in range(self._shape[0])]


class _Agent:
    """One PPO that is given its rollouts."""

    def __init__(
        self,
        observation_space: spaces.Box,
        action_space: spaces.Space[Any],
        settings: PerTaskSettings,
        start: Mapping[str, Any] | None,
    ) -> None:
        if start is not None:
            known = ("hidden_sizes", "activation")
            settings = replace(settings, **{name: start["architecture"][name] for name in known})
        self._settings = settings
        self._ppo = make_ppo(
            settings,
            None,  # it never steps one, so its spaces are set as stable-baselines3's load() does
            learning_rate=settings.learning_rate,
            n_steps=settings.batch_size,  # of its own rollouts, which it never makes
            batch_size=settings.batch_size,
            _init_setup_model=False,
        )
        self._ppo.observation_space, self._ppo.action_space = observation_space, action_space
        self._ppo.n_envs = 1
        self._ppo._setup_model()
        self._ppo.set_logger(Logger(None, []))
        (observed,) = observation_space.shape
        self._returns = RunningMeanStd(shape=())
        self._normaliser: dict[str, Any] = {
            "obs_mean": torch.zeros(observed, dtype=torch.float64),
            "obs_var": torch.ones(observed, dtype=torch.float64),
            "clip_obs": float("inf"),
            "clip_reward": 10.0,
            "epsilon": 1e-8,
        }
        if start is not None:
            self._normaliser = start["normaliser"]
            self._ppo.policy.load_state_dict(start["policy"])
            restore_statistics(self._returns, "return", self._normaliser)

    def policy(self) -> ReferencePolicy:
        """What it plays now."""
        return ReferencePolicy.from_state(policy_state(self._ppo, self._normaliser, self._settings))

    def learn(self, episodes: Mapping[str, np.ndarray]) -> None:
        """One update on B episodes, [B, T, ...] a field."""
        valid = episodes["valid"]
        samples = int(valid.sum())
        ppo = self._ppo
        buffer = RolloutBuffer(
            samples,
            ppo.observation_space,
            ppo.action_space,
            "cpu",
            gae_lambda=ppo.gae_lambda,
            gamma=ppo.gamma,
        )
        # Lane after lane, [B, T, ...] → [samples, ...]; every lane is one whole episode.
        starts = np.zeros(valid.shape, dtype=np.float32)
        starts[:, 0] = 1.0
        observations = self.policy().normalise(episodes["observations"][valid])
        actions = episodes["actions"][valid]
        with torch.no_grad():
            values, log_probs, _ = ppo.policy.evaluate_actions(
                torch.from_numpy(observations), torch.from_numpy(actions)
            )
        buffer.observations[:, 0] = observations
        buffer.actions[:, 0] = actions.reshape(samples, -1)
        buffer.rewards[:, 0] = self._scaled_rewards(episodes["rewards"], valid)[valid]
        buffer.episode_starts[:, 0] = starts[valid]
        buffer.values[:, 0] = values.flatten().numpy()
        buffer.log_probs[:, 0] = log_probs.numpy()
        buffer.pos, buffer.full = samples, True
        # The last episode is over as all are: no bootstrap past the horizon.
        buffer.compute_returns_and_advantage(torch.zeros(1), np.ones(1, dtype=bool))
        ppo.rollout_buffer = buffer
        ppo.train()

    def _scaled_rewards(self, rewards: np.ndarray, valid: np.ndarray) -> np.ndarray:
        """Rewards [B, T] over the running deviation of the discounted return, clipped."""
        discounted = np.zeros(rewards.shape)
        running = np.zeros(len(rewards))
        for t in range(rewards.shape[1]):
            running = running * self._ppo.gamma + rewards[:, t]
            discounted[:, t] = running
        self._returns.update(discounted[valid])
        scale = np.sqrt(self._returns.var + self._normaliser["epsilon"])
        bound = self._normaliser["clip_reward"]
        return np.clip(rewards / scale, -bound, bound)


@contextlib.contextmanager
def global_generators(rng: np.random.Generator) -> Iterator[None]:
    """Seeds the global generators, which stable-baselines3 draws from, and puts them back."""
    before = np.random.get_state()  # noqa: NPY002
    with torch.random.fork_rng(devices=[]):
        np.random.seed(int(rng.integers(2**32)))  # noqa: NPY002
        torch.manual_seed(int(rng.integers(2**32)))
        try:
            yield
        finally:
            np.random.set_state(before)  # noqa: NPY002
