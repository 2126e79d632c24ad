"""A whole trial as one episode, so that anybody's recurrent agent can learn to adapt."""

from __future__ import annotations

import contextlib
from typing import Any

import gymnasium
import numpy as np
from gymnasium import spaces
from gymnasium.error import ResetNeeded
from gymnasium.utils import RecordConstructorArgs

from metarl.envs import checks
from metarl.envs.tasks import TaskDistribution
from metarl.envs.vector import Floats

_TASKS = 1  # names the stream of tasks, beside the environment's own of the same seed


class TrialEnv(gymnasium.Wrapper, RecordConstructorArgs):
    """k episodes of one task in a row, as one episode of a Gymnasium environment.

    The task is drawn anew at each reset, from the distribution's training tasks, unless the reset
    names one, `options={"task": row}`. Its observation is what RL² is shown, in one row,

        (o_t, a_{t−1}, r_{t−1}, start_t),

    the environment's observation, the previous action (in [−1, 1]; one-hot where it is discrete)
    and its reward, and 1 where one of the k episodes starts, else 0. Action and reward are 0 at the
    first step of a trial; at the first step of its later episodes those of the episode before are
    still shown. Where an episode ends, the next one's first observation takes the place of its
    last: no step is lost.

    A trial terminates with its last episode, since nothing is earned after it: a truncation would
    let an agent count on more. The info of that step has `episode_returns`, [k].

    Args:
        env: With `set_task(task)`, effective at the next reset, and `task_distribution`, such as
            `gymnasium.make("metarl/PointNavigation-v0")` or `TaskEnv("module:Class")`. An attribute
            `horizon` ends its episodes.
        episodes: k.

    Raises:
        ValueError: it is no such environment, its actions are an unbounded Box, or a space cannot
            be flattened.
    """

    def __init__(self, env: gymnasium.Env, episodes: int) -> None:
        if not isinstance(env, gymnasium.Env):
            given = f"the {type(env).__name__}" if not isinstance(env, str) else repr(env)
            raise ValueError(
                f"A trial was to be made of {given}: it must be a single gymnasium.Env, such as "
                "gymnasium.make('metarl/PointNavigation-v0') or metarl.envs.TaskEnv(name)."
            )
        RecordConstructorArgs.__init__(self, episodes=episodes)
        super().__init__(env)
        self.episodes = checks.integer("episodes", episodes, 1)
        parts = {name: self._attribute(name) for name in ("set_task", "task_distribution")}
        self._set_task, self._distribution = parts.values()
        name = type(env.unwrapped).__name__
        if not isinstance(self._distribution, TaskDistribution) or not callable(self._set_task):
            raise ValueError(
                f"{name} needs a method set_task(task) and an attribute task_distribution, a "
                "TaskDistribution, for trials to be made of it."
            )
        self._horizon = self._attribute("horizon")
        actions = env.action_space
        self._center = self._half = np.zeros(0)
        if isinstance(actions, spaces.Box):
            if not actions.is_bounded():
                raise ValueError(f"{name} has actions of the space {actions}: it must be bounded.")
            low, high = actions.low.astype(np.float64), actions.high.astype(np.float64)
            self._center = (high + low) / 2.0
            self._half = np.where(high > low, (high - low) / 2.0, 1.0)  # one value is shown as 0
        self.observation_space = self._space(name)
        self._draws = np.random.default_rng()
        self._returns: list[float] | None = None  # of the trial's episodes so far

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Floats, dict[str, Any]]:
        """Begin a trial with a new task, which the info names.

        Args:
            seed: Of the environment's random numbers and of the tasks drawn; None: they go on.
            options: {"task": the task vector [d]} in place of a drawn one.

        Raises:
            ValueError: unknown options, or a task that does not fit.
        """
        task = checks.task_option(options)
        if seed is not None:
            self._draws = np.random.default_rng([seed, _TASKS])
        if task is None:
            task = self._distribution.draw(self._draws, 1)[0]
        task = self._distribution.row(task)
        self._set_task(task)
        observation, info = self.env.reset(seed=seed)
        self._returns, self._steps = [0.0], 0
        self._action = np.zeros(self._action_size)
        self._reward = 0.0
        return self._shown(observation, start=True), info | {"task": task}

    def step(self, action: Any) -> tuple[Floats, float, bool, bool, dict[str, Any]]:
        """One step of the episode under way.

        Raises:
            ResetNeeded: before the first reset, or the trial is over.
        """
        if self._returns is None:
            raise ResetNeeded("The trial is over, or was not begun: reset the environment first.")
        observation, reward, terminated, truncated, info = self.env.step(action)
        self._steps += 1
        self._action, self._reward = self._as_played(action), float(reward)
        self._returns[-1] += self._reward
        ends = terminated or truncated or self._steps == self._horizon
        over = ends and len(self._returns) == self.episodes
        if over:
            info = info | {"episode_returns": np.array(self._returns)}
            self._returns = None
        elif ends:
            self._returns.append(0.0)
            self._steps = 0
            observation, _ = self.env.reset()
        return self._shown(observation, start=ends and not over), self._reward, over, False, info

    def _attribute(self, name: str) -> Any:
        """Of the environment or of one that it wraps; None where there is none."""
        return self.env.get_wrapper_attr(name) if self.env.has_wrapper_attr(name) else None

    def _space(self, name: str) -> spaces.Box:
        """Of what is shown: observation, action, reward and start, in one row."""
        observation: Any = None
        action: Any = None
        with contextlib.suppress(NotImplementedError):  # a kind of a user's own
            observation = spaces.flatten_space(self.env.observation_space)
            action = spaces.flatten_space(self.env.action_space)
        if not isinstance(observation, spaces.Box) or not isinstance(action, spaces.Box):
            raise ValueError(
                f"{name} has observations of the space {self.env.observation_space} and actions of "
                f"the space {self.env.action_space}: they must be such as Gymnasium flattens."
            )
        self._action_size = action.low.size
        low = np.zeros(self._action_size) - (1.0 if self._half.size else 0.0)
        return spaces.Box(
            np.concatenate([observation.low, low, [-np.inf, 0.0]]).astype(np.float64),
            np.concatenate([observation.high, np.ones(self._action_size), [np.inf, 1.0]]),
            dtype=np.float64,
        )

    def _as_played(self, action: Any) -> Floats:
        """An action as agents are shown it."""
        space = self.env.action_space
        if not isinstance(space, spaces.Box):
            return np.asarray(spaces.flatten(space, action), dtype=np.float64)
        played = np.clip(np.asarray(action, dtype=np.float64), space.low, space.high)
        return ((played - self._center) / self._half).reshape(-1)

    def _shown(self, observation: Any, *, start: bool) -> Floats:
        flat = spaces.flatten(self.env.observation_space, observation)
        return np.concatenate([flat, self._action, [self._reward, float(start)]])
