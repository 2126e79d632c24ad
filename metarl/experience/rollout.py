"""Rollout workers: an actor, tasks and a key in, a trial out."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, ClassVar, TypeVar

import numpy as np
import torch
from gymnasium import spaces
from torch import Tensor

from metarl.envs.tasks import TaskDistribution
from metarl.envs.vector import TaskVectorEnv
from metarl.experience.inputs import LastStep, as_given, as_shown
from metarl.experience.probe import probe
from metarl.experience.shards import Shard, cut, joined, part_of
from metarl.experience.threads import one_torch_thread
from metarl.maths.finite import check_finite
from metarl.maths.running_moments import RunningMoments
from metarl.random import Key
from metarl.types import Actor, DataKind, Decision, Inputs, Trial

Place = TypeVar("Place")
Result = TypeVar("Result")


def in_turn(
    place: Place, calls: Iterable[Callable[[Place], Result]], begins: Callable[[int], None]
) -> Iterator[Result]:
    """What functions of a place give, one after the other; told before each is its number."""
    for number, call in enumerate(calls):
        begins(number)
        yield call(place)


class RolloutWorker:
    """Plays trials of M tasks × B lanes at once in a vector environment.

    Environments are made on first use, one for every number of lanes, and kept. They share what
    they can, see :meth:`metarl.envs.vector.TaskVectorEnv.with_lanes`.

    Args:
        make_env: Number of lanes ↦ environment.
        shard_tasks: Tasks that are played at once; None: all of them. A meta-batch of more is cut
            into shards, in the order of its tasks, whose random streams are those that the tasks
            have in the whole. What a policy computes depends on the shape of its batch in the last
            bits, hence on the shards, but on nothing else: not on where and when they are played.

    Attributes:
        gives: What there is to learn from.
        seconds: Spent in :meth:`collect` so far.
        say: Takes the line about the instances that will be built, before they are.
        others: The workers of the run's further environments, by their names.
    """

    gives: ClassVar[DataKind] = "episodes"
    data_hash: ClassVar[str | None] = None  # there are no data beside the environment

    def __init__(
        self, make_env: Callable[[int], TaskVectorEnv], shard_tasks: int | None = None
    ) -> None:
        self.seconds = 0.0
        self._shard_tasks = shard_tasks
        self.say: Callable[[str], None] = lambda line: None
        self._expected_lanes = 1
        self._said_lanes = 1
        self._make_env = make_env
        self._envs: dict[int, TaskVectorEnv] = {}
        self.others: dict[str, Any] = {}

    @property
    def task_distribution(self) -> TaskDistribution:
        """The distribution of the environment's tasks."""
        env = next(iter(self._envs.values()), None) or self.env(1)
        return env.task_distribution

    @property
    def spaces(self) -> tuple[spaces.Space[Any], spaces.Space[Any]]:
        """Of one observation and of one action."""
        env = self.env(1)
        return env.single_observation_space, env.single_action_space

    @property
    def horizon(self) -> int:
        """T, steps of an episode at most."""
        return self.env(1).horizon

    def probe(self, name: str) -> list[str]:
        """What is to be warned of in the environment of that name, see :func:`probe`."""
        return probe(self.env(1), name)

    def env(self, num_lanes: int) -> TaskVectorEnv:
        """The environment of that many lanes."""
        if num_lanes not in self._envs:
            first = next(iter(self._envs.values()), None)
            if first is not None:
                self._say_costs(first, max(num_lanes, self._expected_lanes))
            shared = None if first is None else first.with_lanes(num_lanes)
            self._envs[num_lanes] = shared or self._make_env(num_lanes)
        return self._envs[num_lanes]

    def expect(self, tasks: np.ndarray, episodes: int) -> None:
        """That many lanes of every task ``[M, d]`` will be asked for."""
        self._expected_lanes = max(self._expected_lanes, len(tasks) * episodes)

    def _say_costs(self, env: TaskVectorEnv, num_lanes: int) -> None:
        """What is to be built, unless as much was announced before."""
        if num_lanes > self._said_lanes and (line := env.costs(num_lanes)):
            self.say(line)
        self._said_lanes = max(num_lanes, self._said_lanes)

    def sample_tasks(self, n: int, key: Key) -> np.ndarray:
        """n training tasks ``[n, d]`` from the key's own stream."""
        return self.task_distribution.draw(key.generator("tasks"), n)

    def close(self) -> None:
        """End every environment, and the threads or processes behind it."""
        for open_too in (*self._envs.values(), *self.others.values()):
            open_too.close()
        self._envs.clear()

    def each(
        self,
        calls: Iterable[Callable[[RolloutWorker], Result]],
        begins: Callable[[int], None] = lambda number: None,
    ) -> Iterator[Result]:
        """What functions of a rollout worker give, in their order, wherever they are called.

        Args:
            calls: They play whatever they like, and share nothing.
            begins: Told the number of each before it is called.
        """
        return in_turn(self, calls, begins)

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
        shards = cut(len(tasks), self._shard_tasks)
        parts = [actor] if len(shards) == 1 else [part_of(actor, shard) for shard in shards]
        work = [Shard(tasks[shard], shard.start, lanes, key, episodes) for shard in shards]
        trial = joined(self._play_all(parts, work))
        self.seconds += time.perf_counter() - start
        return trial

    def _play_all(self, actors: Sequence[Actor], shards: Sequence[Shard]) -> list[Trial]:
        """The trials of shards, each by an actor of its own, in their order."""
        return [self.play(actor, shard) for actor, shard in zip(actors, shards, strict=True)]

    def play(self, actor: Actor, shard: Shard) -> Trial:
        """The trial of one shard of a meta-batch, see :meth:`collect`."""
        tasks, lanes, key = shard.tasks, shard.lanes, shard.key
        env = self.env(len(tasks) * lanes)
        env.set_tasks(np.repeat(tasks, lanes, axis=0))
        keys = [key.at(key.adaptation_step + e) for e in range(shard.episodes)]
        with one_torch_thread():
            trial = _play(env, actor, shard, keys)
        check_finite("rewards of the rollout are", trial.rewards, tasks)
        check_finite("log-probabilities of the rollout are", trial.log_probs, tasks)
        if trial.values is not None:
            check_finite("values of the rollout are", trial.values, tasks)
        return trial


