"""Rollout workers: an actor, tasks and a key in, a trajectory out."""

from __future__ import annotations

import time
from collections.abc import Callable

import numpy as np
import torch

from envs.tasks import TaskDistribution
from envs.vector import TaskVectorEnv
from metarl.random import Key
from metarl.types import Actor, Trajectory


class RolloutWorker:
    """Plays episodes of M tasks × B lanes at once in a vector environment.

    Environments are made on first use, one for every number of lanes, and kept.

    Args:
        make_env: Number of lanes ↦ environment.

    Attributes:
        seconds: Spent in :meth:`collect` so far.
    """

    def __init__(self, make_env: Callable[[int], TaskVectorEnv]) -> None:
        self.seconds = 0.0
        self._make_env = make_env
        self._envs: dict[int, TaskVectorEnv] = {}

    @property
    def task_distribution(self) -> TaskDistribution:
        """The distribution of the environment's tasks."""
        env = next(iter(self._envs.values()), None) or self.env(1)
        return env.task_distribution

    def env(self, num_lanes: int) -> TaskVectorEnv:
        """The environment of that many lanes."""
        if num_lanes not in self._envs:
            self._envs[num_lanes] = self._make_env(num_lanes)
        return self._envs[num_lanes]

    def sample_tasks(self, n: int, key: Key) -> np.ndarray:
        """n training tasks ``[n, d]`` from the key's own stream."""
        return self.task_distribution.sample(key.generator("tasks"), n)

    def close(self) -> None:
        """End every environment, and the threads or processes behind it."""
        for env in self._envs.values():
            env.close()
        self._envs.clear()

    def collect(self, actor: Actor, tasks: np.ndarray, lanes: int, key: Key) -> Trajectory:
        """One episode on every lane, from a reset.

        A lane whose episode is over is frozen until the longest one ends: reward 0, not valid.

        Args:
            actor: Chooses the actions; on the CPU.
            tasks: ``[M, d]``.
            lanes: B, episodes a task.
            key: Names the streams of resets and action noise, which are each task's own.

        Returns:
            A trajectory ``[M, B, T, ·]`` on the CPU, T the longest episode of the batch.

        Raises:
            FloatingPointError: a tensor of the rollout is not finite; names it and the tasks.
        """
        start = time.perf_counter()
        num_tasks = len(tasks)
        env = self.env(num_tasks * lanes)
        horizon = env.horizon
        shape = (num_tasks, lanes)
        noise = _draw_noise(actor, key, num_tasks, lanes, horizon)
        env.set_tasks(np.repeat(tasks, lanes, axis=0))
        observation, _ = env.reset(seed=key.reset_seeds(num_tasks, lanes))
        steps: list[tuple[torch.Tensor, ...]] = []
        rewards, flags = [], []
        threads = torch.get_num_threads()
        torch.set_num_threads(1)  # idle OpenMP threads spin, and slow the physics threads
        try:
            for t in range(horizon):
                valid = ~env.finished
                obs = torch.from_numpy(observation.astype(np.float32)).view(*shape, -1)
                _check_finite("observations", obs, tasks)
                action, log_prob = actor.act(obs, noise[t])
                _check_finite("actions", action, tasks)
                played = action.numpy().reshape(num_tasks * lanes, *action.shape[2:])
                # A copy: an environment may clip in place, and the raw sample is what is learned.
                observation, reward, terminated, truncated, _ = env.step(played.copy())
                steps.append((obs, action, log_prob))
                rewards.append(reward)
                flags.append((terminated & valid, truncated & valid, valid))
                if (terminated | truncated).all():
                    break
        finally:
            torch.set_num_threads(threads)
        observations, actions, log_probs = (torch.stack(x, dim=2) for x in zip(*steps, strict=True))
        ended, cut, valid_t = (
            torch.from_numpy(np.stack(x, axis=-1)).view(*shape, -1)
            for x in zip(*flags, strict=True)
        )
        trajectory = Trajectory(
            observations=observations,
            actions=actions,
            log_probs=log_probs,
            rewards=torch.from_numpy(np.stack(rewards, -1).astype(np.float32)).view(*shape, -1),
            terminated=ended,
            truncated=cut,
            valid=valid_t,
        )
        _check_finite("rewards", trajectory.rewards, tasks)
        _check_finite("log-probabilities", trajectory.log_probs, tasks)
        self.seconds += time.perf_counter() - start
        return trajectory


def _draw_noise(actor: Actor, key: Key, num_tasks: int, lanes: int, horizon: int) -> torch.Tensor:
    """The noise of all actions ``[T, M, B, a]``: every task's is one block of its own stream."""
    streams = (key.generator("action", m) for m in range(num_tasks))
    blocks = [actor.draw_noise(stream, (horizon, lanes)) for stream in streams]
    return torch.from_numpy(np.stack(blocks, axis=1))


def _check_finite(name: str, x: torch.Tensor, tasks: np.ndarray) -> None:
    """Stop before the environment or the policy meets a number ``[M, B, ...]`` that is none."""
    if not x.is_floating_point() or bool(torch.isfinite(x.sum())):  # a sum keeps inf and NaN
        return
    bad = ~torch.isfinite(x).flatten(1).all(1)
    if not bad.any():  # only the sum was too large
        return
    which = np.asarray(tasks)[bad.numpy()].tolist()
    more = f" and {len(which) - 3} more" if len(which) > 3 else ""
    listed = ", ".join(map(str, which[:3]))
    raise FloatingPointError(f"{name} of the rollout are not finite for the tasks {listed}{more}")
