"""Statistics of one run: means over tasks with bootstrap intervals, the paired verdict, normalized
scores. Those of several runs are in `seed_statistics.py`.

Bootstrap draws come from one fixed key, so a table can be made again to the last digit.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from scipy import stats

RESAMPLES = 10_000
STUDENT_FLOOR = 0.35
"""Least spread of a resample, as a share of the sample's, that a studentized interval divides by:
without a floor it explodes where most values agree."""
BOOTSTRAP_SEED = 95
BAND = FINAL = 0.1
"""Of a settling time: how near is near, and how much of an episode is its end."""

Interval = tuple[float, float]
Statistic = Callable[[np.ndarray], np.ndarray]


def mean(values: np.ndarray) -> np.ndarray:
    """Mean over the last axis: [..., n] -> [...]."""
    return np.asarray(np.mean(values, axis=-1))


def iqm(values: np.ndarray) -> np.ndarray:
    """Interquartile mean, the mean of the middle half, over the last axis: [..., n] -> [...].

    A quarter of the values, rounded down to whole ones, is cut at either end (Agarwal et al. 2021).
    """
    return np.asarray(stats.trim_mean(values, 0.25, axis=-1))


def bootstrap_interval(
    values: np.ndarray, statistic: Statistic = mean, resamples: int = RESAMPLES
) -> Interval | None:
    """95 % interval of a statistic of n tasks, by resampling tasks; None for one task.

    For any statistic the expanded percentile interval: quantiles Φ(±√(n/(n−1)) · t₀.₉₇₅,ₙ₋₁) of
    the resampled statistic. The plain percentile interval is too narrow by √((n−1)/n) and by the
    ratio of normal to Student quantiles (Hesterberg 2015, "What Teachers Should Know About the
    Bootstrap").

    For the mean the wider, at either end, of this and the studentized interval: quantiles of
    t* = (m* − m)/s*, turned round to m − t*·s (Efron & Tibshirani 1993, section 12.5), with
    s* >= 0.35·s and cut at the smallest and the largest return. Each is too short where the other
    is not: the percentile interval on skewed returns, the studentized one on heavy tails and where
    most tasks return the same. On normal returns this costs 3 % of width.

    Args:
        values: One number a task, [n]. One task alone does not tell what others would change.
        statistic: Maps [..., n] to [...].
        resamples: Number of bootstrap samples.

    Raises:
        ValueError: No task, or not finite.
    """
    values = _checked(values)
    n = len(values)
    if n == 1:
        return None
    drawn = values[_resampled_indices(n, resamples)]  # [resamples, n]
    replicates = statistic(drawn)
    tail = stats.norm.cdf(math.sqrt(n / (n - 1)) * stats.t.ppf(0.025, n - 1))
    low, high = np.quantile(replicates, [tail, 1 - tail])
    spread = values.std(ddof=1)
    if statistic is mean and spread > 0:
        deviation = np.maximum(drawn.std(axis=1, ddof=1), STUDENT_FLOOR * spread)
        t_low, t_high = np.quantile((replicates - values.mean()) / deviation, [0.025, 0.975])
        low = min(low, max(values.mean() - t_high * spread, values.min()))
        high = max(high, min(values.mean() - t_low * spread, values.max()))
    return float(low), float(high)


def standard_error_95(values: np.ndarray) -> float | None:
    """1.96 standard errors of the mean over tasks, 1.96·s/√n: the ± of many papers' tables.

    None for one task.
    """
    values = _checked(values)
    if len(values) == 1:
        return None
    return float(1.96 * values.std(ddof=1) / math.sqrt(len(values)))


@dataclass(frozen=True)
class Verdict:
    """What a paired difference says, e.g. whether adaptation helped.

    Attributes:
        delta: The mean of the paired differences, such as return after minus return before.
        ci95: Its 95 % interval; None for one task.
        verdict: Both in words, e.g. "adaptation helps: +28.4 [25.9, 30.8]", or, without an
            interval, "no verdict from one task: +28.4".
    """

    delta: float
    ci95: Interval | None
    verdict: str


def judge(delta: float, interval: Interval | None, words: tuple[str, str, str]) -> Verdict:
    """The verdict on a paired difference: by which side of zero its interval lies on.

    Args:
        delta: The difference.
        interval: Its 95 % interval; without one there is no verdict.
        words: For an interval above zero, below zero, and one that holds it.
    """
    if interval is None:
        return Verdict(delta, None, f"no verdict from one task: {delta:+.{_decimals(abs(delta))}f}")
    said = words[0] if interval[0] > 0 else words[1] if interval[1] < 0 else words[2]
    return Verdict(delta, interval, f"{said}: {_with_interval(delta, interval)}")


def normalised_scores(
    values: Sequence[float], floor: float | None, oracle: float | None, falls: bool = False
) -> list[float] | None:
    """(R − floor)/(oracle − floor) of each value: 0 is the floor, 1 the oracle.

    None where one is not known or the oracle is no better than the floor, that is no greater, or,
    where values are to fall, no less: the scale says nothing.
    """
    if floor is None or oracle is None or (oracle >= floor if falls else oracle <= floor):
        return None
    return [(value - floor) / (oracle - floor) for value in values]


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


@lru_cache(maxsize=4)
def _resampled_indices(n: int, resamples: int) -> np.ndarray:
    """[resamples, n] indices, the same for every statistic of n tasks."""
    rng = np.random.default_rng(np.random.SeedSequence((BOOTSTRAP_SEED, n)))
    indices = rng.integers(n, size=(resamples, n))
    indices.flags.writeable = False
    return indices


def _checked(values: np.ndarray) -> np.ndarray:
    values = np.asarray(values, dtype=np.float64)
    if values.ndim != 1 or len(values) < 1:
        raise ValueError(
            f"Statistics over tasks need one number for each task, not an array of shape "
            f"{list(values.shape)}."
        )
    if not np.isfinite(values).all():
        index = int(np.flatnonzero(~np.isfinite(values))[0])
        raise ValueError(f"The return of task {index} is {values[index]}; it must be finite.")
    return values


def _with_interval(delta: float, interval: Interval) -> str:
    """E.g. "+28.4 [25.9, 30.8]"."""
    low, high = interval
    scale = high - low if high > low else abs(delta)
    decimals = _decimals(scale)
    return f"{delta:+.{decimals}f} [{low:.{decimals}f}, {high:.{decimals}f}]"


def _decimals(scale: float) -> int:
    """As many as give a number of this size, such as an interval's width, two digits."""
    return min(max(1 - math.floor(math.log10(scale)), 0), 6) if scale > 0 else 1