def _play(env: TaskVectorEnv, actor: Actor, shard: Shard, keys: list[Key]) -> Trial:
    """One trial on every lane; the e-th key is that of its e-th episode."""
    tasks, lanes, first = shard.tasks, shard.lanes, shard.first
    num_tasks, num_lanes, shape = len(tasks), env.num_envs, (len(tasks), lanes)
    noise = _draw_noise(actor, keys, shard, env.horizon)  # rows [E, M, T, B]
    first_row = np.add.outer(np.arange(num_tasks) * env.horizon * lanes, np.arange(lanes)).ravel()
    seeds = np.stack([key.reset_seeds(num_tasks, lanes, first) for key in keys])  # [E, M·B]
    every = np.arange(num_lanes)
    episode, t = np.zeros((2, num_lanes), dtype=np.intp)  # of each lane, and its time step therein
    success = np.zeros((num_lanes, len(keys)), dtype=np.float32)
    observation, _ = env.reset(seed=seeds[0])
    final = np.zeros((len(keys), *observation.shape), dtype=observation.dtype)
    actions = env.single_action_space
    discrete = not isinstance(actions, spaces.Box)
    last = LastStep.none(shape, actions.shape or (), discrete=discrete)
    carry = None
    steps: list[dict[str, Tensor]] = []
    tally = None if actor.moments is None else _Tally()
    while not (finished := env.finished).all():
        raw = as_given(observation, shape)
        shown, valid = as_shown(raw, actor.moments), ~finished
        inputs = Inputs(shown, *last, episode_start=torch.from_numpy(t == 0).view(shape))
        # What is normalised is clipped, and so finite, whatever it was.
        check_finite("observations of the rollout are", raw if tally else shown, tasks)
        if tally is not None:
            tally.add(raw.flatten(0, 1), valid)
        rows = first_row + (episode * num_tasks * env.horizon + t) * lanes
        drawn = torch.from_numpy(noise.take(rows, axis=0))
        decision = actor.act(inputs, drawn.view(*shape, *drawn.shape[1:]), carry)
        carry = decision.carry
        check_finite("actions of the rollout are", decision.action, tasks)
        played = decision.action.numpy().reshape(num_lanes, *decision.action.shape[2:])
        # A copy: an environment may clip in place, and the raw sample is what is learned.
        observation, reward, terminated, truncated, _ = env.step(played.copy())
        last = last.then(decision.action, torch.from_numpy(reward.astype(np.float32)).view(shape))
        steps.append(_step(inputs, decision, last.reward, terminated, truncated, valid))

        t += 1
        over = terminated | truncated
        if over.any():
            t[over] = 0
            final[episode[over], every[over]] = observation[over]
            if env.success is not None:  # of a lane that waits for the others it stays
                success[every[over], episode[over]] = env.success[over]
            again = over & valid & (episode < len(keys) - 1)
            if again.any():
                episode[again] += 1
                options = {"reset_mask": again}
                observation, _ = env.reset(seed=seeds[episode, every], options=options)
    told = None if env.success is None else torch.from_numpy(success).view(*shape, -1)
    whole = {
        "observed": tally.moments() if tally else None,
        "success": told,
        "final_observations": torch.stack(
            [as_shown(as_given(of_one, shape), actor.moments) for of_one in final], dim=2
        ),
    }
    return _trial(steps, whole)


