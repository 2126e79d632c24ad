"""Episodes kept as what it takes to play them again: the reset's seed and the actions.

A reset with a seed restores an instance of an environment, so the same actions lead to the same
episode. It is played again in instances that draw themselves, which those that are measured do not.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from gymnasium.spaces import Space

    from metarl.envs.drawn_vector import DrawnVectorEnv


@dataclass(frozen=True)
class Recording:
    """One episode of the first lane of every task.

    Attributes:
        seeds: Of the resets, [n].
        actions: As the vector environment took them, [n, T, ...].
        rewards: Float64 [n, T], NaN after the episode's end.
    """

    seeds: np.ndarray
    actions: np.ndarray
    rewards: np.ndarray

    @classmethod
    def begun(cls, seeds: np.ndarray, space: Space, horizon: int) -> Recording:
        """Nothing yet of n episodes that begin with these seeds [n]; the space of the actions."""
        kind = np.int64 if np.issubdtype(space.dtype, np.integer) else np.float64
        actions = np.zeros((len(seeds), horizon, *(space.shape or ())), kind)
        return cls(np.array(seeds), actions, np.full((len(seeds), horizon), np.nan))

    def note(self, t: int, active: np.ndarray, action: np.ndarray, reward: np.ndarray) -> None:
        """Step t of the episodes that still run, [n]."""
        self.actions[active, t] = action[active]
        self.rewards[active, t] = reward[active]

    @property
    def lengths(self) -> np.ndarray:
        """Steps of each episode, [n]."""
        return np.asarray(np.isfinite(self.rewards).sum(axis=1))


class Replay:
    """Episodes of some recordings side by side, played again a step at a time.

    Args:
        env: It has a lane for each of them, those of the first recording first.
        tasks: Task vectors [n, d] of the recordings.
        recordings: Where the episodes are.
        shown: Which tasks' episodes are played.

    Attributes:
        length: Steps of the longest episode.
        differs: A reward was another than the recorded one.
    """

    def __init__(
        self,
        env: DrawnVectorEnv,
        tasks: np.ndarray,
        recordings: list[Recording],
        shown: list[int],
    ) -> None:
        self._env = env
        self._lengths = np.concatenate([one.lengths[shown] for one in recordings])
        self._actions = np.concatenate([one.actions[shown] for one in recordings])
        self._rewards = np.concatenate([one.rewards[shown] for one in recordings])
        self.length, self.differs = int(self._lengths.max()), False
        env.set_tasks(np.tile(tasks[shown], (len(recordings), 1)))
        env.reset(seed=np.concatenate([one.seeds[shown] for one in recordings]))
        self._t = 0
        self._pictures = [env.picture(lane) for lane in range(env.num_envs)]

    def pictures(self, t: int) -> list[np.ndarray]:
        """What each lane looks like at time step t, which never goes back; the last after its end.

        Raises:
            SimulationFailure: the environment failed, or drew none.
        """
        before = self._t
        while self._t < t:
            _, reward, *_ = self._env.step(self._actions[:, self._t])
            recorded = self._rewards[:, self._t]
            same = np.isclose(reward, recorded, rtol=1e-6, atol=1e-9) | np.isnan(recorded)
            self.differs |= not same.all()
            self._t += 1
            for lane in np.flatnonzero(self._lengths == self._t).tolist():
                self._pictures[lane] = self._env.picture(lane)
        for lane in np.flatnonzero((self._lengths > t) & (before < t)).tolist():
            self._pictures[lane] = self._env.picture(lane)
        return self._pictures
