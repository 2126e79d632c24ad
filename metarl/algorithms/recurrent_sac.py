"""Recurrent soft actor-critic: adaptation in memories that learn off-policy (Ni et al. 2022).

A trial of E episodes is one long episode of which the task is a hidden part. Actor and critics
remember it, each with a memory of its own, of the same inputs,

    h^π_t = f_θ(x_1, …, x_t),   h^Q_t = f_φ(x_1, …, x_t),   x_t = (o_t, a_{t−1}, r_{t−1}, start_t),

and with a′ ~ π_θ(· | h^π_{t+1}), of whole trials from replay,

    critics:  E Σ_i (Q_i(h^Q_t, a_t) − y_t)²,
              y_t = r_t + γ (1 − end_t) (min_i Q̄_i(h̄^Q_{t+1}, a′) − α log π_θ(a′ | h^π_{t+1})),
    actor:    E [α log π_θ(a | h^π_t) − min_i Q_i(h^Q_t, a)],   a ~ π_θ(· | h^π_t).

The end is that of the trial: γ runs across the ends of its episodes. Neither loss reaches the other
one's memory: a memory for both does not learn.
"""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np
import torch
from gymnasium import spaces
from torch import Tensor

from metarl.agents.memory_agent import MemoryAgent
from metarl.algorithms.settings.recurrent_off_policy import RecurrentSACSettings
from metarl.experience.metrics import means
from metarl.experience.scale import warn_of_scale
from metarl.experience.whole_trials import Play, Sequences, TrialBatch, TrialMemory
from metarl.maths.adam import Learned, load_states, states
from metarl.maths.params import Params, check_state, to_device
from metarl.maths.running_moments import RunningMoments
from metarl.maths.soft_q import (
    actor_losses,
    critic_errors,
    polyak,
    soft_targets,
    target_entropy,
    temperature_losses,
)
from metarl.maths.squashed_gaussian import SquashedGaussian
from metarl.networks.critics import Critics, SquashedActor
from metarl.networks.history import History, HistoryActor, SquashedPolicy, all_normalized
from metarl.networks.input_features import InputFeatures
from metarl.networks.memory_cores import core_maker
from metarl.networks.spaces import number_sizes
from metarl.random import Key
from metarl.types import ActionMode, EpisodeSource


