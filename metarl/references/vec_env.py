"""stable-baselines3's view of a :class:`metarl.envs.TaskVectorEnv`."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator
from typing import Any

import numpy as np
from gymnasium import spaces
from stable_baselines3.common.vec_env import VecEnv

from metarl.envs.tasks import TaskDistribution
from metarl.envs.vector import TaskVectorEnv
from metarl.random import Key
from metarl.references.ppo import with_choices

_BLOCK = 64  # episodes whose tasks and seeds are drawn at once: a generator costs 20 µs


class TaskVecEnv(VecEnv):
    """N lanes that start their next episode at once, each on a new training task.

    The horizon is part of the task, so nothing is earned beyond it: an episode that it cuts is
    reported as ended, with ``TimeLimit.truncated`` False, and stable-baselines3 does not bootstrap
    the value of its last state. ``terminal_observation`` is that state, as in every VecEnv.

    A lane's n-th task and reset seed come from the lane's own keyed stream. They depend neither on
    when the other lanes finish nor on any global generator.

    Args:
        env: The lanes; used by nothing else meanwhile.
        key: Names the streams of tasks and resets.
        show_task: Append the task vector to the observation, for the oracle.
    """

    def __init__(self, env: TaskVectorEnv, key: Key, *, show_task: bool) -> None:
        self.env = env
        self._show_task = show_task
        distribution = env.task_distribution
        self._episodes = [_episodes(distribution, key, lane) for lane in range(env.num_envs)]
        self._tasks = np.zeros((env.num_envs, distribution.dim))  # of the episodes under way
        observed = math.prod(env.single_observation_space.shape or (0,))
        size = observed + (distribution.dim if show_task else 0)
        box = spaces.Box(-np.inf, np.inf, (size,), np.float32)
        super().__init__(env.num_envs, box, with_choices(env.single_action_space))

    def reset(self) -> np.ndarray:
        """Start a new episode on every lane: observations float32 [N, o (+ d)]."""
        return self._with_task(self._start(np.ones(self.num_envs, dtype=bool)))

    def step_async(self, actions: np.ndarray) -> None:
        self._actions = actions

    def step_wait(self) -> tuple[np.ndarray, np.ndarray, np.ndarray, list[dict[str, Any]]]:
        """Step: observations [N, o (+ d)], rewards [N], whether the episode ended [N], infos.

        Where an episode ended the observation is the next one's first, and the info holds the
        last one's.
        """
        observation, reward, terminated, truncated, _ = self.env.step(self._actions)
        ended = terminated | truncated
        infos: list[dict[str, Any]] = [{}] * self.num_envs
        if ended.any():
            last = self._with_task(observation)
            for lane in np.flatnonzero(ended):
                infos[lane] = {"terminal_observation": last[lane], "TimeLimit.truncated": False}
            observation = self._start(ended)
        return self._with_task(observation), reward.astype(np.float32), ended, infos

    def close(self) -> None:
        self.env.close()

    def get_attr(self, attr_name: str, indices: Any = None) -> list[Any]:
        return [getattr(self.env, attr_name)] * len(list(self._get_indices(indices)))

    def set_attr(self, attr_name: str, value: Any, indices: Any = None) -> None:
        raise NotImplementedError("The lanes share one environment and have no attributes.")

    def env_method(self, method_name: str, *args: Any, indices: Any = None, **kwargs: Any) -> Any:
        raise NotImplementedError("The lanes share one environment and have no methods.")

    def env_is_wrapped(self, wrapper_class: type, indices: Any = None) -> list[bool]:
        return [False] * len(list(self._get_indices(indices)))

    def _start(self, lanes: np.ndarray) -> np.ndarray:
        """Start the next episode of the lanes under the mask; the observations of all lanes."""
        seeds = np.zeros(self.num_envs, dtype=np.int64)  # read only under the mask
        for lane in np.flatnonzero(lanes):
            self._tasks[lane], seeds[lane] = next(self._episodes[lane])
        self.env.set_tasks(self._tasks)
        return self.env.reset(seed=seeds, options={"reset_mask": lanes})[0]

    def _with_task(self, observation: np.ndarray) -> np.ndarray:
        """float32 [N, o], or [N, o + d] with the tasks in force; images as rows of pixels."""
        observation = observation.reshape(len(observation), -1)
        if not self._show_task:
            return observation.astype(np.float32)
        return np.concatenate([observation, self._tasks], axis=1, dtype=np.float32)


def _episodes(
    distribution: TaskDistribution, key: Key, lane: int
) -> Iterator[tuple[np.ndarray, int]]:
    """The task [d] and reset seed of one lane's successive episodes, drawn in keyed blocks."""
    for block in itertools.count():
        own = Key(key.seed, block, key.adaptation_step, key.evaluation)
        tasks = distribution.draw(own.generator("tasks", lane), _BLOCK)  # [64, d]
        seeds = own.generator("reset", lane).integers(2**31, size=_BLOCK)
        yield from zip(tasks, seeds.tolist(), strict=True)
