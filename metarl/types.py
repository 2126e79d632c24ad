"""The words shared by all parts: trajectories, and the protocols of agents and algorithms.

Axes, everywhere and in this order: ``[M task, B lane, T time, feature]``.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, Protocol, Self, runtime_checkable

import numpy as np

from metarl.random import Key

if TYPE_CHECKING:  # settings are made of these words, and load no torch
    import torch
    from torch import Tensor

ActionMode = Literal["stochastic", "deterministic"]
AdaptationAxis = Literal["gradient_step", "episode", "support_set", "env_steps"]
Estimator = Literal["log_prob", "lvc", "dice"]  # of the inner loss of an adaptation by gradient
DataKind = Literal["episodes", "examples"]  # what an algorithm learns from, and a source gives
Activation = Literal["tanh", "relu"]
CoreName = Literal["lstm", "gru", "transformer"]  # of a recurrent policy's memory
RewardDecoder = Literal["squared_error", "bernoulli", "bernoulli_by_state", "none"]
NoiseDrawn = Literal["step", "episode"]  # how often action noise is drawn anew
Pooling = Literal["stride", "max"]  # of a convolutional network's blocks
Norm = Literal["batch", "none"]  # likewise
NormalisedBy = Literal["query", "support"]  # whose statistics a query set is normalised by


@dataclass(frozen=True)
class Trajectory:
    """Episodes of M tasks × B lanes, padded at the tail to T steps.

    Attributes:
        observations: The observation acted on, float32 ``[M, B, T, o]``: as the agent was shown
            it, which is normalised if the agent's are. Images are uint8, o their pixels.
        actions: The policy's raw sample: float32 ``[M, B, T, a]``, or int64 ``[M, B, T]``, or
            int64 ``[M, B, T, d]`` of d choices.
        log_probs: log π(action) under the policy that acted, float32 ``[M, B, T]``.
        rewards: float32 ``[M, B, T]``; 0 where not valid.
        terminated: The step ended the episode by the task's own rule, bool ``[M, B, T]``.
        truncated: The step was the horizon's last, bool ``[M, B, T]``.
        valid: The step was taken, bool ``[M, B, T]``; False only on the tail.
    """

    observations: Tensor
    actions: Tensor
    log_probs: Tensor
    rewards: Tensor
    terminated: Tensor
    truncated: Tensor
    valid: Tensor

    @property
    def env_steps(self) -> int:
        """Policy decisions on live lanes."""
        return int(self.valid.sum())

    def returns(self) -> Tensor:
        """Undiscounted return of every episode, float32 ``[M, B]``."""
        return self.rewards.sum(-1)

    def clipped_share(self) -> float | None:
        """Share of the entries of all actions taken that lie outside [−1, 1]; None if discrete."""
        if not self.actions.is_floating_point():
            return None
        outside = self.actions[self.valid].abs() > 1.0  # [steps, a]
        return float(outside.float().mean())

    def to(self, device: torch.device) -> Self:
        """The same trajectory on another device."""
        parts = {field.name: getattr(self, field.name) for field in fields(self)}
        moved: Any = {n: None if x is None else x.to(device) for n, x in parts.items()}
        return type(self)(**moved)


@dataclass(frozen=True)
class Trial(Trajectory):
    """E consecutive episodes on each of M tasks × L lanes: a :class:`Trajectory` ``[M, L, S]``.

    A lane whose episode ends starts its next one with the step that follows, so that padding stands
    at the tail only. ``terminated`` and ``truncated`` mark the last step of *every* episode; the
    trial itself ends with the last valid step. With E = 1 it is a batch of episodes.

    Attributes:
        episode_start: The step is the first of an episode, bool ``[M, L, S]``.
        values: The critic's, of what is still to come, float32 ``[M, L, S]``; None without one.
        observed: The moments of the valid steps' observations as the environment gave them, a
            :class:`metarl.maths.running_moments.RunningMoments`; None where the actor's are not
            normalised.
        success: Whether each episode succeeded, float32 0 or 1 ``[M, L, E]``; None where the
            environment does not tell.
        final_observations: What followed each episode's last step, as shown to the agent, which
            was not asked what to do there: float32 ``[M, L, E, o]``, of images uint8.
    """

    episode_start: Tensor
    values: Tensor | None
    observed: Any = None
    success: Tensor | None = None
    final_observations: Tensor | None = None

    def episode_index(self) -> Tensor:
        """To which of the trial's episodes each step belongs, from 0, int64 ``[M, L, S]``."""
        return self.episode_start.long().cumsum(-1) - 1

    def next_observations(self) -> Tensor:
        """The observation that each step led to, ``[M, L, S, o]``; what padding holds is no datum.

        The last step of an episode led to its final observation, not to the first of the next one.

        Raises:
            ValueError: the trial does not hold its final observations.
        """
        if self.final_observations is None:
            raise ValueError("the trial does not hold the final observations of its episodes")
        following = self.observations.roll(-1, dims=2)
        index = self.episode_index().unsqueeze(-1).expand_as(following)
        ends = (self.terminated | self.truncated).unsqueeze(-1)
        return self.final_observations.gather(2, index).where(ends, following)

    def episode_returns(self) -> Tensor:
        """Undiscounted returns of the episodes of every lane in their order, ``[M, L, E]``."""
        index = self.episode_index()
        episodes = int(index.max()) + 1
        returns = self.rewards.new_zeros(*self.rewards.shape[:2], episodes)
        return returns.scatter_add(-1, index, self.rewards)  # padding earns 0