class RecurrentSAC:
    """Soft actor-critic on whole trials, with two critics that share a memory, and their targets.

    Args:
        config: See :class:`RecurrentSACSettings`.
        observation_space: Of a single environment.
        action_space: Of a single environment.
        seed: Of the initial parameters.
        device: Where updates run; rollouts run on the CPU.
        horizon: Steps of an episode, at most.

    Raises:
        ValueError: actions are discrete, or images are observed.

    Attributes:
        buffers: The replay of trials.
    """

    config_class: ClassVar[type[RecurrentSACSettings]] = RecurrentSACSettings
    optimiser_state: ClassVar[tuple[str, ...]] = ("optimisers",)
    takes_horizon: ClassVar[bool] = True

    def __init__(
        self,
        config: RecurrentSACSettings,
        observation_space: spaces.Space,
        action_space: spaces.Space,
        seed: int,
        device: torch.device | str = "cpu",
        *,
        horizon: int,
    ) -> None:
        observed, acted, choices = number_sizes(observation_space, action_space)
        if choices:
            raise ValueError(
                f"its actions are numbers, a flat Box, and not {action_space}, for which there is "
                "recurrent_dqn"
            )
        self.config = config
        self.device = torch.device(device)
        features = InputFeatures(observed, acted, choices, config.embeddings)
        core = core_maker(**config.core.model_dump())(features.size, config.width)
        self.memory = History(features, core)
        self.critics = Critics(self.memory.size + acted, config.head_sizes)
        actor = SquashedActor(self.memory.size, acted, config.head_sizes)
        self.policy = SquashedPolicy(self.memory, actor)
        rng = Key(seed).generator("init")
        self.learned = {
            "critic": self._learned(self.memory.init(rng) | self.critics.init(rng)),
            "actor": self._learned(self.policy.init(rng)),
            "temperature": self._learned({"log_alpha": torch.zeros(())}),
        }
        self.target: Params = dict(self.learned["critic"].params)
        self.play = Play(config.tasks, config.lanes, config.episodes, config.initial_trials)
        self.trials = TrialMemory(
            observed, (acted,), config.episodes * horizon, config.episodes, config.capacity
        )
        self.buffers = {"replay": self.trials.replay}

    def collect(self, source: EpisodeSource, key: Key) -> TrialBatch:
        """Sample tasks, and play one trial on every lane; before the first, random ones.

        The first trials are those of the untrained actor: tanh of little more than N(0, 1).
        """
        actor = self._actor()
        batch = self.play.collect(source, actor, actor, key)
        if not self.config.normalize_inputs and key.iteration == 1:
            warn_of_scale(batch.trials[0], "normalize_inputs")
        return batch

    def update(self, batch: TrialBatch) -> dict[str, float]:
        """Keep what was played, then take the iteration's gradient steps; means over them.

        Raises:
            FloatingPointError: a gradient is not finite.
        """
        self.trials.add(batch.trials)
        rng = batch.key.generator("minibatch")
        return means([self._step(rng) for _ in range(self.config.updates)])

    def _step(self, rng: np.random.Generator) -> dict[str, Tensor]:
        """One gradient step of everything, on whole trials."""
        config, alpha = self.config, self.alpha
        critic, actor, temperature = self.learned.values()
        data = self.trials.sample(config.batch_trials, rng, bootstrap=config.bootstrap)
        data = data._replace(inputs=all_normalized(data.inputs, self._moments)).to(self.device)
        of_next, of_action = (self._noise(rng, *data.actions.shape) for _ in range(2))
        y = self.targets(data, of_next)
        seen: dict[str, Tensor] = {}
        critics = critic.params

        def critic_loss(params: Params) -> Tensor:
            read = self.memory(params, data.until_the_last)
            errors = data.mean(critic_errors(self.critics(params, read, data.actions), y))
            seen.update({"read": read.detach(), "loss/critic": errors.detach()})
            return errors

        critic.step("the critics' loss", critic_loss, config.lr)
        read = seen.pop("read")

        def actor_loss(params: Params) -> Tensor:
            pi = self.policy.sequence(params, data.until_the_last)
            action, log_probs = pi.sample_and_log_prob(of_action)
            q = self.critics(critics, read, action)
            seen.update({"log_probs": log_probs.detach(), "q/mean": data.mean(q.detach().mean(0))})
            return data.mean(actor_losses(q, log_probs, alpha))

        actor.step("the actor's loss", actor_loss, config.lr)
        log_probs = seen.pop("log_probs")
        if config.temperature is None:
            entropy = target_entropy(self.policy.action_dim)

            def temperature_loss(params: Params) -> Tensor:
                return data.mean(temperature_losses(params["log_alpha"], log_probs, entropy))

            temperature.step("the temperature's loss", temperature_loss, config.lr)
        self.target = polyak(self.target, critic.params, config.target_rate)
        return seen | {"policy/entropy": -data.mean(log_probs), "alpha": alpha}

    @torch.no_grad()
    def targets(self, data: Sequences, noise: Tensor) -> Tensor:
        """y ``[S, N]``, of the actor and the target critics as they are.

        Args:
            data: Normalised.
            noise: Of a′, ``[S, N, a]``.
        """
        read = self.memory(self.target, data.inputs)[1:]
        pi = self.policy.sequence(self.learned["actor"].params, data.inputs)
        after = SquashedGaussian(pi.mean[1:], pi.log_std[1:])
        action, log_probs = after.sample_and_log_prob(noise)
        q = self.critics(self.target, read, action)
        rewards = self.config.reward_scale * data.rewards
        return soft_targets(rewards, data.ended, q, log_probs, self.alpha, self.config.discount)

    @property
    def alpha(self) -> Tensor:
        """α, the temperature of the entropy."""
        if self.config.temperature is not None:
            return torch.tensor(self.config.temperature, device=self.device)
        return self.learned["temperature"].params["log_alpha"].exp()

    def state_dict(self) -> dict[str, Any]:
        """Parameters, targets, moments, Adam's memories; the trials are saved beside it."""
        return states(self.learned) | {
            "target": to_device(self.target, "cpu"),
            "input_moments": self.trials.moments.state_dict(),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore what :meth:`state_dict` returned, to the bit.

        Raises:
            ValueError: it is no state of this algorithm and these networks.
        """
        check_state(state, RecurrentSAC.state_dict(self))
        load_states(self.learned, state)
        self.target = to_device(state["target"], self.device)
        self.trials.moments = RunningMoments.from_state(state["input_moments"])

    def agent(self, mode: ActionMode, key: Key) -> MemoryAgent:
        """The agent as it stands: tanh(μ), or samples."""
        return MemoryAgent(self._actor(), mode, key)

    @property
    def _moments(self) -> RunningMoments | None:
        return self.trials.moments if self.config.normalize_inputs else None

    def _actor(self) -> HistoryActor:
        params = to_device(self.learned["actor"].params, "cpu")
        return HistoryActor(self.policy, params, self._moments)

    def _learned(self, params: Params) -> Learned:
        return Learned(params, self.device, max_norm=self.config.max_gradient_norm)

    def _noise(self, rng: np.random.Generator, *shape: int) -> Tensor:
        return torch.from_numpy(SquashedGaussian.noise(rng, shape)).to(self.device)
