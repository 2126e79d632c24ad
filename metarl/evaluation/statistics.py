"""Statistics over tasks: means with bootstrap intervals, the paired verdict, normalized scores.

Bootstrap draws come from one fixed key, so a table can be made again to the last digit.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from scipy import stats

RESAMPLES = 10_000
_BOOTSTRAP_SEED = 95

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
) -> Interval:
    """95 % interval of a statistic of n tasks, by resampling tasks.

    The expanded percentile interval: quantiles Φ(±√(n/(n−1)) · t₀.₉₇₅,ₙ₋₁) of the resampled
    statistic. The plain percentile interval is too narrow by √((n−1)/n) and by the ratio of normal
    to Student quantiles (Hesterberg 2015, "What Teachers Should Know About the Bootstrap").
    Simulated with 40 tasks it covers 93 to 96 % for normal, uniform, exponential, two-peaked and
    heavy-tailed returns, 92 % for the very skewed gamma(1/2). BCa gains a point on skewed returns
    and loses two on heavy tails; studentized intervals explode where most tasks return the same.
    With two tasks it spans both.

    Args:
        values: One number a task, [n], n >= 2.
        statistic: Maps [..., n] to [...].
        resamples: Number of bootstrap samples.

    Raises:
        ValueError: Fewer than two tasks, or not finite.
    """
    values = _checked(values)
    n = len(values)
    replicates = statistic(values[_resampled_indices(n, resamples)])
    tail = stats.norm.cdf(math.sqrt(n / (n - 1)) * stats.t.ppf(0.025, n - 1))
    low, high = np.quantile(replicates, [tail, 1 - tail])
    return float(low), float(high)


def standard_error_95(values: np.ndarray) -> float:
    """1.96 standard errors of the mean over tasks, 1.96·s/√n: the ± of many papers' tables."""
    values = _checked(values)
    return float(1.96 * values.std(ddof=1) / math.sqrt(len(values)))


@dataclass(frozen=True)
class Verdict:
    """Did adaptation help?

    Attributes:
        delta: Mean over tasks of the return after minus the return before.
        ci95: Its 95 % interval over tasks.
        verdict: Both in words, e.g. "adaptation helps: +28.4 [25.9, 30.8]".
    """

    delta: float
    ci95: Interval
    verdict: str


def adaptation_verdict(before: np.ndarray, after: np.ndarray) -> Verdict:
    """Paired comparison of the same tasks before and after adaptation, both [n].

    Adaptation helps or hurts where the interval of the paired differences is clear of zero.
    """
    before, after = _checked(before), _checked(after)
    if before.shape != after.shape:
        raise ValueError(
            f"A paired comparison needs the same tasks: {len(before)} before, {len(after)} after."
        )
    difference = after - before
    delta, interval = float(difference.mean()), bootstrap_interval(difference)
    if interval[0] > 0:
        words = "adaptation helps"
    elif interval[1] < 0:
        words = "adaptation hurts"
    else:
        words = "no clear effect"
    return Verdict(delta, interval, f"{words}: {_with_interval(delta, interval)}")


def normalized_score(value: float, floor: float, oracle: float) -> float | None:
    """(R − floor) / (oracle − floor): 0 is the floor, 1 the oracle.

    None where the oracle is no better than the floor, since then the scale says nothing.
    """
    return (value - floor) / (oracle - floor) if oracle > floor else None


@lru_cache(maxsize=4)
def _resampled_indices(n: int, resamples: int) -> np.ndarray:
    """[resamples, n] indices, the same for every statistic of n tasks."""
    rng = np.random.default_rng(np.random.SeedSequence((_BOOTSTRAP_SEED, n)))
    indices = rng.integers(n, size=(resamples, n))
    indices.flags.writeable = False
    return indices


def _checked(values: np.ndarray) -> np.ndarray:
    values = np.asarray(values, dtype=np.float64)
    if values.ndim != 1 or len(values) < 2:
        raise ValueError(
            f"An interval over tasks needs one number for each of at least 2 tasks, not an array "
            f"of shape {list(values.shape)}."
        )
    if not np.isfinite(values).all():
        index = int(np.flatnonzero(~np.isfinite(values))[0])
        raise ValueError(f"The return of task {index} is {values[index]}; it must be finite.")
    return values


def _with_interval(delta: float, interval: Interval) -> str:
    """As many decimals as give the interval's width two digits: +28.4 [25.9, 30.8]."""
    width = interval[1] - interval[0]
    scale = width if width > 0 else abs(delta)
    decimals = min(max(1 - math.floor(math.log10(scale)), 0), 6) if scale > 0 else 1
    low, high = interval
    return f"{delta:+.{decimals}f} [{low:.{decimals}f}, {high:.{decimals}f}]"