class Inputs(NamedTuple):
    """What an actor is shown at one step; a recurrent one sees it at every step of a sequence.

    :mod:`metarl.experience.inputs` makes it.

    Attributes:
        observations: ``[..., o]``.
        previous_actions: The action of the lane's last step as the environment took it, clipped to
            [−1, 1]: ``[..., a]``; or int64 ``[...]`` where discrete, ``[..., d]`` of d choices. At
            the first step of a trial there is none: 0, or −1 where discrete.
        previous_rewards: Its reward ``[...]``, 0 at the first step of a trial.
        episode_start: bool ``[...]``, see :class:`Trial`. At the start of a trial's later episodes
            the last action and reward of the episode before are still shown.
    """

    observations: Tensor
    previous_actions: Tensor
    previous_rewards: Tensor
    episode_start: Tensor


class Decision(NamedTuple):
    """What an actor answers: action ``[M, B, a]`` or ``[M, B]``, log-prob and value ``[M, B]``.

    ``value`` is None where the actor has no critic; ``carry`` is what it wants to be handed at its
    next step, None where it remembers nothing. ``observations`` is what it acted on where that is
    more than it was shown: the trial keeps it in the observation's place.
    """

    action: Tensor
    log_prob: Tensor
    value: Tensor | None
    carry: Any
    observations: Tensor | None = None