def _step(
    inputs: Inputs,
    decision: Decision,
    rewards: Tensor,
    terminated: np.ndarray,
    truncated: np.ndarray,
    valid: np.ndarray,
) -> dict[str, Tensor]:
    """What a trial keeps of one time step, ``[M, B, ...]``; the flags are given ``[M·B]``."""
    shape, seen = rewards.shape, decision.observations
    step = {
        "observations": inputs.observations if seen is None else seen,
        "actions": decision.action,
        "log_probs": decision.log_prob,
        "rewards": rewards,
        "terminated": torch.from_numpy(terminated.copy()).view(shape),
        "truncated": torch.from_numpy(truncated.copy()).view(shape),
        "valid": torch.from_numpy(valid).view(shape),
        "episode_start": inputs.episode_start,
    }
    return step if decision.value is None else step | {"values": decision.value}


def _trial(steps: list[dict[str, Tensor]], whole: dict[str, Any]) -> Trial:
    """Time steps ``[M, B, ...]`` → rows ``[M, B, S, ...]``, beside what is of the whole trial."""
    rows = {
        name: torch.stack([step[name] for step in steps]).movedim(0, 2).contiguous()
        for name in steps[0]
    }
    flags = ("terminated", "truncated", "episode_start")
    rows |= {name: rows[name] & rows["valid"] for name in flags}
    return Trial(**{"values": None} | rows | whole)


class _Tally:
    """The moments of rows that come step by step, merged by blocks, which costs less."""

    _BLOCK = 1 << 20  # numbers

    def __init__(self) -> None:
        self._moments: RunningMoments | None = None
        self._rows: list[Tensor] = []
        self._numbers = 0

    def add(self, rows: Tensor, valid: np.ndarray) -> None:
        """Those of the rows ``[n, d]`` that are valid."""
        rows = rows if valid.all() else rows[torch.from_numpy(valid)]
        self._rows.append(rows)
        self._numbers += rows.numel()
        if self._numbers > self._BLOCK:
            self.moments()

    def moments(self) -> RunningMoments:
        """Of all rows so far."""
        if self._rows:
            block = RunningMoments.of(torch.cat(self._rows))
            self._moments = block if self._moments is None else self._moments.join(block)
            self._rows, self._numbers = [], 0
        assert self._moments is not None  # an episode has a step
        return self._moments


def _draw_noise(actor: Actor, keys: list[Key], shard: Shard, horizon: int) -> np.ndarray:
    """The noise of E episodes ``[E·M·T·B, ...]``: an episode of a task is a block of its stream."""
    blocks = [
        actor.draw_noise(key.generator("action", shard.first + m), (horizon, shard.lanes))
        for key in keys
        for m in range(len(shard.tasks))
    ]
    return np.stack(blocks).reshape(-1, *blocks[0].shape[2:])
