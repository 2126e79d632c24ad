"""The agent that samples from its belief: one trial a lane, a latent an episode."""

from __future__ import annotations

from typing import Any, cast

import numpy as np
import torch

from metarl.agents.memory_agent import MemoryAgent
from metarl.networks.posterior import PosteriorActor, TrialMemory
from metarl.random import Key
from metarl.types import ActionMode, Inputs


class PosteriorAgent(MemoryAgent):
    """A :class:`metarl.types.Agent` that explores by posterior sampling (Rakelly et al. 2019).

    What it remembers is its belief, see :class:`metarl.networks.posterior.PosteriorActor`. The
    latent is drawn in both modes, since that is how it explores; what "deterministic" takes away is
    the noise of the actions.
    """

    def __init__(self, actor: PosteriorActor, mode: ActionMode, key: Key) -> None:
        super().__init__(cast(Any, actor), mode, key)

    def act(self, observation: np.ndarray, active: np.ndarray) -> np.ndarray:
        """Actions ``[M, B, a]``; lanes that are not active keep what they remember.

        Raises:
            ValueError: as :meth:`MemoryAgent.act`.
        """
        self._need_begin()
        obs, acts = self._round.shown(observation, active)
        noise = self._round.noise(self.actor.draw_noise)
        of_action, of_latent = noise.split(
            [self.actor.policy.action_dim, self.actor.encoder.latent], dim=-1
        )
        inputs = Inputs(obs, *self._last, episode_start=self._start)
        pi, memory = self.actor.step(inputs, TrialMemory(*self._memory), of_latent)
        action = pi.mode() if self._mode == "deterministic" else pi.sample(of_action)
        lanes = acts.view(-1, 1)
        self._memory = tuple(
            torch.where(lanes, new, old) for new, old in zip(memory, self._memory, strict=True)
        )
        self._start = self._start & ~acts
        return action.numpy().copy()  # an environment may write into it
