"""How fast an agent gets good within an episode."""

from __future__ import annotations

import numpy as np

BAND = 0.1
FINAL = 0.1


def settling_step(rewards: np.ndarray) -> int | None:
    """The first step of an episode, counted from 1, from which the reward stays near its final one.

    Of the mean over tasks r̄_t: the final reward r̄ is its mean over the last tenth of the episode
    (one step at least), and near is within a tenth of the way that it has come, |r̄_t − r̄| ≤
    0.1·|r̄_1 − r̄|, the 10 % settling time of control engineering. (A tenth of the reward itself
    would mean nothing where the best reward is 0.) So 1 says that there was no way to go, and
    None that the reward never settles: it leaves the band within the last tenth.

    Args:
        rewards: Mean reward of each task at each time step, [n, T], T >= 1.
    """
    mean = np.asarray(rewards, dtype=np.float64).mean(axis=0)
    last = max(round(FINAL * len(mean)), 1)
    final = mean[-last:].mean()
    outside = np.abs(mean - final) > BAND * abs(mean[0] - final)
    first = int(np.flatnonzero(outside)[-1]) + 2 if outside.any() else 1
    return first if first <= len(mean) - last + 1 else None
