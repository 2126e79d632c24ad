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

from typing import ClassVar

import numpy as np
import torch
from torch import Tensor

from metarl.agents.memory_agent import MemoryAgent
from metarl.algorithms.recurrent_off_policy import RecurrentOffPolicy
from metarl.algorithms.settings.recurrent_off_policy import RecurrentSACSettings
from metarl.experience.whole_trials import Sequences
from metarl.maths.params import Params, to_device
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
from metarl.networks.history import History, HistoryActor, SquashedPolicy
from metarl.random import Key
from metarl.types import ActionMode


class RecurrentSAC(RecurrentOffPolicy):
    """Soft actor-critic on whole trials, with two critics that share a memory, and their targets.

    The initial trials are those of the untrained actor: tanh of little more than N(0, 1). See
    :class:`RecurrentOffPolicy` for the arguments.
    """

    config: RecurrentSACSettings
    config_class: ClassVar[type[RecurrentSACSettings]] = RecurrentSACSettings
    choices = False
    actions_are = "numbers, a flat Box"

    def _networks(
        self, memory: History, action_dim: int, rng: np.random.Generator
    ) -> dict[str, Params]:
        sizes = self.config.head_sizes
        self.memory = memory
        self.critics = Critics(memory.size + action_dim, sizes)
        self.policy = SquashedPolicy(memory, SquashedActor(memory.size, action_dim, sizes))
        return {
            "critic": memory.init(rng) | self.critics.init(rng),
            "actor": self.policy.init(rng),
            "temperature": {"log_alpha": torch.zeros(())},
        }

    def _step(self, rng: np.random.Generator) -> dict[str, Tensor]:
        """One gradient step of everything, on whole trials."""
        config, alpha = self.config, self.alpha
        critic, actor, temperature = self.learned.values()
        data = self._sample(rng)
        of_next, of_action = (self._noise(rng, *data.actions.shape) for _ in range(2))
        leaf, params = actor.recorded()
        pi = self.policy.sequence(params, data.inputs)  # [S + 1, N]
        y = self.targets(data, pi, of_next)
        seen: dict[str, Tensor] = {}
        critics = critic.params

        def critic_loss(params: Params) -> Tensor:
            read = self.memory(params, data.until_the_last)
            errors = data.mean(critic_errors(self.critics(params, read, data.actions), y))
            seen.update({"read": read.detach(), "loss/critic": errors.detach()})
            return errors

        critic.step("the critics' loss", critic_loss, config.lr)
        action, log_probs = _part(pi, slice(-1)).sample_and_log_prob(of_action)
        q = self.critics(critics, seen.pop("read"), action)
        loss = data.mean(actor_losses(q, log_probs, alpha))
        actor.descend("the actor's loss", loss, leaf, config.lr)
        log_probs = log_probs.detach()
        if config.temperature is None:
            entropy = target_entropy(self.policy.action_dim)

            def temperature_loss(params: Params) -> Tensor:
                return data.mean(temperature_losses(params["log_alpha"], log_probs, entropy))

            temperature.step("the temperature's loss", temperature_loss, config.lr)
        self.target = polyak(self.target, critic.params, config.target_rate)
        seen |= {"q/mean": data.mean(q.detach().mean(0))}
        return seen | {"policy/entropy": -data.mean(log_probs), "alpha": alpha}

    @torch.no_grad()
    def targets(self, data: Sequences, pi: SquashedGaussian, noise: Tensor) -> Tensor:
        """y ``[S, N]``, of the target critics as they are.

        Args:
            data: Normalised.
            pi: The actor's, of every step and after the last.
            noise: Of a′, ``[S, N, a]``.
        """
        read = self.memory(self.target, data.inputs)[1:]
        action, log_probs = _part(pi, slice(1, None)).sample_and_log_prob(noise)
        q = self.critics(self.target, read, action)
        rewards = self.config.reward_scale * data.rewards
        return soft_targets(rewards, data.ended, q, log_probs, self.alpha, self.config.discount)

    @property
    def alpha(self) -> Tensor:
        """α, the temperature of the entropy."""
        if self.config.temperature is not None:
            return torch.tensor(self.config.temperature, device=self.device)
        return self.learned["temperature"].params["log_alpha"].exp()

    def agent(self, mode: ActionMode, key: Key) -> MemoryAgent:
        """The agent as it stands: tanh(μ), or samples."""
        return MemoryAgent(self._actor(), mode, key)

    def _actors(self, iteration: int) -> tuple[HistoryActor, HistoryActor]:
        actor = self._actor()
        return actor, actor

    def _actor(self) -> HistoryActor:
        params = to_device(self.learned["actor"].params, "cpu")
        return HistoryActor(self.policy, params, self._moments)

    def _noise(self, rng: np.random.Generator, *shape: int) -> Tensor:
        return torch.from_numpy(SquashedGaussian.noise(rng, shape)).to(self.device)


def _part(pi: SquashedGaussian, steps: slice) -> SquashedGaussian:
    return SquashedGaussian(pi.mean[steps], pi.log_std[steps])
