"""A tiny environment with returns one can add up by hand, and agents that log or learn."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
from gymnasium import spaces

from metarl.envs.knowledge import Knowledge
from metarl.envs.navigation import PointNavigation
from metarl.envs.tasks import TaskDistribution
from metarl.evaluation.measurements import Evaluation
from metarl.evaluation.result import EvaluationResult, Provenance
from metarl.evaluation.summary import bayes_adaptive, summarize
from metarl.types import ActionMode

FROZEN_PAY = 1000.0
"""What the fake environment wrongly pays lanes whose episode is over."""


class StairTasks(TaskDistribution):
    """Tasks (length, pay): an episode ends after `length` steps, each of which earns `pay`."""

    columns = ("length", "pay")
    units = ("steps", "")

    def sample(self, rng: np.random.Generator, n: int) -> np.ndarray:
        raise AssertionError("an evaluation must not draw training tasks")

    def validation(self) -> np.ndarray:
        return np.array([[1.0, 1.0], [2.0, 1.0]])

    def held_out(self) -> np.ndarray:
        return np.array([[2.0, 1.0], [3.0, -0.5], [9.0, 2.0]])


class StairEnv(Knowledge):
    """Reward pay + action; terminates after `length` steps, truncates at the horizon of 4.

    The observation is (steps taken, a number drawn from the reset seed). A finished lane pays a
    fortune instead of 0: an evaluator that counts it is caught.
    """

    position_columns: tuple[int, int] | None = (0, 1)
    picture_fps: float | None = None
    single_action_space = spaces.Box(-1.0, 1.0, (1,))

    def __init__(self, num_envs: int, horizon: int = 4, log: list[str] | None = None) -> None:
        self.num_envs = num_envs
        self.horizon = horizon
        self.task_distribution = StairTasks()
        self.log = [] if log is None else log
        self.seeds: list[np.ndarray] = []
        self.truncates = True

    def set_tasks(self, tasks: np.ndarray) -> None:
        self.tasks = self.task_distribution.check(tasks)
        assert len(self.tasks) == self.num_envs

    def reset(self, *, seed: np.ndarray) -> tuple[np.ndarray, dict[str, Any]]:
        self.log.append("reset")
        self.seeds.append(np.array(seed))
        self.steps = np.zeros(self.num_envs)
        self.drawn = np.array([np.random.default_rng(int(s)).uniform() for s in seed])
        return self._observation(), {}

    def step(self, action: np.ndarray) -> tuple[Any, ...]:
        self.log.append("step")
        finished = self._terminated() | (self.steps >= self.horizon)
        self.steps = self.steps + ~finished
        reward = np.where(finished, FROZEN_PAY, self.tasks[:, 1] + action[:, 0])
        truncated = (self.steps >= self.horizon) & self.truncates
        return self._observation(), reward, self._terminated(), truncated, {}

    def render_states(self, lanes: slice) -> np.ndarray | None:
        return None

    def _terminated(self) -> np.ndarray:
        return self.steps >= self.tasks[:, 0]

    def _observation(self) -> np.ndarray:
        return np.stack([self.steps, self.drawn], axis=1)


class CountingAgent:
    """Acts with the number of its adaptations, and logs every call."""

    privileged = False

    def __init__(
        self,
        axis: str = "gradient_step",
        log: list[str] | None = None,
        mode: ActionMode = "stochastic",
    ) -> None:
        self.mode: ActionMode = mode
        self.adaptation_axis: Any = axis
        self.step_sizes = [0.5, 0.25, 0.125] if axis == "gradient_step" else []
        self.log = [] if log is None else log
        self.tasks: np.ndarray | None = None
        self.seen: list[tuple[np.ndarray, ...]] = []

    def begin(self, num_tasks: int, lanes: int, tasks: np.ndarray | None = None) -> None:
        self.log.append("begin")
        self.tasks = tasks
        self.adaptations = 0

    def act(self, observation: np.ndarray, active: np.ndarray) -> np.ndarray:
        self.log.append("act")
        self.seen.append((observation, active))
        action = np.full((*active.shape, 1), float(self.adaptations))
        active[:] = False  # a rude agent writes into what it is shown
        return action

    def observe(
        self,
        action: np.ndarray,
        reward: np.ndarray,
        terminated: np.ndarray,
        truncated: np.ndarray,
        next_observation: np.ndarray,
    ) -> None:
        self.log.append("observe")
        assert reward.max() < FROZEN_PAY

    def adapt(self) -> None:
        self.log.append("adapt")
        self.adaptations += 1


class Surveyor:
    """Finds a hidden goal g in the plane from the distances |x − g| that the rewards tell it.

    |x|² − r² = 2 x·g − |g|² is linear in (g, |g|²): adapt() solves it by least squares for each
    task, and the next round walks there. Before it knows, it wanders at random.
    """

    adaptation_axis: Any = "gradient_step"
    mode: ActionMode = "stochastic"
    step_sizes: list[float] = []  # noqa: RUF012
    privileged = False

    def __init__(self, seed: int) -> None:
        self.seed = seed

    def begin(self, num_tasks: int, lanes: int, tasks: np.ndarray | None = None) -> None:
        assert tasks is None
        self.rng = np.random.default_rng(self.seed)
        self.goals: np.ndarray | None = None
        self.rows: list[list[np.ndarray]] = [[] for _ in range(num_tasks)]

    def act(self, observation: np.ndarray, active: np.ndarray) -> np.ndarray:
        self.active = active
        if self.goals is None:
            return self.rng.normal(0.0, 0.5, observation.shape)
        return np.clip(10.0 * (self.goals[:, None] - observation), -1.0, 1.0)

    def observe(
        self,
        action: np.ndarray,
        reward: np.ndarray,
        terminated: np.ndarray,
        truncated: np.ndarray,
        next_observation: np.ndarray,
    ) -> None:
        for m, rows in enumerate(self.rows):
            live = self.active[m]
            rows.append(np.column_stack([next_observation[m][live], reward[m][live]]))

    def adapt(self) -> None:
        goals = []
        for rows in self.rows:
            x, distance = np.split(np.concatenate(rows), [2], axis=1)
            design = np.hstack([2.0 * x, -np.ones((len(x), 1))])
            solution = np.linalg.lstsq(design, (x**2).sum(1) - distance[:, 0] ** 2, rcond=None)[0]
            goals.append(solution[:2])
        self.goals = np.array(goals)


def navigation_evaluation(num_tasks: int = 12, seed: int = 3, gain: float = 10.0) -> Evaluation:
    """Made-up measurements on goals in the plane: K = 3, B = 5, T = 20."""
    rng = np.random.default_rng(seed)
    goals = rng.uniform(-0.5, 0.5, (num_tasks, 2))
    base = np.array([-40.0, -40.0 + 2 * gain, -40.0 + 2.5 * gain, -40.0 + 3 * gain])
    returns = base[:, None, None] + rng.normal(0, 3, (1, num_tasks, 1))
    returns = returns + rng.normal(0, 1, (4, num_tasks, 5))
    reach = np.array([0.0, 0.5, 0.9, 1.0])[:, None, None, None]
    time = np.linspace(0, 1, 21)[None, None, :, None]
    paths = reach * time * goals[None, :, None, :] + rng.normal(0, 0.02, (4, num_tasks, 21, 2))
    paths[:, 0, 12:] = np.nan
    return Evaluation(
        tasks=goals,
        task_columns=("goal_x", "goal_y"),
        task_units=("m", "m"),
        split="held_out",
        action_mode="stochastic",
        adaptation_axis="gradient_step",
        step_sizes=[0.5, 0.25, 0.25],
        seeds=(7,),
        returns=returns,
        env_steps_used=np.array([0.0, 99.5, 180.25, 250.0]),
        rewards=np.repeat(returns.mean(axis=2)[:, :, None] / 20, 20, axis=2),
        paths=paths,
    )


def in_episodes(evaluation: Evaluation) -> Evaluation:
    """The same measurements as if of an agent that adapts by memory."""
    return replace(evaluation, adaptation_axis="episode", step_sizes=[])


def with_bayes_optimal(evaluation: Evaluation) -> EvaluationResult:
    """The result of a trial's episodes, beside what navigation knows of the best adaptive agent."""
    known = bayes_adaptive(evaluation, PointNavigation(1))
    return replace(navigation_result(evaluation), bayes_optimal=known)


def navigation_result(evaluation: Evaluation, **changes: Any) -> EvaluationResult:
    """A result of made-up measurements, with the optimum as its reference."""
    what: dict[str, Any] = {"algorithm": "maml", "seeds": [1], "checkpoint": 200}
    what = {name: changes.pop(name, value) for name, value in what.items()}
    settings: dict[str, Any] = {
        "provenance": Provenance(**what),
        "env": "point_navigation",
        "env_config": {"region": "square", "horizon": 20},
        "references": {"optimum": -np.linalg.norm(evaluation.tasks, axis=1)},
    }
    return summarize(evaluation, **{**settings, **changes})
