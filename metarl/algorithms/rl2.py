"""RL²: the learning algorithm lives in the memory of a recurrent policy (Duan et al. 2016; Wang et
al. 2016).

One trial is E episodes with one task. The memory runs through all of it, is shown the actions taken
and the rewards they brought, and is emptied before the next trial. What PPO maximises is the return
of the whole trial, across the ends of its episodes,

    max_θ  E_task [ Σ_{s < S} γ^s r_s ],   a_s ~ π_θ(· | o_s, a_{s−1}, r_{s−1}, start_s, h_{s−1}),

so that exploring in the first episode is paid by the later ones.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, fields, replace
from typing import Any, ClassVar

import numpy as np
import torch
from gymnasium import spaces
from torch import Tensor

from metarl.agents.memory_agent import MemoryActor, MemoryAgent
from metarl.algorithms.settings.rl2 import RL2Settings
from metarl.envs.spaces import is_image
from metarl.experience.advantages import absorbing_advantages
from metarl.experience.inputs import shown_in, time_first
from metarl.experience.metrics import by_episode
from metarl.experience.scale import first_look, warn_of_scale
from metarl.maths.adam import AdamState
from metarl.maths.params import Params, check_state, flatten, to_device, unflatten
from metarl.maths.ppo import PPO, Evaluated, PPOData
from metarl.maths.returns import discounted_sum, generalized_advantages, normalize, rounding
from metarl.maths.running_moments import RunningMoments
from metarl.networks.images import ImageEncoder
from metarl.networks.memory_cores import core_maker
from metarl.networks.recurrent import RecurrentActor, RecurrentPolicy, normalized
from metarl.networks.spaces import space_sizes
from metarl.random import Key
from metarl.types import ActionMode, EpisodeSource, Inputs, Trial


@dataclass(frozen=True)
class RL2Batch:
    """The data of one meta-iteration.

    Attributes:
        key: The meta-iteration's.
        tasks: ``[M, d]``.
        trial: ``[M, L, S]``, on the CPU.
        metrics: Mean return of the trial's first, second, … episode, and the share of clipped
            actions.
        env_steps: Valid steps.
        horizon: Steps of an episode at most.
        moments: By which the trial's inputs were normalised; None where they are not.
    """

    key: Key
    tasks: np.ndarray
    trial: Trial
    metrics: dict[str, float]
    env_steps: int
    horizon: int
    moments: RunningMoments | None = None


class RL2:
    """RL² with a PPO update.

    Args:
        config: See :class:`RL2Settings`.
        observation_space: Of a single environment.
        action_space: Of a single environment.
        seed: Of the initial parameters.
        device: Where updates run; rollouts run on the CPU.
    """

    config_class: ClassVar[type[RL2Settings]] = RL2Settings
    optimiser_state: ClassVar[tuple[str, ...]] = ("adam", "adam_step")

    def __init__(
        self,
        config: RL2Settings,
        observation_space: spaces.Space,
        action_space: spaces.Space,
        seed: int,
        device: torch.device | str = "cpu",
    ) -> None:
        self.config = config
        self.device = torch.device(device)
        self.policy = self._make_policy(observation_space, action_space)
        self.ppo = PPO(**{field.name: getattr(config, field.name) for field in fields(PPO)})
        params = self.policy.init(Key(seed).generator("init"))
        self.params = to_device(params, self.device)
        self.adam = AdamState.fresh(flatten(self.params))
        normalised = 0 if is_image(observation_space) else math.prod(observation_space.shape or ())
        self.input_moments = RunningMoments.empty(normalised + 1)
        self.return_moments = RunningMoments.empty(1)

    def _make_policy(self, observation_space: spaces.Space, action_space: spaces.Space) -> Any:
        """The function that acts; a variant's may have other inputs."""
        config = self.config
        return RecurrentPolicy(
            *space_sizes(observation_space, action_space),
            make_core=core_maker(**config.core.model_dump()),
            width=config.width,
            embeddings=(
                config.observation_embedding,
                config.action_embedding,
                config.reward_embedding,
            ),
            head_sizes=config.head_sizes,
            initial_std=config.initial_std,
            min_std=config.min_std,
            encoder=ImageEncoder.of(observation_space),
        )

    def collect(self, source: EpisodeSource, key: Key) -> RL2Batch:
        """Sample tasks, and play one trial on every lane."""
        config = self.config
        tasks = source.sample_tasks(config.tasks, key)
        env_steps, moments = 0, self._moments
        if moments is not None and moments.count == 0:
            actor = self._actor(moments)
            look = first_look(source, actor, tasks, config.lanes, key.at(config.episodes))
            moments, env_steps = _moments_of_inputs(look), look.env_steps
        trial = source.collect(self._actor(moments), tasks, config.lanes, key, config.episodes)
        if moments is None and key.iteration == 1:
            warn_of_scale(trial, "normalize_inputs")
        metrics = by_episode(trial)
        if (clipped := trial.clipped_share()) is not None:
            metrics["actions/clipped"] = clipped
        env_steps += trial.env_steps
        return RL2Batch(key, tasks, trial, metrics, env_steps, source.horizon, moments)

    def update(self, batch: RL2Batch) -> dict[str, float]:
        """PPO on the trials; the statistics of the inputs move on only after it.

        So the update sees the inputs as the rollout did, and the ratio starts at 1.

        Raises:
            FloatingPointError: a loss or the gradient is not finite.
        """
        config = self.config
        trial = batch.trial.to(self.device)
        if config.normalize_rewards:
            returns = discounted_sum(trial.rewards, config.discount)[trial.valid]
            self.return_moments = self.return_moments.merge(returns.unsqueeze(-1))
        data = self._credit(trial, batch.horizon)
        evaluate = self._evaluation(trial, batch.moments)
        lr = self._lr(batch.key.iteration)
        left = _left(batch.key.iteration, config.entropy_decay_iterations)
        ppo = replace(self.ppo, entropy_weight=left * config.entropy_weight)
        rng = batch.key.generator("minibatch")
        x, self.adam, metrics = ppo.update(flatten(self.params), self.adam, data, evaluate, lr, rng)
        self.params = unflatten(x, self.params)
        if batch.moments is not None:
            self.input_moments = batch.moments.join(_moments_of_inputs(batch.trial))
        metrics |= {"explained_variance": _explained_variance(data), "lr": lr}
        if "log_std" in self.params:
            std = self.params["log_std"].exp().clamp(min=config.min_std)
            metrics["policy/std"] = float(std.mean())
        return metrics

    def state_dict(self) -> dict[str, Any]:
        """Parameters, Adam's memory, the statistics of inputs and returns."""
        return {
            "params": to_device(self.params, "cpu"),
            **self.adam.state_dict(),
            "input_moments": self.input_moments.state_dict(),
            "return_moments": self.return_moments.state_dict(),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore what :meth:`state_dict` returned, to the bit.

        Raises:
            ValueError: it is no state of this algorithm and this policy.
        """
        check_state(state, RL2.state_dict(self))
        self.params = to_device(state["params"], self.device)
        self.adam = AdamState.from_state(state, self.device)
        self.input_moments = RunningMoments.from_state(state["input_moments"])
        self.return_moments = RunningMoments.from_state(state["return_moments"])

    def agent(self, mode: ActionMode, key: Key) -> MemoryAgent:
        """The agent as it stands."""
        return MemoryAgent(self._actor(self._moments), mode, key)

    @property
    def _moments(self) -> RunningMoments | None:
        return self.input_moments if self.config.normalize_inputs else None

    def _actor(self, moments: RunningMoments | None) -> MemoryActor:
        params: Params = to_device(self.params, "cpu")
        return RecurrentActor(self.policy, params, moments)

    def _evaluation(
        self, trial: Trial, moments: RunningMoments | None
    ) -> Callable[[Tensor, Tensor], Evaluated]:
        """(parameters ``[P]``, lanes ``[n]``) ↦ π and V on their steps."""
        inputs = Inputs(*map(time_first, shown_in(trial)))
        if moments is not None:
            inputs = normalized(inputs, moments.columns(slice(-1, None)))
        actions = time_first(trial.actions)

        def evaluate(x: Tensor, lanes: Tensor) -> Evaluated:
            outputs = self.policy.sequence(
                unflatten(x, self.params),
                Inputs(*(part[:, lanes] for part in inputs)),
                truncate_every=self.config.truncate_every,
            )
            log_probs = outputs.distribution.log_prob(actions[:, lanes])
            return Evaluated(log_probs, outputs.distribution.entropy(), outputs.values)

        return evaluate

    def _credit(self, trial: Trial, horizon: int) -> PPOData:
        """Advantages and returns of whole trials: credit crosses the ends of their episodes."""
        config = self.config
        assert trial.values is not None
        rewards = trial.rewards
        if config.normalize_rewards:
            rewards = rewards / float(self.return_moments.std)
        factors = config.discount, config.gae_lambda
        if config.absorb_early_ends:
            advantages = absorbing_advantages(trial, rewards, *factors, horizon)
        else:
            advantages = generalized_advantages(rewards, trial.values, trial.valid, *factors)
        returns = torch.where(trial.valid, advantages + trial.values, 0.0)
        if config.normalize_advantages:
            every = (0, 1, 2)
            advantages = normalize(advantages, trial.valid, every, rounding(returns, every))
        parts = (trial.log_probs, trial.values, advantages, returns, trial.valid)
        return PPOData(*map(time_first, parts))

    def _lr(self, iteration: int) -> float:
        """The step size of a meta-iteration, counted from 1."""
        return self.config.lr * _left(iteration, self.config.lr_decay_iterations)


def _left(iteration: int, over: int | None) -> float:
    """What is left at an iteration, counted from 1, of what falls linearly to 0 over so many."""
    return 1.0 if over is None else max(0.0, 1.0 - (iteration - 1) / over)


def _moments_of_inputs(trial: Trial) -> RunningMoments:
    """Of the observations as the environment gave them, but for images; then of the rewards."""
    rewards = shown_in(trial).previous_rewards[trial.valid]
    of_rewards = RunningMoments.of(rewards.unsqueeze(-1))
    observed: RunningMoments | None = trial.observed
    return of_rewards if observed is None else observed.beside(of_rewards)


def _explained_variance(data: PPOData) -> float:
    """1 − Var[R − V] / Var[R] of the critic before the update: 1 is perfect, 0 a constant's."""
    returns, values = data.returns[data.valid], data.values[data.valid]
    variance = returns.var(correction=0).clamp(min=float(rounding(returns, (0,))) ** 2)
    tiny = torch.finfo(variance.dtype).tiny
    return float(1.0 - (returns - values).var(correction=0) / variance.clamp(min=tiny))
