"""A look at an environment before anything is trained on it: does it repeat, do tasks matter?"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from metarl.envs.vector import TaskVectorEnv

STEPS = 50
"""Of an episode, at most, that are played."""
_SEED = 1


@dataclass(frozen=True)
class _Played:
    """What an episode gave: observations ``[t + 1, o]``, rewards ``[t]``, whether it ended."""

    observations: np.ndarray
    rewards: np.ndarray
    terminated: bool

    def differs(self, other: _Played) -> bool:
        return not (
            np.array_equal(self.observations, other.observations, equal_nan=True)
            and np.array_equal(self.rewards, other.rewards, equal_nan=True)
            and self.terminated == other.terminated
        )


def probe(env: TaskVectorEnv, name: str) -> list[str]:
    """What is to be warned of in an environment; nothing where all is well.

    One seed is played with one task, with another, and with the first again, each time with the
    same actions. The first and the last time must not differ: results are to repeat, a resumed run
    to go on as if nothing had been, and the instances are used by training and evaluation in turn.
    The two tasks must.

    Args:
        env: Of one lane.
        name: The environment's, for the sentences.
    """
    tasks = env.task_distribution.validation()
    first, other = tasks[0], tasks[-1]
    once, elsewhere, again = (_play(env, task) for task in (first, other, first))
    warnings = []
    if once.differs(again):
        warnings.append(
            f"{name} gave something else when one seed and task were played a second time with the "
            "same actions, so neither will results on it repeat nor resumed runs go on exactly: "
            "draw from self.np_random, and let nothing of an episode remain after a reset."
        )
    if not np.array_equal(first, other) and not once.differs(elsewhere):
        warnings.append(
            f"{name} gave the same observations and rewards with two tasks in "
            f"{len(once.rewards)} steps with the same seed and actions: unless rewards are rare, "
            "set_task changes nothing."
        )
    return warnings


def _play(env: TaskVectorEnv, task: np.ndarray) -> _Played:
    """An episode's first steps; the actions are always the same."""
    actions = env.single_action_space
    actions.seed(_SEED)
    env.set_tasks(task[None])
    observation, _ = env.reset(seed=_SEED)
    observations, terminated = [observation[0]], np.zeros(1, dtype=bool)
    rewards: list[float] = []
    while not env.finished.all() and len(rewards) < STEPS:
        action = np.asarray(actions.sample())[None]
        observation, reward, terminated, _, _ = env.step(action)
        observations.append(observation[0])
        rewards.append(float(reward[0]))
    return _Played(np.array(observations), np.array(rewards), bool(terminated[0]))
