"""Learning off-policy from whole trials: how they are played, kept, and drawn to be learned from.

Replay keeps observations and rewards as the environment gave them, in float32. The moments by which
they are normalised move on with every iteration, and whoever is shown them, in the rollout and in
the update, old trials and new ones, is shown them by the moments as they are then.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from metarl.experience.inputs import as_played, shown_in, shown_through, time_first
from metarl.experience.metrics import by_episode
from metarl.experience.replay import Replay, as_trial, trial_fields, trial_rows
from metarl.experience.scale import Blindfolded
from metarl.experience.shards import trimmed
from metarl.maths.running_moments import RunningMoments
from metarl.random import Key
from metarl.types import Actor, EpisodeSource, Inputs, Trial


@dataclass(frozen=True)
class TrialBatch:
    """The data of one meta-iteration.

    Attributes:
        key: The meta-iteration's.
        trials: ``[M, L, S]`` each: the iteration's, in the first one behind the initial ones.
        metrics: Mean return of the first, second, … episode of the iteration's trials.
        env_steps: Valid steps.
    """

    key: Key
    trials: list[Trial]
    metrics: dict[str, float]
    env_steps: int


@dataclass(frozen=True)
class Play:
    """What an iteration plays.

    Attributes:
        tasks: M.
        lanes: L, trials a task.
        episodes: E, of a trial.
        initial_trials: Before the first iteration, each with a task of its own.
    """

    tasks: int
    lanes: int
    episodes: int
    initial_trials: int

    def collect(self, source: EpisodeSource, actor: Actor, first: Actor, key: Key) -> TrialBatch:
        """The trials of an iteration, before the first one the initial ones.

        Args:
            source: Plays them.
            actor: Who learns.
            first: Who plays the initial ones, blindfolded: the scale of what there is to see is
                not known yet, and would saturate any actor.
            key: The meta-iteration's.
        """
        trials = []
        if key.iteration == 1:
            other = key.at(self.episodes)  # streams of no other episode
            tasks = source.sample_tasks(self.initial_trials, other)
            trials.append(source.collect(Blindfolded(first), tasks, 1, other, self.episodes))
        tasks = source.sample_tasks(self.tasks, key)
        trial = source.collect(actor, tasks, self.lanes, key, self.episodes)
        trials.append(trial)
        metrics = by_episode(trial)
        return TrialBatch(key, trials, metrics, sum(played.env_steps for played in trials))


class Sequences(NamedTuple):
    """N trials, time first, padded at the tail to S steps.

    Attributes:
        inputs: Of every step and after the last, ``[S + 1, N, ...]``.
        actions: As they were played, ``[S, N, ...]``.
        rewards: ``[S, N]``.
        valid: bool ``[S, N]``.
        ended: Nothing follows on the step, bool ``[S, N]``: see :func:`sequences`.
    """

    inputs: Inputs
    actions: Tensor
    rewards: Tensor
    valid: Tensor
    ended: Tensor

    @property
    def until_the_last(self) -> Inputs:
        """The inputs of the steps alone, ``[S, N, ...]``."""
        return Inputs(*(x[:-1] for x in self.inputs))

    def to(self, device: torch.device) -> Sequences:
        """The same on another device."""
        inputs = Inputs(*(x.to(device) for x in self.inputs))
        return Sequences(inputs, *(x.to(device) for x in self[1:]))

    def mean(self, losses: Tensor) -> Tensor:
        """Of losses ``[S, N]`` over the valid steps."""
        return torch.where(self.valid, losses, 0.0).sum() / self.valid.sum()


def sequences(trial: Trial, *, bootstrap: bool) -> Sequences:
    """The lanes of a trial as sequences to learn from.

    The trial is what credit runs through: on the last step of an episode follows the first of the
    next one. On the last step of the last episode follows nothing where the task's own rule ended
    it; where a time limit did, its final observation does, or nothing.

    Args:
        trial: ``[M, L, S]``, with its final observations.
        bootstrap: A time limit ends no trial.
    """
    last = trial.valid & (trial.valid.sum(-1, keepdim=True) == trial.valid.cumsum(-1))
    parts = (
        as_played(trial.actions),
        trial.rewards,
        trial.valid,
        last & trial.terminated if bootstrap else last,
    )
    inputs = Inputs(*map(time_first, shown_through(trial)))
    return Sequences(inputs, *map(time_first, parts))


class TrialMemory:
    """The trials that are learned from, and the moments of what they showed.

    Args:
        observation_dim: o.
        action_shape: Of one action.
        steps: Of a trial, at most.
        episodes: E, of a trial.
        capacity: Trials kept.

    Attributes:
        replay: The trials.
        moments: Of all observations and previous rewards so far, o + 1 columns.
    """

    def __init__(
        self,
        observation_dim: int,
        action_shape: tuple[int, ...],
        steps: int,
        episodes: int,
        capacity: int,
    ) -> None:
        self.steps = steps
        fields = trial_fields(steps, episodes, observation_dim, action_shape)
        self.replay = Replay(fields, 1, capacity, "capacity")
        self.moments = RunningMoments.empty(observation_dim + 1)
        self._discrete = not action_shape

    def add(self, trials: Sequence[Trial]) -> None:
        """Keep trials, and count what they showed."""
        for trial in trials:
            for task in range(len(trial.valid)):
                self.replay.add(0, trial_rows(trial, task, self.steps))
            shown = shown_in(trial)
            seen = torch.cat([shown.observations, shown.previous_rewards.unsqueeze(-1)], dim=-1)
            self.moments = self.moments.merge(seen[trial.valid])

    def sample(self, n: int, rng: np.random.Generator, *, bootstrap: bool) -> Sequences:
        """n of them, uniformly and with replacement; S is the longest's."""
        rows = self.replay.sample(np.zeros(1, dtype=np.int64), n, rng)
        trial = trimmed(as_trial(rows, discrete=self._discrete))
        return sequences(trial, bootstrap=bootstrap)
