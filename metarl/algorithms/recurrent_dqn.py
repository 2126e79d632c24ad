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
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor

from metarl.agents.memory_agent import MemoryAgent
from metarl.algorithms.recurrent_off_policy import RecurrentOffPolicy
from metarl.algorithms.settings.recurrent_off_policy import RecurrentDQNSettings
from metarl.experience.whole_trials import Sequences, TrialBatch
from metarl.maths.params import Params, to_device
from metarl.maths.q_learning import double_q_values, n_step_targets
from metarl.maths.soft_q import critic_errors, polyak
from metarl.networks.critics import Critics
from metarl.networks.history import GreedyPolicy, History, HistoryActor
from metarl.random import Key
from metarl.types import ActionMode


class RecurrentDQN(RecurrentOffPolicy):
    """Double DQN with n-step returns on whole trials; see :class:`RecurrentOffPolicy`."""

    config: RecurrentDQNSettings
    config_class: ClassVar[type[RecurrentDQNSettings]] = RecurrentDQNSettings
    choices = True
    actions_are = "one choice, Discrete"

    def _networks(
        self, memory: History, action_dim: int, rng: np.random.Generator
    ) -> dict[str, Params]:
        critic = Critics(memory.size, self.config.head_sizes, outputs=action_dim, count=1)
        self.policy = GreedyPolicy(memory, critic, self.config.final_epsilon)
        return {"critic": self.policy.init(rng)}

    def update(self, batch: TrialBatch) -> dict[str, float]:
        """As for all, with ε among the metrics.

        Raises:
            FloatingPointError: a gradient is not finite.
        """
        return super().update(batch) | {"epsilon": self._epsilon(batch.key.iteration)}

    def _step(self, rng: np.random.Generator) -> dict[str, Tensor]:
        """One gradient step, on whole trials."""
        config, learned = self.config, self.learned["critic"]
        data = self._sample(rng)
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

    def agent(self, mode: ActionMode, key: Key) -> MemoryAgent:
        """The agent as it stands: greedy, or ε-greedy with the final ε."""
        return MemoryAgent(self._actor(self.config.final_epsilon), mode, key)

    def _actors(self, iteration: int) -> tuple[HistoryActor, HistoryActor]:
        return self._actor(self._epsilon(iteration)), self._actor(1.0)

    def _actor(self, epsilon: float) -> HistoryActor:
        params = to_device(self.learned["critic"].params, "cpu")
        return HistoryActor(replace(self.policy, epsilon=epsilon), params, self._moments)
