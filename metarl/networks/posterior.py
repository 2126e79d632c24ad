"""A policy that is shown a latent drawn from what it believes of the task: posterior sampling.

What is believed is a product of Gaussian factors, one for each transition (s, a, r) of the trial so
far. At the start of every episode a latent is drawn from it, and kept to the episode's end.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from metarl.maths.gaussian_product import Factors
from metarl.maths.params import Params
from metarl.maths.squashed_gaussian import SquashedGaussian
from metarl.networks.critics import SquashedActor, init_layers, run_layers
from metarl.types import Decision, Inputs


@dataclass(frozen=True)
class ContextEncoder:
    """Each transition's factor of the belief, a ReLU network of (s, a, r).

    Attributes:
        observation_dim: o.
        action_dim: a.
        latent: Numbers of z.
        hidden_sizes: Widths of the hidden layers.
    """

    observation_dim: int
    action_dim: int
    latent: int
    hidden_sizes: tuple[int, ...]

    def init(self, rng: np.random.Generator) -> Params:
        """Fresh parameters, their names beginning with "encoder"."""
        n_in = self.observation_dim + self.action_dim + 1
        return init_layers(rng, "encoder", n_in, self.hidden_sizes, 2 * self.latent)

    def __call__(
        self, params: Mapping[str, Tensor], observations: Tensor, actions: Tensor, rewards: Tensor
    ) -> Factors:
        """The factors ``[..., z]`` of transitions ``[..., o]``, ``[..., a]`` and ``[...]``."""
        x = torch.cat([observations, actions, rewards.unsqueeze(-1)], dim=-1)
        raw = run_layers(params, "encoder", len(self.hidden_sizes), x.flatten(0, -2))
        return Factors.of(raw.view(*x.shape[:-1], 2 * self.latent))


class TrialMemory(NamedTuple):
    """What is remembered of a trial, of each of N lanes.

    Attributes:
        precision: Of the product of the factors so far ``[N, z]``.
        weighted: Likewise.
        latent: z of this episode ``[N, z]``.
        observation: The last one ``[N, o]``.
        episode: How many have begun ``[N, 1]``.
    """

    precision: Tensor
    weighted: Tensor
    latent: Tensor
    observation: Tensor
    episode: Tensor


@dataclass(frozen=True)
class PosteriorActor:
    """The policy as rollouts and agents drive it: no gradients, on the CPU.

    Attributes:
        encoder: Of the context.
        policy: π(· | s, z).
        params: Of both.
        prior_episodes: In a trial's first so many episodes z comes from N(0, I), whatever was seen.
    """

    encoder: ContextEncoder
    policy: SquashedActor
    params: Params
    prior_episodes: int
    moments: None = None

    def draw_noise(self, rng: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
        """Of the actions, and behind it of z, which the first step of an episode uses."""
        return SquashedGaussian.noise(rng, (*shape, self.policy.action_dim + self.encoder.latent))

    def of_tasks(self, which: slice) -> PosteriorActor:
        """Itself: it knows no tasks."""
        return self

    def initial_memory(self, lanes: int) -> TrialMemory:
        """At the start of a trial."""
        z, o = self.encoder.latent, self.encoder.observation_dim
        return TrialMemory(*(torch.zeros(lanes, width) for width in (z, z, z, o, 1)))

    @torch.no_grad()
    def step(
        self, inputs: Inputs, memory: TrialMemory, noise: Tensor
    ) -> tuple[SquashedGaussian, TrialMemory]:
        """π at one step of every lane ``[M, B, ...]``, and what is remembered after it.

        Args:
            inputs: See :class:`metarl.types.Inputs`.
            memory: After the step before.
            noise: Of z, standard normal ``[M, B, z]``.
        """
        observation, action, reward, start = inputs
        before = memory.observation, action.flatten(0, 1), reward.flatten()
        factors = self.encoder(self.params, *before)
        known = (memory.episode > 0).float()  # before a trial's first step there is none
        seen = Factors(
            memory.precision + known * factors.precision,
            memory.weighted + known * factors.weighted,
        )
        begins = start.view(-1, 1)
        episode = memory.episode + begins
        prior = episode <= self.prior_episodes
        belief = Factors(*(torch.where(prior, 0.0, part) for part in seen)).gaussian()
        drawn = belief.sample(noise.flatten(0, 1))
        latent = torch.where(begins, drawn, memory.latent)
        pi = self.policy(self.params, observation, latent.view(*start.shape, -1))
        return pi, TrialMemory(*seen, latent, observation.flatten(0, 1), episode)

    def act(self, inputs: Inputs, noise: Tensor, carry: TrialMemory | None) -> Decision:
        """Actions ``[M, B, a]``, sampled."""
        memory = self.initial_memory(inputs.episode_start.numel()) if carry is None else carry
        of_action, of_latent = noise.split([self.policy.action_dim, self.encoder.latent], dim=-1)
        pi, memory = self.step(inputs, memory, of_latent)
        action, log_prob = pi.sample_and_log_prob(of_action)
        return Decision(action, log_prob, None, memory)
