"""Exact planning in bandits: the Bayes-optimal plan of a few pulls, and Gittins indices."""

from __future__ import annotations

import functools
import math
from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from metarl.envs.vector import Floats

_MOST_PULLS = 14  # a plan has 2^n − 1 nodes
_MOST_BELIEFS = 200_000
MOST_INDEXED_PULLS = 200
"""Gittins indices of longer trials take more memory than they are worth."""
_THRESHOLDS = 257  # at which Bernoulli stopping problems are solved
_SPACING = 0.01  # of a grid of Gaussian posterior means, in deviations of the prior
_WIDTH = 4.0  # of the grid to either side

Belief = tuple[tuple[int, int], ...]
"""Successes and failures of each arm, sorted: arms that were told the same are alike."""


@functools.cache
def bayes_optimal_plan(arms: int, pulls: int) -> NDArray[np.intp] | None:
    """The Bayes-optimal arms of a Bernoulli bandit with p ~ U[0, 1], by dynamic programming.

    V_0 = 0, V_m(b) = max_a p̂_a (1 + V_{m−1}(b + success of a)) + (1 − p̂_a) V_{m−1}(b + failure of
    a), p̂ = (s + 1)/(s + f + 2), over beliefs b in which arms are told apart by their counts alone.

    Args:
        arms: k.
        pulls: n.

    Returns:
        The arm to pull at each node of the tree of outcomes, [2^n − 1]; node 0 is the first pull,
        node i is followed by 2i + 1 after a failure and 2i + 2 after a success. Of arms that are
        equally good it is the first. None where there are too many outcomes or beliefs.
    """
    if pulls > _MOST_PULLS:
        return None
    levels: list[set[Belief]] = [{((0, 0),) * arms}]
    for _ in range(pulls - 1):
        levels.append({b for belief in levels[-1] for _, b in _followers(belief)})
        if sum(map(len, levels)) > _MOST_BELIEFS:
            return None
    value: dict[Belief, float] = {}
    chosen: dict[Belief, tuple[int, int]] = {}
    for level in reversed(levels):
        for belief in level:
            chosen[belief], value[belief] = _best(belief, value)
    plan = np.zeros(2**pulls - 1, dtype=np.intp)
    counts: list[list[tuple[int, int]]] = [[(0, 0)] * arms]  # of the nodes of a level, unsorted
    for t in range(pulls):
        following = []
        for i, told in enumerate(counts):
            arm = told.index(chosen[tuple(sorted(told))])
            plan[2**t - 1 + i] = arm
            s, f = told[arm]
            following += [[*told[:arm], new, *told[arm + 1 :]] for new in ((s, f + 1), (s + 1, f))]
        counts = following
    return plan


def _followers(belief: Belief) -> Iterator[tuple[int, Belief]]:
    """What a pull of each arm can lead to: the arm's place, and the belief after it."""
    for arm, (s, f) in enumerate(belief):
        if arm and belief[arm - 1] == (s, f):
            continue  # as the arm before
        for new in ((s + 1, f), (s, f + 1)):
            yield arm, tuple(sorted((*belief[:arm], new, *belief[arm + 1 :])))


def _best(belief: Belief, value: dict[Belief, float]) -> tuple[tuple[int, int], float]:
    """The counts of the best arm, and what pulling it and going on is worth."""
    followers = list(_followers(belief))
    worth = []
    for (arm, won), (_, lost) in zip(followers[::2], followers[1::2], strict=True):
        s, f = belief[arm]
        mean = (s + 1) / (s + f + 2)
        later = mean * value.get(won, 0.0) + (1.0 - mean) * value.get(lost, 0.0)
        worth.append((mean + later, belief[arm]))
    best, counts = max(worth)
    return counts, best


def planned_rewards(plan: NDArray[np.intp], means: Floats) -> Floats:
    """Expected reward of each pull of a plan, [pulls, n], by the means of Bernoulli arms [n, k]."""
    reach = np.ones((1, len(means)))  # probability of each node of a level, [2^t, n]
    rewards = []
    while 2 * len(reach) - 1 <= len(plan):
        won = means.T[plan[len(reach) - 1 : 2 * len(reach) - 1]]  # [2^t, n]
        rewards.append((reach * won).sum(axis=0))
        reach = np.stack([reach * (1.0 - won), reach * won], axis=1).reshape(-1, len(means))
    return np.stack(rewards)


