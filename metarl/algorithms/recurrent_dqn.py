"""Recurrent DQN: adaptation in the memory of a Q-network that learns off-policy.

A trial of E episodes is one long episode of which the task is a hidden part; a memory of it informs
Q (Hausknecht and Stone 2015), which learns from whole trials in replay:

    h_t = f_φ(x_1, …, x_t),   x_t = (o_t, a_{t−1}, r_{t−1}, start_t),
    loss:  E (Q(h_t, a_t) − y_t)²,
           y_t = Σ_{k<m} γ^k r_{t+k} + γ^m (1 − end) Q̄(h̄_{t+m}, argmax_a Q(h_{t+m}, a)),

m being n, or as many steps as there are until the trial ends: γ runs across the ends of its
episodes. Choosing by Q and judging by Q̄ is double Q-learning (van Hasselt et al. 2016). Returns of
n > 1 steps are those of the policy that played, not corrected (Hessel et al. 2018).
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any, ClassVar

import numpy as np
import torch
from gymnasium import spaces
from torch import Tensor

from metarl.agents.memory_agent import MemoryAgent
from metarl.algorithms.settings.recurrent_off_policy import RecurrentDQNSettings
from metarl.experience.metrics import means
from metarl.experience.scale import warn_of_scale
from metarl.experience.whole_trials import Play, Sequences, TrialBatch, TrialMemory
from metarl.maths.adam import Learned, load_states, states
from metarl.maths.params import Params, check_state, to_device
from metarl.maths.q_learning import double_q_values, n_step_targets
from metarl.maths.running_moments import RunningMoments
from metarl.maths.soft_q import critic_errors, polyak
from metarl.networks.critics import Critics
from metarl.networks.history import GreedyPolicy, History, HistoryActor, all_normalized
from metarl.networks.input_features import InputFeatures
from metarl.networks.memory_cores import core_maker
from metarl.networks.spaces import number_sizes
from metarl.random import Key
from metarl.types import ActionMode, EpisodeSource


class RecurrentDQN:
    """Double DQN with n-step returns on whole trials.

    Args:
        config: See :class:`RecurrentDQNSettings`.
        observation_space: Of a single environment.
        action_space: Of a single environment.
        seed: Of the initial parameters.
        device: Where updates run; rollouts run on the CPU.
        horizon: Steps of an episode, at most.

    Raises:
        ValueError: an action is anything but one choice, or images are observed.

    Attributes:
        buffers: The replay of trials.
    """

    config_class: ClassVar[type[RecurrentDQNSettings]] = RecurrentDQNSettings
    optimiser_state: ClassVar[tuple[str, ...]] = ("optimisers",)
    takes_horizon: ClassVar[bool] = True

    def __init__(
        self,
        config: RecurrentDQNSettings,
        observation_space: spaces.Space,
        action_space: spaces.Space,
        seed: int,
        device: torch.device | str = "cpu",
        *,
        horizon: int,
    ) -> None:
        observed, acted, choices = number_sizes(observation_space, action_space)
        if choices is not True:
            fitting = "rl2" if choices else "recurrent_sac"
            raise ValueError(
                f"its actions are one choice, Discrete, and not {action_space}, for which there is "
                f"{fitting}"
            )
        self.config = config
        self.device = torch.device(device)
        features = InputFeatures(observed, acted, choices, config.embeddings)
        core = core_maker(**config.core.model_dump())(features.size, config.width)
        history = History(features, core)
        critic = Critics(history.size, config.head_sizes, outputs=acted, count=1)
        self.policy = GreedyPolicy(history, critic, config.final_epsilon)
        params = self.policy.init(Key(seed).generator("init"))
        q = Learned(params, self.device, max_norm=config.max_gradient_norm)
        self.learned = {"critic": q}
        self.target: Params = dict(q.params)
        self.play = Play(config.tasks, config.lanes, config.episodes, config.initial_trials)
        self.trials = TrialMemory(
            observed, (), config.episodes * horizon, config.episodes, config.capacity
        )
        self.buffers = {"replay": self.trials.replay}

    def collect(self, source: EpisodeSource, key: Key) -> TrialBatch:
        """Sample tasks, and play one trial on every lane; before the first, random ones."""
        actor, first = (self._actor(epsilon) for epsilon in (self._epsilon(key.iteration), 1.0))
        batch = self.play.collect(source, actor, first, key)
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
        found = means([self._step(rng) for _ in range(self.config.updates)])
        return found | {"epsilon": self._epsilon(batch.key.iteration)}

    def _step(self, rng: np.random.Generator) -> dict[str, Tensor]:
        """One gradient step, on whole trials."""
        config, learned = self.config, self.learned["critic"]
        data = self.trials.sample(config.batch_trials, rng, bootstrap=config.bootstrap)
        data = data._replace(inputs=all_normalized(data.inputs, self._moments)).to(self.device)
        seen: dict[str, Tensor] = {}

        def loss(params: Params) -> Tensor:
            q = self.policy.values(params, data.inputs)  # [S + 1, N, n]
            taken = q[:-1].gather(-1, data.actions.unsqueeze(-1)).squeeze(-1)
            errors = data.mean(critic_errors(taken.unsqueeze(0), self.targets(data, q.detach())))
            seen.update({"loss/critic": errors.detach(), "q/mean": data.mean(taken.detach())})
            return errors

        learned.step("the critic's loss", loss, config.lr)
        self.target = polyak(self.target, learned.params, config.target_rate)
        return seen

    @torch.no_grad()
    def targets(self, data: Sequences, q: Tensor) -> Tensor:
        """y ``[S, N]`` of normalised data, for Q of every step and after the last."""
        config = self.config
        values = double_q_values(q, self.policy.values(self.target, data.inputs))
        rewards = config.reward_scale * data.rewards
        return n_step_targets(
            rewards, values, data.valid, data.ended, config.discount, config.steps
        )

    def _epsilon(self, iteration: int) -> float:
        """ε of an iteration, counted from 1."""
        config = self.config
        passed = min(1.0, (iteration - 1) / config.epsilon_iterations)
        return config.initial_epsilon + passed * (config.final_epsilon - config.initial_epsilon)

    def state_dict(self) -> dict[str, Any]:
        """Parameters, targets, moments, Adam's memory; the trials are saved beside it."""
        return states(self.learned) | {
            "target": to_device(self.target, "cpu"),
            "input_moments": self.trials.moments.state_dict(),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore what :meth:`state_dict` returned, to the bit.

        Raises:
            ValueError: it is no state of this algorithm and these networks.
        """
        check_state(state, RecurrentDQN.state_dict(self))
        load_states(self.learned, state)
        self.target = to_device(state["target"], self.device)
        self.trials.moments = RunningMoments.from_state(state["input_moments"])

    def agent(self, mode: ActionMode, key: Key) -> MemoryAgent:
        """The agent as it stands: greedy, or ε-greedy with the final ε."""
        return MemoryAgent(self._actor(self.config.final_epsilon), mode, key)

    @property
    def _moments(self) -> RunningMoments | None:
        return self.trials.moments if self.config.normalize_inputs else None

    def _actor(self, epsilon: float) -> HistoryActor:
        params = to_device(self.learned["critic"].params, "cpu")
        return HistoryActor(replace(self.policy, epsilon=epsilon), params, self._moments)
