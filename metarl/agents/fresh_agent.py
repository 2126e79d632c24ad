"""The agent that begins as nobody: a fresh policy on every task, trained there by an objective."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Generic, Protocol, TypeVar

import numpy as np
import torch
from torch import Tensor

from metarl.adaptation.actor_critic import Recipe
from metarl.agents.rounds import PlaysRounds, Round
from metarl.experience.replay import Rows
from metarl.maths.params import Params
from metarl.networks.critics import DeterministicActor
from metarl.random import Key
from metarl.types import ActionMode, AdaptationAxis, Decision, Inputs

Group = TypeVar("Group", bound="Policies")


class Exploration:
    """How M policies act to learn: with noise; or at random, while they know nothing.

    Args:
        policy: The function.
        params: Stacked over M tasks, ``[M, ...]``, on the CPU.
        noise: Deviation of the noise.
        random: Act at random, whatever the policies say.
    """

    moments = None

    def __init__(
        self,
        policy: DeterministicActor,
        params: Mapping[str, Tensor],
        noise: float,
        *,
        random: bool,
    ) -> None:
        self.policy, self.noise, self.random = policy, noise, random
        self.params = dict(params)

    @classmethod
    def of(cls, group: Policies) -> Exploration:
        """That of policies that learn."""
        random = group.steps_kept < group.recipe.random_steps
        noise = group.recipe.exploration_noise
        return cls(group.policy, group.actors, noise, random=random)

    def draw_noise(self, rng: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
        """Standard normal, or uniform actions where it acts at random, float32 ``[*shape, a]``."""
        shape = (*shape, self.policy.action_dim)
        if self.random:
            return rng.uniform(-1.0, 1.0, shape).astype(np.float32)
        return rng.standard_normal(shape, dtype=np.float32)

    @torch.no_grad()
    def act(self, inputs: Inputs, noise: Tensor, carry: None) -> Decision:
        """Actions ``[M, B, a]`` in [−1, 1]; their density is nobody's concern."""
        action = self.chosen(inputs.observations, noise)
        return Decision(action, action.new_zeros(action.shape[:2]), None, None)

    def chosen(self, observations: Tensor, noise: Tensor) -> Tensor:
        """Actions ``[M, B, a]`` for observations ``[M, B, o]`` and noise ``[M, B, a]``."""
        if self.random:
            return noise
        return (self.policy(self.params, observations) + self.noise * noise).clamp(-1.0, 1.0)

    def of_tasks(self, which: slice) -> Exploration:
        """Of some of the tasks."""
        params = {name: p[which] for name, p in self.params.items()}
        return Exploration(self.policy, params, self.noise, random=self.random)


class Policies(Protocol):
    """M fresh policies and whatever trains them, such as :class:`ActorCritics`.

    Attributes:
        recipe: How they act at first, and how often they learn.
        policy: Their function.
        steps_kept: Env steps that they have experienced, mean over the policies.
    """

    recipe: Recipe
    policy: DeterministicActor
    steps_kept: float

    @property
    def actors(self) -> Params:
        """Their parameters ``[M, ...]``, on the CPU."""

    def keep(self, episodes: Sequence[Rows]) -> None:
        """Put each policy's episodes ``[L, S, ...]`` into its replay."""


class FreshAgent(PlaysRounds, Generic[Group]):
    """A :class:`metarl.types.Agent` whose :meth:`adapt` trains a policy of its own on every task.

    Nothing of a policy is meta-learned: it begins with random weights, acts at random, and learns
    off-policy from all that it has experienced.

    Args:
        begin: Makes a policy for every task, from a generator each.
        learn: As many updates of such policies as there are to one of the policy, from replay.
        mode: "deterministic" leaves the noise out; it is "stochastic" to learn.
        key: Names all streams.
    """

    adaptation_axis: AdaptationAxis = "env_steps"
    privileged = False
    step_sizes: list[float] = []  # noqa: RUF012

    def __init__(
        self,
        begin: Callable[[Sequence[np.random.Generator]], Group],
        learn: Callable[[Group, np.random.Generator], None],
        mode: ActionMode,
        key: Key,
    ) -> None:
        super().__init__(mode, key)
        self.group: Group | None = None
        self._make, self._learn = begin, learn
        self._rounds = 0
        self._steps: list[dict[str, Tensor]] = []
        self._round = Round((0, 0), key)  # nobody plays before begin()

    def begin(self, num_tasks: int, lanes: int, tasks: np.ndarray | None = None) -> None:
        """A fresh policy on each of M tasks, with B lanes each."""
        rngs = [self._key.generator("init", m) for m in range(num_tasks)]
        self.group = self._make(rngs)
        self._shape = (num_tasks, lanes)
        self._rounds = 0
        self._begin_round()

    def act(self, observation: np.ndarray, active: np.ndarray) -> np.ndarray:
        """Actions ``[M, B, a]`` for observations ``[M, B, o]``.

        Raises:
            ValueError: as :meth:`metarl.agents.rounds.Round.shown`; or :meth:`begin` is missing.
        """
        if self.group is None:
            raise ValueError("begin() comes first")
        shown, acts = self._round.shown(observation, active)
        noise = self._round.noise(self._actor.draw_noise)
        if self._mode == "deterministic":
            action = self._actor.policy(self._actor.params, shown)
        else:
            action = self._actor.chosen(shown, noise)
        self._steps.append({"observations": shown, "actions": action, "valid": acts})
        return action.numpy().copy()  # an environment may write into it

    def observe(
        self,
        action: np.ndarray,
        reward: np.ndarray,
        terminated: np.ndarray,
        truncated: np.ndarray,
        next_observation: np.ndarray,
    ) -> None:
        """Keep what the last action brought."""
        self._round.acted(terminated, truncated)
        following = torch.from_numpy(np.array(next_observation, dtype=np.float32))
        self._steps[-1] |= {
            "rewards": torch.from_numpy(np.array(reward, dtype=np.float32)),
            "next_observations": following.view(*self._shape, -1),
            "terminated": torch.from_numpy(np.array(terminated, dtype=bool)),
        }

    def adapt(self) -> None:
        """Train every policy on all that it has experienced.

        Raises:
            FloatingPointError: a gradient is not finite.
        """
        group, names = self.group, self._steps[0]
        assert group is not None
        # a step [M, B, ...] → [M, B, T, ...]
        episodes = {n: torch.stack([step[n] for step in self._steps], dim=2) for n in names}
        shape = self._shape[0]
        group.keep([{name: part[m] for name, part in episodes.items()} for m in range(shape)])
        rng = self._key.at(self._rounds).generator("minibatch")
        for _ in range(group.recipe.rounds(float(episodes["valid"].sum()) / shape)):
            self._learn(group, rng)
        self._rounds += 1
        self._begin_round()

    def _begin_round(self) -> None:
        assert self.group is not None
        self._steps = []
        self._actor = Exploration.of(self.group)
        self._round = Round(self._shape, self._key.at(self._rounds))
