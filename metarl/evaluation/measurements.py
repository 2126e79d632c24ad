"""What an evaluation measures of one agent, as arrays."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from metarl.evaluation.measures import MEASURES, Measure, MeasureName

if TYPE_CHECKING:  # metarl.types imports torch, which measuring does not need
    from metarl.evaluation.beliefs import Beliefs
    from metarl.evaluation.recording import Recording
    from metarl.types import ActionMode, AdaptationAxis


POOLED = ("gradient_step", "env_steps")
"""Axes of agents that learn from all lanes of a task together, and need noise to learn from."""


@dataclass(frozen=True)
class FewShot:
    """What the tasks of a supervised evaluation are.

    Attributes:
        ways: Classes of a task; 1 where targets are numbers.
        shots: Support examples of a class, or of the task where there are none.
        transductive: A prediction depends on the other query examples, such as by batch
            normalisation with their statistics, so that it is helped by them; None where the agent
            does not tell.
    """

    ways: int
    shots: int
    transductive: bool | None

    @property
    def support(self) -> int:
        """Support examples of a task."""
        return self.ways * self.shots


@dataclass(frozen=True)
class Shown:
    """The first p tasks of a supervised evaluation and what was predicted there, for pictures.

    Attributes:
        inputs: Of the support sets, [p, S, *shape of one input].
        targets: Of the support sets, [p, S] or [p, S, y].
        query_inputs: Likewise, of the query sets.
        query_targets: Likewise.
        predictions: Of the query sets' targets, [K+1, p, Q] or [K+1, p, Q, y].
        confidence: Probability of a predicted class, [K+1, p, Q].
        grid: Inputs along the axis [G], of a function of one number; else None, like what follows.
        curves: What was predicted there, [K+1, p, G].
        truth: What is true there, [p, G]; None too where it is not known.
    """

    inputs: np.ndarray
    targets: np.ndarray
    query_inputs: np.ndarray
    query_targets: np.ndarray
    predictions: np.ndarray
    confidence: np.ndarray
    grid: np.ndarray | None = None
    curves: np.ndarray | None = None
    truth: np.ndarray | None = None


@dataclass(frozen=True)
class Evaluation:
    """What one agent earned in one action mode: K+1 measurements on n tasks × B lanes.

    Or, of few-shot learning, how well it predicted: an example of the query set stands where an
    episode stands, so B is their number in a task, and ``returns`` are the measure of each.

    It is of one evaluation seed, or of several, joined by
    :func:`metarl.evaluation.evaluation_seeds.evaluate_over_seeds`.

    Attributes:
        tasks: Task vectors, float64 [n, d].
        task_columns: Names of the d entries of a task vector.
        task_units: Their units.
        split: Which set the tasks are, e.g. "held_out"; "training tasks" for a finite distribution.
        action_mode: "stochastic" or "deterministic".
        adaptation_axis: What one adaptation step is, "gradient_step", "episode" or "support_set";
            "env_steps": a round of a training from scratch, drawn against env steps.
        step_sizes: Sizes of the K adaptation steps; empty where they have none.
        seeds: The N evaluation seeds.
        returns: Undiscounted return of every episode, float64 [K+1, n, N·B], seed after seed.
        env_steps_used: Env steps that one adapting agent had used before each measurement, mean
            over agents and seeds, float64 [K+1]. Agents are tasks where the lanes of a task are
            pooled ("gradient_step", "env_steps"), and lanes where each keeps its own memory.
        rewards: Mean reward over the lanes of a task and the seeds at each time step, float64
            [K+1, n, T]; an episode that is over counts 0, so the sum over T is the task's mean
            return. None of few-shot learning.
        paths: Position in the first lane of every task, of the first seed, float64
            [K+1, n, T+1, 2], NaN after the episode's end; None where the environment has no
            position.
        states: What pictures of the first lane of every task are drawn from, of the first seed,
            float32 [K+1, n, T+1, q], NaN after the episode's end; None where there are no pictures.
        recordings: K+1 of the first lane of every task, of the first seed, where the environment
            draws itself; else none.
        forgets: The agent began anew before every measurement: what it gains is not adaptation.
        success: 1 for every episode that succeeded, else 0, as returns; None where the environment
            tells of none.
        episode_measures: What else the environment says of every episode, by name, as returns.
        measure: What ``returns`` are.
        few_shot: What the tasks are, of few-shot learning alone.
        confidence: Probability of the class that was predicted, as returns; None where there are
            no classes.
        shown: A few tasks of the first seed, of few-shot learning alone.
        beliefs: About a few tasks, of the first seed; None where the agent tells none.
    """

    tasks: np.ndarray
    task_columns: tuple[str, ...]
    task_units: tuple[str, ...]
    split: str
    action_mode: ActionMode
    adaptation_axis: AdaptationAxis
    step_sizes: list[float]
    seeds: tuple[int, ...]
    returns: np.ndarray
    env_steps_used: np.ndarray
    rewards: np.ndarray | None
    paths: np.ndarray | None
    states: np.ndarray | None = None
    forgets: bool = False
    success: np.ndarray | None = None
    episode_measures: Mapping[str, np.ndarray] = field(default_factory=dict)
    recordings: tuple[Recording, ...] = ()
    measure: MeasureName = "return"
    few_shot: FewShot | None = None
    confidence: np.ndarray | None = None
    shown: Shown | None = None
    beliefs: Beliefs | None = None

    @property
    def by(self) -> Measure:
        """The measure's direction and its words."""
        return MEASURES[self.measure]

    @property
    def measurement_keys(self) -> list[str]:
        """What the K+1 measurements are called in metrics and tables."""
        return [measurement_key(self.adaptation_axis, k) for k in range(len(self.returns))]

    @property
    def adaptation_steps(self) -> int:
        """K."""
        return self.returns.shape[0] - 1

    @property
    def episodes(self) -> int:
        """B, the lanes of a task: each plays one episode a measurement and seed."""
        return self.returns.shape[2] // len(self.seeds)

    @property
    def episodes_used(self) -> list[int]:
        """Episodes of experience before each measurement: 0, B, 2B, … or 0, 1, 2, …

        Forgotten ones do not count. Of few-shot learning the S examples of the support set, which
        every step learns from: 0, S, S, …
        """
        if self.few_shot is not None:
            return [0] + [self.few_shot.support] * self.adaptation_steps
        step = self.episodes if self.adaptation_axis in POOLED else 1
        step = 0 if self.forgets else step
        return [k * step for k in range(self.adaptation_steps + 1)]

    @property
    def task_returns(self) -> np.ndarray:
        """Mean return of each task at each measurement, over the seeds too, float64 [K+1, n]."""
        return self.returns.mean(axis=2)

    @property
    def seed_returns(self) -> np.ndarray:
        """Mean return of each task by each evaluation seed alone, float64 [K+1, n, N]."""
        return self.returns.reshape(*self.returns.shape[:2], len(self.seeds), -1).mean(axis=3)


def measurement_key(axis: str, k: int) -> str:
    """The key of the measurement after k adaptation steps: "step_0" or "episode_1" first."""
    return f"episode_{k + 1}" if axis == "episode" else f"step_{k}"