class Actor(Protocol):
    """What a rollout needs of a policy. Everything is on the CPU.

    Attributes:
        moments: By which the observations are normalised that it is shown, a
            :class:`metarl.maths.running_moments.RunningMoments`; None: they are not.
    """

    @property
    def moments(self) -> Any:
        """See above."""

    def draw_noise(self, rng: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
        """The random numbers for actions of the given leading shape, float32 ``[*shape, ...]``."""

    def act(self, inputs: Inputs, noise: Tensor, carry: Any) -> Decision:
        """Inputs ``[M, B, ...]``, noise, and the last decision's carry, None at a trial's start."""

    def of_tasks(self, which: slice) -> Actor:
        """The actor for some of the meta-batch's tasks; itself, where it is the same for all."""


class EpisodeSource(Protocol):
    """Where training data come from, see :class:`metarl.experience.rollout.RolloutWorker`."""

    @property
    def horizon(self) -> int:
        """T, steps of an episode at most."""

    def sample_tasks(self, n: int, key: Key) -> np.ndarray:
        """n training tasks ``[n, d]``."""

    def collect(
        self, actor: Actor, tasks: np.ndarray, lanes: int, key: Key, episodes: int = 1
    ) -> Trial:
        """A trial of E episodes on each of the B lanes of every task ``[M, d]``."""


@runtime_checkable
class Agent(Protocol):
    """An agent under evaluation or in deployment: it acts, sees what happens, and adapts.

    A class with these attributes and methods is evaluated like any trained run, by ``metarl
    evaluate --agent module:Class``; it need not inherit from this one. It is built as
    ``Class(observation_space, action_space, seed)``, with Gymnasium's spaces of one lane.

    The evaluator plays K+1 rounds, in each of which every lane of every task plays one episode::

        begin(M, B)
        for each round:
            for each time step:  act(observation, active) -> action, then observe(action, ...)
            adapt()              after every round but the last

    The lanes are M·B environments of the same kind; those of a task share it. Between rounds all
    are reset. Where ``adaptation_axis`` is "gradient_step" and ``mode`` is "deterministic", a
    round is played twice before :meth:`adapt`: measured, then once more with ``mode`` set to
    "stochastic", to learn from.

    Attributes:
        adaptation_axis: "gradient_step" for agents that pool the lanes of a task in
            :meth:`adapt`, whatever they do there; "episode" for agents that keep one memory a lane.
            It decides what counts as experience used: B episodes an adaptation, or one.
        mode: How actions are chosen, "stochastic" or "deterministic"; it is set from outside. A
            change of it starts a round of episodes anew: what was played of it is forgotten.
        privileged: True only for references that may be told the task (the oracle).
    """

    adaptation_axis: AdaptationAxis
    mode: ActionMode
    privileged: bool

    @property
    def step_sizes(self) -> list[float]:
        """Sizes of the successive adaptation steps, the last repeats; [] where there are none."""

    def begin(self, num_tasks: int, lanes: int, tasks: np.ndarray | None = None) -> None:
        """Forget everything adapted, and expect M tasks × B lanes.

        Args:
            num_tasks: M.
            lanes: B.
            tasks: Task vectors ``[M, d]``, given to privileged references only.
        """

    def act(self, observation: np.ndarray, active: np.ndarray) -> np.ndarray:
        """Choose actions.

        Args:
            observation: ``[M, B, o]``; images ``[M, B, height, width, channels]``, uint8.
            active: bool ``[M, B]``; the others' episodes are over and their actions ignored.

        Returns:
            Actions ``[M, B, a]``, each clipped to [−1, 1] and scaled by the environment to its own
            range; or int ``[M, B]`` for discrete ones, ``[M, B, d]`` for those of d choices.
        """

    def observe(
        self,
        action: np.ndarray,
        reward: np.ndarray,
        terminated: np.ndarray,
        truncated: np.ndarray,
        next_observation: np.ndarray,
    ) -> None:
        """What the last action brought.

        Args:
            action: As returned by :meth:`act`.
            reward: ``[M, B]``; 0 where the episode was over before.
            terminated: bool ``[M, B]``: the task ended the episode; stays True.
            truncated: bool ``[M, B]``: the horizon did; stays True.
            next_observation: ``[M, B, o]``.
        """

    def adapt(self) -> None:
        """A round of episodes is over on every lane: learn from it."""


Learner = Agent
"""The former name, for one release."""


class FewShotAgent(Protocol):
    """An agent of supervised few-shot learning: it predicts, and adapts on its support set.

    The evaluator calls ``begin(support)``, ``predict(query inputs)``, and then K times ``adapt()``
    and ``predict`` again: 0..K adaptation steps on the same support set, as episodes before and
    after each step are for :class:`Agent`.

    Attributes:
        adaptation_axis: "gradient_step", or "support_set" for agents that read it whole in their
            one and only adaptation step.
        transductive: Whether a prediction depends on the other query examples, which helps it.
    """

    adaptation_axis: AdaptationAxis
    transductive: bool

    @property
    def step_sizes(self) -> list[float]:
        """Sizes of the successive adaptation steps, the last repeats; [] where there are none."""

    def begin(self, support: Any) -> None:
        """Forget everything adapted, and expect these tasks' support sets.

        Args:
            support: :class:`metarl.maths.samples.Samples` of M tasks, on the CPU.
        """

    def predict(self, inputs: Tensor) -> Any:
        """A :data:`metarl.maths.distributions.Distribution` over targets ``[M, Q]``, on the CPU.

        Args:
            inputs: ``[M, Q, x]``; a prediction may depend on the other inputs only where the agent
                is transductive.
        """

    def adapt(self) -> None:
        """One adaptation step of every task on its support set."""


class Algorithm(Protocol):
    """An algorithm in training. Its state is tensors and builtins, so that it can be saved.

    Checkpoints save beside it what an attribute ``buffers`` names, a dict of
    :class:`metarl.experience.replay.Replay`. A class that says ``takes_horizon = True`` is built
    with ``horizon=``, the most steps of an episode; ``takes_further_envs``: ``further=``, spaces.
    """

    def collect(self, source: Any, key: Key) -> Any:
        """Gather the data of one meta-iteration; the batch has ``env_steps`` and ``metrics``."""

    def update(self, batch: Any) -> dict[str, float]:
        """One meta-iteration's update; returns its metrics."""

    def state_dict(self) -> dict[str, Any]:
        """Everything that a resumed run needs."""

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore what :meth:`state_dict` returned, to the bit."""

    def agent(self, mode: ActionMode, key: Key) -> Agent:
        """The agent as it stands, to evaluate or deploy."""