@functools.cache
def bernoulli_indices(pulls: int, discount: float = 1.0) -> NDArray[np.floating]:
    """Finite-horizon Gittins indices of a Bernoulli arm with p ~ U[0, 1].

    The index of an arm with s successes and f failures, m pulls to go, is the λ at which a first
    pull is worth it where each pull costs λ and one may stop at any time: p̂ − λ + γ E V_{m−1} = 0,
    V_m = max(0, p̂ − λ + γ E V_{m−1}), V_0 = 0. It is found between thresholds λ by linear
    interpolation. With m → ∞ and γ < 1 it is the Gittins index (Gittins 1979); with γ = 1 and m
    finite, pulling the arm of the largest one is near the optimum (Kaufmann 2018).

    Args:
        pulls: n, of all arms together.
        discount: γ.

    Returns:
        float32 [m, s, f] for m <= n, s + f <= n − m.
    """
    thresholds = np.linspace(0.0, 1.0, _THRESHOLDS, dtype=np.float32)[:, None, None]
    s, f = np.meshgrid(np.arange(pulls + 1), np.arange(pulls + 1), indexing="ij")
    mean = ((s + 1) / (s + f + 2)).astype(np.float32)
    index = np.zeros((pulls + 1, pulls + 1, pulls + 1), dtype=np.float32)
    value = np.zeros((_THRESHOLDS, pulls + 1, pulls + 1), dtype=np.float32)
    for m in range(1, pulls + 1):
        size = pulls + 1 - m  # of counts with which m pulls can be left
        p = mean[:size, :size]
        worth = discount * p * value[:, 1 : size + 1, :size]
        worth += discount * (1.0 - p) * value[:, :size, 1 : size + 1]
        worth += p - thresholds
        index[m, :size, :size] = _crossing(worth)
        value = np.maximum(worth, 0.0, out=worth)
    return index


def _crossing(worth: NDArray[np.floating]) -> NDArray[np.floating]:
    """Where worth [thresholds of [0, 1], ...] falls below 0, by linear interpolation."""
    last = np.clip((worth > 0.0).sum(axis=0) - 1, 0, len(worth) - 2)[None]
    above = np.take_along_axis(worth, last, axis=0)[0]
    below = np.take_along_axis(worth, last + 1, axis=0)[0]
    return (last[0] + above / (above - below)) / (len(worth) - 1)


@functools.cache
def gaussian_bonuses(pulls: int) -> Floats:
    """What the finite-horizon Gittins index of a Gaussian arm adds to its posterior mean.

    Of the prior μ ~ N(0, 1) and rewards N(μ, 1): after i rewards the posterior's variance is
    1/(i + 1), and the index is the posterior mean plus a number that depends on i and on the m
    pulls to go alone, since only differences matter. The stopping problem of
    :func:`bernoulli_indices` is solved on a grid of posterior mean − λ, and expectations are exact
    of values that are linear in between.

    Args:
        pulls: n, of all arms together.

    Returns:
        [m, i] for m <= n, i <= n − m.
    """
    points = round(_WIDTH / _SPACING)
    grid = _SPACING * np.arange(-points, points + 1)
    weights = [_hat_weights(math.sqrt(1.0 / (i + 1) - 1.0 / (i + 2))) for i in range(pulls)]
    bonus = np.zeros((pulls + 1, pulls + 1))
    value = np.zeros((pulls + 1, len(grid)))  # V_m by i, on the grid
    for m in range(1, pulls + 1):
        following = np.zeros_like(value)
        for i in range(pulls + 1 - m):
            reach = len(weights[i]) // 2
            # Far above λ one never stops, so that the value grows by one for each pull to go.
            above = value[i + 1, -1] + (m - 1) * _SPACING * np.arange(1, reach + 1)
            extended = np.concatenate([np.zeros(reach), value[i + 1], above])
            worth = grid + np.convolve(extended, weights[i], mode="valid")  # increases
            bonus[m, i] = -np.interp(0.0, worth, grid)
            following[i] = np.maximum(worth, 0.0)
        value = following
    return bonus


def _hat_weights(deviation: float) -> Floats:
    """Of the points of the grid around a normal variable's mean, in its expectation of a function.

    The function is linear between them, so the weights are the expectations of hats around the
    points: second differences of E (X − x)_+.
    """
    reach = math.ceil(6.0 * deviation / _SPACING)
    z = _SPACING * np.arange(-reach - 1, reach + 2) / deviation
    tail = 0.5 * np.array([math.erfc(each / math.sqrt(2.0)) for each in z])
    excess = deviation * (np.exp(-0.5 * z**2) / math.sqrt(2.0 * math.pi) - z * tail)
    weights: Floats = np.diff(excess, n=2) / _SPACING
    return weights / weights.sum()
