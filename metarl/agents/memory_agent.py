"""The agent that adapts by remembering: one memory a lane, carried from episode to episode."""

from __future__ import annotations

from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor

from metarl.agents.rounds import PlaysRounds, Round
from metarl.experience.inputs import LastStep
from metarl.networks.memory_cores import Memory, copied
from metarl.random import Key
from metarl.types import ActionMode, Actor, AdaptationAxis, Inputs


class MemoryActor(Actor, Protocol):
    """A policy with a memory, also a step at a time.

    Attributes:
        policy: Knows its core, and what actions are.
    """

    policy: Any

    def initial_memory(self, lanes: int) -> Memory:
        """That of N lanes at the start of a trial."""

    def step(self, inputs: Inputs, memory: Memory | None) -> Any:
        """One step of all lanes: at least its ``distribution`` and the next ``memory``."""


class MemoryAgent(PlaysRounds):
    """A :class:`metarl.types.Agent` whose lanes are independent agents, each with its memory.

    It is shown what it was shown in training: the last action as the environment took it, the last
    reward, and whether an episode starts. A lane whose episode is over waits, memory and all, for
    :meth:`adapt`, which says that the next episode begins.

    Args:
        actor: The policy, with its memory.
        mode: "stochastic" samples actions, "deterministic" takes the distribution's mode. Setting
            :attr:`mode` starts the round of episodes anew, with the memory of its beginning.
        key: Names the action noise; it is that of a training trial with this key.
    """

    adaptation_axis: AdaptationAxis = "episode"
    privileged = False

    def __init__(self, actor: MemoryActor, mode: ActionMode, key: Key) -> None:
        super().__init__(mode, key)
        self.actor: Any = actor  # a variant's may be another kind
        self.episode = 0
        self._round = Round((0, 0), key)  # nobody plays before begin()
        self._memory: Memory
        self._last: LastStep
        self._start: Tensor
        self._latest: Any = None  # what the actor answered last

    @property
    def step_sizes(self) -> list[float]:
        """There are none."""
        return []

    def begin(self, num_tasks: int, lanes: int, tasks: np.ndarray | None = None) -> None:
        """Empty the memories of M tasks × B lanes: each begins a trial."""
        policy = self.actor.policy
        self._shape = (num_tasks, lanes)
        self.episode = 0
        memory = self.actor.initial_memory(num_tasks * lanes)
        discrete = bool(policy.discrete)
        last = LastStep.none(self._shape, policy.action_shape, discrete=discrete)
        self._begin_round_with(memory, last)

    def act(self, observation: np.ndarray, active: np.ndarray) -> np.ndarray:
        """Actions ``[M, B, a]`` (or int ``[M, B]``) for observations ``[M, B, o]``.

        The memories of lanes that are not active stay as they are.

        Raises:
            ValueError: before :meth:`begin`, or see :meth:`Round.shown`.
        """
        if not self._shape[0]:
            raise ValueError("call begin(num_tasks, lanes) before act()")
        obs, acts = self._round.shown(observation, active)
        inputs = Inputs(obs, *self._last, episode_start=self._start)
        self._latest = found = self.actor.step(inputs, self._memory)
        action = self._round.choose(found.distribution, self._mode, self.actor.draw_noise)
        self._memory = self.actor.policy.core.held(acts.flatten(), found.memory, self._memory)
        self._start = self._start & ~acts
        return action.numpy().copy()  # an environment may write into it

    def observe(
        self,
        action: np.ndarray,
        reward: np.ndarray,
        terminated: np.ndarray,
        truncated: np.ndarray,
        next_observation: np.ndarray,
    ) -> None:
        """Remember the action taken, clipped to [−1, 1], and the reward, all ``[M, B]``."""
        active = self._round.acted(terminated, truncated)
        taken = torch.from_numpy(np.array(action))
        taken = taken.to(torch.int64 if self.actor.policy.discrete else torch.float32)
        rewards = torch.from_numpy(np.array(reward, dtype=np.float32))
        self._last = self._last.then(taken, rewards, active)

    def adapt(self) -> None:
        """The next episode of the trial begins on every lane, with the memory as it is."""
        self._need_begin()
        self.episode += 1
        self._begin_round_with(self._memory, self._last)

    def state_dict(self) -> dict[str, Any]:
        """What the agent has become by the beginning of this round: all that it remembers."""
        self._need_begin()
        memory, last = self._at_start
        state = {"memory": list(copied(memory)), **last._asdict()}
        return state | {"episode": self.episode, "shape": self._shape}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Become what :meth:`state_dict` described, at the start of a round."""
        self.begin(*state["shape"])
        self.episode = int(state["episode"])
        self._begin_round_with(tuple(state["memory"]), LastStep(state["action"], state["reward"]))

    def _begin_round_with(self, memory: Memory, last: LastStep) -> None:
        self._at_start = (memory, last)
        self._begin_round()

    def _begin_round(self) -> None:
        memory, last = self._at_start
        self._memory, self._last = copied(memory), last  # a step may write into its memory
        self._start = torch.ones(self._shape, dtype=torch.bool)
        key = self._key.at(self._key.adaptation_step + self.episode)
        self._round = Round(self._shape, key, self.actor.moments)

    def _need_begin(self) -> None:
        if not self._shape[0]:
            raise ValueError("call begin(num_tasks, lanes) first")
