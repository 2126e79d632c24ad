"""Rollout workers: an actor, tasks and a key in, a trial out."""

from __future__ import annotations

import math
import time
from collections.abc import Callable

import numpy as np
import torch
from gymnasium import spaces

from envs.tasks import TaskDistribution
from envs.vector import TaskVectorEnv
from metarl.random import Key
from metarl.threads import one_torch_thread
from metarl.types import Actor, Decision, Inputs, Trial


class RolloutWorker:
    """Plays trials of M tasks × B lanes at once in a vector environment.

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

    def collect(
        self, actor: Actor, tasks: np.ndarray, lanes: int, key: Key, episodes: int = 1
    ) -> Trial:
        """A trial of E episodes on every lane, from a reset.

        A lane whose episode is over starts its next one at once; after its E-th it is frozen until
        the longest trial ends: reward 0, not valid.

        Args:
            actor: Chooses the actions; on the CPU.
            tasks: ``[M, d]``.
            lanes: B, trials a task.
            key: Names the streams of resets and action noise, which are each task's own. Those of
                a trial's later episodes have the key's following adaptation steps.
            episodes: E, of a trial.

        Returns:
            A trial ``[M, B, S, ·]`` on the CPU, S the longest one of the batch.

        Raises:
            FloatingPointError: a tensor of the rollout is not finite; names it and the tasks.
        """
        start = time.perf_counter()
        env = self.env(len(tasks) * lanes)
        env.set_tasks(np.repeat(tasks, lanes, axis=0))
        keys = [key.at(key.adaptation_step + e) for e in range(episodes)]
        with one_torch_thread():
            trial = _play(env, actor, tasks, lanes, keys)
        _check_finite("rewards", trial.rewards, tasks)
        _check_finite("log-probabilities", trial.log_probs, tasks)
        if trial.values is not None:
            _check_finite("values", trial.values, tasks)
        self.seconds += time.perf_counter() - start
        return trial


def _play(
    env: TaskVectorEnv, actor: Actor, tasks: np.ndarray, lanes: int, keys: list[Key]
) -> Trial:
    """One trial on every lane; the e-th key is that of its e-th episode."""
    num_tasks, num_lanes, shape = len(tasks), env.num_envs, (len(tasks), lanes)
    noise = np.stack([_draw_noise(actor, key, num_tasks, lanes, env.horizon) for key in keys])
    seeds = np.stack([key.reset_seeds(num_tasks, lanes) for key in keys])  # [E, M·B]
    every = np.arange(num_lanes)
    episode, t = np.zeros((2, num_lanes), dtype=np.intp)  # of each lane, and its time step therein
    observation, _ = env.reset(seed=seeds[0])
    previous_action, previous_reward = _no_action(env), torch.zeros(shape)
    carry = None
    record = _Record(shape)
    while not (finished := env.finished).all():
        inputs = Inputs(
            torch.from_numpy(observation.astype(np.float32)).view(*shape, -1),
            previous_action.view(*shape, *previous_action.shape[1:]),
            previous_reward,
            torch.from_numpy(t == 0).view(shape),
        )
        _check_finite("observations", inputs.observations, tasks)
        drawn = torch.from_numpy(noise[episode, t, every])
        decision = actor.act(inputs, drawn.view(*shape, *drawn.shape[1:]), carry)
        carry = decision.carry
        _check_finite("actions", decision.action, tasks)
        played = decision.action.numpy().reshape(num_lanes, *decision.action.shape[2:])
        # A copy: an environment may clip in place, and the raw sample is what is learned.
        observation, reward, terminated, truncated, _ = env.step(played.copy())
        previous_action = _as_played(env, played)
        previous_reward = torch.from_numpy(reward.astype(np.float32)).view(shape)
        record.add(inputs, decision, previous_reward, (terminated, truncated, ~finished))

        over = terminated | truncated
        t += 1
        t[over] = 0
        again = over & ~finished & (episode < len(keys) - 1)
        if again.any():
            episode[again] += 1
            observation, _ = env.reset(seed=seeds[episode, every], options={"reset_mask": again})
    return record.trial()


class _Record:
    """The time steps of a rollout, each of them ``[M, B, ...]``, and the trial that they make."""

    def __init__(self, shape: tuple[int, int]) -> None:
        self._shape = shape
        self._inputs: list[Inputs] = []
        self._decisions: list[Decision] = []
        self._rewards: list[torch.Tensor] = []
        self._flags: list[np.ndarray] = []

    def add(
        self,
        inputs: Inputs,
        decision: Decision,
        reward: torch.Tensor,
        flags: tuple[np.ndarray, ...],
    ) -> None:
        """One step; flags are terminated, truncated and valid, each ``[M·B]``."""
        self._inputs.append(inputs)
        self._decisions.append(decision._replace(carry=None))
        self._rewards.append(reward)
        self._flags.append(np.stack(flags))

    def trial(self) -> Trial:
        """Time steps ``[M, B, ...]`` → rows ``[M, B, S, ...]``."""
        flags = torch.from_numpy(np.stack(self._flags, axis=-1))  # [3, M·B, S]
        terminated, truncated, valid = flags.view(3, *self._shape, -1)
        values = [d.value for d in self._decisions if d.value is not None]
        return Trial(
            observations=torch.stack([i.observations for i in self._inputs], dim=2),
            actions=torch.stack([d.action for d in self._decisions], dim=2),
            log_probs=torch.stack([d.log_prob for d in self._decisions], dim=2),
            rewards=torch.stack(self._rewards, dim=2),
            terminated=terminated & valid,
            truncated=truncated & valid,
            valid=valid,
            episode_start=torch.stack([i.episode_start for i in self._inputs], dim=2) & valid,
            values=torch.stack(values, dim=2) if values else None,
        )


def _no_action(env: TaskVectorEnv) -> torch.Tensor:
    """The previous action at the first step of a trial, see :class:`metarl.types.Inputs`."""
    space = env.single_action_space
    if isinstance(space, spaces.Discrete):
        return torch.full((env.num_envs,), -1)
    return torch.zeros(env.num_envs, *(space.shape or ()))


def _as_played(env: TaskVectorEnv, action: np.ndarray) -> torch.Tensor:
    """An action ``[N, ...]`` as the environment takes it: clipped where it is continuous."""
    if isinstance(env.single_action_space, spaces.Discrete):
        return torch.from_numpy(action)
    return torch.from_numpy(action.clip(-1.0, 1.0))


def _draw_noise(actor: Actor, key: Key, num_tasks: int, lanes: int, horizon: int) -> np.ndarray:
    """An episode's noise ``[T, M·B, ...]``: every task's is one block of its own stream."""
    streams = (key.generator("action", m) for m in range(num_tasks))
    blocks = [actor.draw_noise(stream, (horizon, lanes)) for stream in streams]
    noise = np.stack(blocks, axis=1)  # [T, M, B, ...]
    return noise.reshape(horizon, num_tasks * lanes, *noise.shape[3:])


def _check_finite(name: str, x: torch.Tensor, tasks: np.ndarray) -> None:
    """Stop before the environment or the policy meets a number ``[M, B, ...]`` that is none."""
    if not x.is_floating_point() or math.isfinite(x.sum().item()):  # a sum keeps inf and NaN
        return
    bad = ~torch.isfinite(x).flatten(1).all(1)
    if not bad.any():  # only the sum was too large
        return
    which = np.asarray(tasks)[bad.numpy()].tolist()
    more = f" and {len(which) - 3} more" if len(which) > 3 else ""
    listed = ", ".join(map(str, which[:3]))
    raise FloatingPointError(f"{name} of the rollout are not finite for the tasks {listed}{more}")
