"""Posterior sampling for reinforcement learning in tabular MDPs of finite horizon."""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from metarl.envs.vector import Bools, Floats

_BLOCK = 2_000_000  # numbers of transitions that are sampled at once


def backward_induction(
    transitions: NDArray[Any], rewards: NDArray[Any], horizon: int
) -> tuple[NDArray[Any], NDArray[np.integer]]:
    """The best policies of n MDPs: Q_t = R + P V_{t+1}, V_t = max_a Q_t, V_T = 0.

    Args:
        transitions: [n, S, A, S'].
        rewards: [n, S, A].
        horizon: T.

    Returns:
        V_0 [n, S], and the best actions [T, n, S].
    """
    n, states, _ = rewards.shape
    value = np.zeros((n, states), dtype=rewards.dtype)
    actions = np.zeros((horizon, n, states), dtype=np.int8 if rewards.shape[2] < 128 else np.int16)
    for t in reversed(range(horizon)):
        q = rewards + np.einsum("nsap,np->nsa", transitions, value, optimize=False)
        actions[t] = q.argmax(axis=2)
        value = q.max(axis=2)
    return value, actions


class PSRL:
    """PSRL (Strens 2000; Osband et al. 2013), a `metarl.types.Agent` of any number of lanes.

    Before each episode it samples an MDP from the posterior, and plays that one's best policy:
    transitions from Dirichlet(1 + counts), mean rewards from N((m + Σr)/(1 + n), 1/(1 + n)), the
    posterior of the prior N(m, 1) and rewards of deviation 1.

    Args:
        states: S, observed one-hot.
        actions: A.
        horizon: T, steps in an episode.
        prior_mean: m.
        seed: Of the samples.
    """

    adaptation_axis: Literal["episode"] = "episode"
    privileged = False
    mode = "deterministic"
    step_sizes: list[float] = []  # noqa: RUF012

    def __init__(
        self, states: int, actions: int, horizon: int, prior_mean: float, seed: int
    ) -> None:
        self._states, self._actions, self._horizon = states, actions, horizon
        self._prior_mean, self._seed = prior_mean, seed

    def begin(self, num_tasks: int, lanes: int, tasks: object = None) -> None:
        """Expect M tasks × B lanes, of which nothing is known."""
        self._shape, n = (num_tasks, lanes), num_tasks * lanes
        self._rng = np.random.default_rng(self._seed)
        self._lanes = np.arange(n)
        self._seen = np.zeros((n, self._states, self._actions, self._states), dtype=np.float32)
        self._paid = np.zeros((n, self._states, self._actions), dtype=np.float32)
        self._plan()

    def act(self, observation: Floats, active: Bools) -> NDArray[np.int64]:
        """The sampled MDP's best actions [M, B] in states observed one-hot, [M, B, S]."""
        self._state = observation.reshape(-1, self._states).argmax(axis=1)
        self._active = active.ravel()
        action = self._policy[self._t, self._lanes, self._state]
        return action.astype(np.int64).reshape(self._shape)

    def observe(
        self,
        action: NDArray[np.integer],
        reward: Floats,
        terminated: Bools,
        truncated: Bools,
        next_observation: Floats,
    ) -> None:
        """Where the last actions led, and what they paid."""
        following = next_observation.reshape(-1, self._states).argmax(axis=1)
        lanes = self._lanes[self._active]
        pair = (lanes, self._state[lanes], action.ravel()[lanes])
        self._seen[(*pair, following[lanes])] += 1.0
        self._paid[pair] += reward.ravel()[lanes]
        self._t += 1

    def adapt(self) -> None:
        """The episode is over: sample another MDP."""
        self._plan()

    def _plan(self) -> None:
        """A sample of every lane's posterior, and its best policy [T, n, S]."""
        self._t = 0
        block = max(1, _BLOCK // (self._states**2 * self._actions))
        parts = [
            self._sampled_policy(slice(first, first + block))
            for first in range(0, len(self._lanes), block)
        ]
        self._policy = np.concatenate(parts, axis=1)

    def _sampled_policy(self, lanes: slice) -> NDArray[np.integer]:
        seen, paid = self._seen[lanes], self._paid[lanes]
        transitions = self._rng.standard_gamma(1.0 + seen, dtype=np.float32)
        transitions /= transitions.sum(axis=3, keepdims=True)
        precision = 1.0 + seen.sum(axis=3)
        noise = self._rng.standard_normal(paid.shape, dtype=np.float32)
        rewards = (self._prior_mean + paid) / precision + noise / np.sqrt(precision)
        return backward_induction(transitions, rewards, self._horizon)[1]
