"""Statistics of several runs (training seeds) that were measured on the same tasks.

Returns are arrays [S seeds, n tasks]. Seeds and tasks are crossed: every seed plays every task, so
a difference between seeds and a difference between tasks both move the mean, and intervals resample
both (the "pigeonhole bootstrap" of Owen 2007). Where there is one seed only, intervals are over
tasks, and speak of that one agent; of one task there are none.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from scipy import stats

from metarl.evaluation.measures import RETURN, Measure
from metarl.evaluation.statistics import (
    BOOTSTRAP_SEED,
    RESAMPLES,
    STUDENT_FLOOR,
    Interval,
    Verdict,
    bootstrap_interval,
    iqm,
    judge,
)

FEW_SEEDS = 5
"""Below as many seeds a report says "few seeds"."""
IQM_RESAMPLES = 2_000
_NORMAL = float(stats.norm.ppf(0.975))


def mean_interval(returns: np.ndarray, resamples: int = RESAMPLES) -> Interval | None:
    """95 % interval of the mean over seeds and tasks, returns [S, n]; see :func:`_crossed`."""
    return _crossed([(1.0, _checked(returns))], resamples)


def difference_interval(
    a: np.ndarray, b: np.ndarray, resamples: int = RESAMPLES
) -> Interval | None:
    """95 % interval of mean(a) − mean(b), a [S_a, n] and b [S_b, n] on the same n tasks.

    The seeds of a and of b are resampled apart, the tasks together.
    """
    a, b = _paired(a, b)
    return _crossed([(1.0, a), (-1.0, b)], resamples)


def pooled_iqm(returns: np.ndarray) -> np.ndarray:
    """Mean of the middle half of all S·n returns, [..., S, n] -> [...] (Agarwal et al. 2021)."""
    returns = np.asarray(returns, dtype=np.float64)
    return iqm(returns.reshape(*returns.shape[:-2], -1))


def iqm_interval(returns: np.ndarray, resamples: int = IQM_RESAMPLES) -> Interval | None:
    """95 % interval of :func:`pooled_iqm`, returns [S, n].

    Quantiles of the IQM of resampled seeds × resampled tasks, stretched about the IQM by the
    factor that :func:`_crossed` finds for the mean of the same returns.
    """
    returns = _checked(returns)
    if len(returns) == 1:
        return bootstrap_interval(returns[0], iqm)
    if returns.shape[1] == 1:
        return None
    (s, n), rng = returns.shape, _generator(*returns.shape)
    seeds, tasks = rng.integers(s, size=(resamples, s)), rng.integers(n, size=(resamples, n))
    drawn = returns[seeds[:, :, None], tasks[:, None, :]]  # [resamples, S, n]
    factor = _stretch([(1.0, returns)], drawn.mean(axis=(1, 2)))
    value = float(pooled_iqm(returns))
    low, high = np.quantile(pooled_iqm(drawn), [0.025, 0.975])
    return value - factor * (value - float(low)), value + factor * (float(high) - value)


def paired_verdict(
    a: np.ndarray, b: np.ndarray, words: tuple[str, str, str], resamples: int = RESAMPLES
) -> Verdict:
    """The verdict on mean(a) − mean(b), [S_a, n] and [S_b, n]: the same tasks, other seeds."""
    a, b = _paired(a, b)
    return judge(float(a.mean() - b.mean()), difference_interval(a, b, resamples), words)


def gain_verdict(before: np.ndarray, after: np.ndarray, by: Measure = RETURN) -> Verdict:
    """Did adaptation help? before and after [S, n]: the same seeds and the same tasks.

    The difference is after − before whatever the measure; less of an error is a help.
    """
    before, after = _paired(before, after)
    if before.shape != after.shape:
        raise ValueError("A gain needs the same seeds before and after.")
    gain = after - before
    words = by.words("adaptation helps", "adaptation hurts", "no clear effect")
    return judge(float(gain.mean()), mean_interval(gain), words)


@dataclass(frozen=True)
class Improvement:
    """Probability of improvement and its 95 % interval, None for one task."""

    value: float
    ci95: Interval | None


def probability_of_improvement(
    x: np.ndarray, y: np.ndarray, resamples: int = RESAMPLES
) -> Improvement:
    """How likely a seed of X beats one of Y on a task: P(X > Y) + ½·P(X = Y), averaged over tasks.

    Per task it is the Mann-Whitney U over S_x·S_y; with one seed each, the share of tasks on which
    X is better (Agarwal et al. 2021, "Deep RL at the Edge of the Statistical Precipice"). Seeds are
    resampled apart, tasks together; the quantiles are stretched by Student's quantiles at the
    degrees of freedom that seeds and tasks leave, and cut at 0 and 1.

    Args:
        x: Returns [S_x, n].
        y: Returns [S_y, n] on the same tasks.
        resamples: Number of bootstrap samples.
    """
    x, y = _paired(x, y)
    wins = _wins(x, y)  # [S_x, S_y, n]
    value = float(wins.mean())
    if wins.shape[:2] == (1, 1):
        return Improvement(value, bootstrap_interval(wins[0, 0]))
    if wins.shape[2] == 1:
        return Improvement(value, None)
    u = _weights(resamples, wins.shape[2], 0)
    w_x, w_y = (_weights(resamples, s, i + 1) for i, s in enumerate(wins.shape[:2]))
    pairs = (w_x[:, :, None] * w_y[:, None, :]).reshape(resamples, -1)  # [resamples, S_x·S_y]
    replicates = ((pairs @ wins.reshape(-1, wins.shape[2])) * u).sum(axis=1)
    # Variance of the mean by each axis alone; what axes share is counted more than once, which
    # errs on the wide side.
    axes = [wins.mean(axis=tuple({0, 1, 2} - {i})) for i in range(3)]
    parts = [(a.var(ddof=1) / len(a), len(a) - 1) for a in axes if len(a) > 1]
    variance = sum(part for part, _ in parts)
    freedom = variance**2 / sum(part**2 / df for part, df in parts) if variance > 0 else math.inf
    factor = float(stats.t.ppf(0.975, freedom)) / _NORMAL
    low, high = np.quantile(replicates, [0.025, 0.975])
    below, above = value - float(low), float(high) - value
    return Improvement(value, (max(value - factor * below, 0.0), min(value + factor * above, 1.0)))


def _wins(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """1 where x is greater, ½ where equal: [S_x, n], [S_y, n] -> [S_x, S_y, n]."""
    x, y = x[:, None, :], y[None, :, :]
    return np.asarray((x > y) + 0.5 * (x == y))


# ---------------------------------------------------------------------------------------------
# The interval of a mean, or of a difference of means, over crossed seeds and tasks

_Signed = Sequence[tuple[float, np.ndarray]]


def _crossed(samples: _Signed, resamples: int) -> Interval | None:
    """95 % interval of Σ sign·mean(Y) over samples Y [S, n] that share their tasks.

    Its variance is Σ A + B − Σ C (two-way random effects without repetition), where A is the
    variance of the mean from seeds, B from tasks, and C what both of them count, the residual; it
    is held to at least half of Σ C. Two intervals are built on it, and the wider is taken at
    either end, as for one run: the percentiles of resampled means, stretched about the mean to that
    variance and to Student's quantiles at Satterthwaite's degrees of freedom; and the studentized
    interval, whose variances are computed anew in each resample. Plain percentiles cover 80 to
    90 % where ten seeds differ more than the tasks do.
    """
    if all(len(y) == 1 for _, y in samples):
        return bootstrap_interval(sum(sign * y[0] for sign, y in samples))
    if samples[0][1].shape[1] == 1:
        return None
    value = float(sum(sign * y.mean() for sign, y in samples))
    samples = [(sign, y - y.mean()) for sign, y in samples]  # the rest is about 0
    n = samples[0][1].shape[1]
    u = _weights(resamples, n, 0)  # [resamples, n], each row sums to 1
    replicates = np.zeros(resamples)
    by_task = np.zeros((resamples, n))
    seeds_star, residual_star = np.zeros(resamples), np.zeros(resamples)
    for index, (sign, y) in enumerate(samples):
        s = len(y)
        w = _weights(resamples, s, index + 1)  # [resamples, S]
        row, column = u @ y.T, w @ y  # means over tasks [resamples, S], over seeds [resamples, n]
        grand = (w * row).sum(axis=1)
        replicates += sign * grand
        by_task += sign * column
        if s > 1:
            between_rows = (w * row**2).sum(axis=1) - grand**2
            between_columns = (u * column**2).sum(axis=1) - grand**2
            total = ((w @ y**2) * u).sum(axis=1) - grand**2
            seeds_star += between_rows / (s - 1)
            residual_star += np.maximum(total - between_rows - between_columns, 0) / (
                (s - 1) * (n - 1)
            )
    tasks_star = ((u * by_task**2).sum(axis=1) - replicates**2) / (n - 1)
    variance, _ = _variance(samples)
    if variance <= 0:
        return value, value
    star = np.maximum(seeds_star + tasks_star - residual_star, residual_star / 2)
    star = np.maximum(star, STUDENT_FLOOR**2 * variance)
    error = math.sqrt(variance)
    t_low, t_high = np.quantile(replicates / np.sqrt(star), [0.025, 0.975])
    low, high = _stretch(samples, replicates) * np.quantile(replicates, [0.025, 0.975])
    return value + min(float(low), -t_high * error), value + max(float(high), -t_low * error)


def _variance(samples: _Signed) -> tuple[float, float]:
    """(variance of Σ sign·mean(Y), Satterthwaite's degrees of freedom)."""
    n = samples[0][1].shape[1]
    by_task = sum(sign * y.mean(axis=0) for sign, y in samples)
    tasks = float(np.var(by_task, ddof=1)) / n
    seeds = residual = 0.0
    squares = tasks**2 / (n - 1)
    for _, y in samples:
        s = len(y)
        if s == 1:
            continue
        row, column = y.mean(axis=1), y.mean(axis=0)
        a = float(row.var(ddof=1)) / s
        left = y - row[:, None] - column[None, :] + y.mean()
        c = float((left**2).sum()) / ((s - 1) * (n - 1)) / (s * n)
        seeds, residual = seeds + a, residual + c
        squares += a**2 / (s - 1) + c**2 / ((s - 1) * (n - 1))
    variance = max(seeds + tasks - residual, residual / 2)
    if squares <= 0:
        return variance, math.inf
    # What is subtracted would push the degrees of freedom below those of the scarcest part.
    scarcest = min([n, *(len(y) for _, y in samples if len(y) > 1)]) - 1
    return variance, max(variance**2 / squares, scarcest)


def _stretch(samples: _Signed, replicates: np.ndarray) -> float:
    """By how much the spread of resampled means falls short of a Student interval's."""
    variance, freedom = _variance(samples)
    spread = float(replicates.var())
    if spread <= 0 or variance <= 0:
        return 1.0
    return float(stats.t.ppf(0.975, freedom)) / _NORMAL * math.sqrt(variance / spread)


@lru_cache(maxsize=16)
def _weights(resamples: int, size: int, stream: int) -> np.ndarray:
    """[resamples, size]: the share of each item in a resample of as many; each row sums to 1."""
    rng = _generator(size, stream)
    weights = rng.multinomial(size, np.full(size, 1 / size), size=resamples) / size
    weights.flags.writeable = False
    return weights


def _generator(*numbers: int) -> np.random.Generator:
    return np.random.default_rng(np.random.SeedSequence((BOOTSTRAP_SEED, *numbers)))


def _checked(returns: np.ndarray) -> np.ndarray:
    returns = np.asarray(returns, dtype=np.float64)
    if returns.ndim != 2 or returns.size == 0:
        raise ValueError(
            "Statistics over seeds and tasks need returns [seeds, tasks], not an array of shape "
            f"{list(returns.shape)}."
        )
    if not np.isfinite(returns).all():
        seed, task = np.argwhere(~np.isfinite(returns))[0]
        raise ValueError(
            f"The return of seed {seed} on task {task} is {returns[seed, task]}; it must be finite."
        )
    return returns


def _paired(a: np.ndarray, b: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    a, b = _checked(a), _checked(b)
    if a.shape[1] != b.shape[1]:
        raise ValueError(
            f"A paired comparison needs the same tasks: {a.shape[1]} of one, {b.shape[1]} of the "
            "other."
        )
    return a, b
