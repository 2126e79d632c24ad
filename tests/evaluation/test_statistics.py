"""Statistics against hand-computed numbers, stored examples and simulated coverage."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest

from metarl.evaluation.seed_statistics import gain_verdict
from metarl.evaluation.statistics import (
    Statistic,
    Verdict,
    bootstrap_interval,
    iqm,
    mean,
    normalised_scores,
    standard_error_95,
)


def adaptation_verdict(before: np.ndarray, after: np.ndarray) -> Verdict:
    """Of one seed, both [n]."""
    return gain_verdict(before[None], after[None])


EXAMPLE = np.array([-11.2, -3.4, -7.7, -25.1, -4.0, -9.9, -6.3, -14.8, -2.2, -8.5])
STORED_MEAN = (-16.768, -5.290)
STORED_IQM = (-14.800, -4.375)


def test_means_by_hand() -> None:
    values = np.array([100.0, 0.0, 1.0, 2.0, 3.0, 4.0, 5.0, -70.0])
    assert iqm(values) == (1 + 2 + 3 + 4) / 4
    assert iqm(np.array([0.0, 1.0, 2.0, 3.0, 10.0])) == 2.0  # a quarter of 5, rounded down: 1
    assert mean(values) == 45 / 8
    np.testing.assert_array_equal(iqm(np.stack([values, -values])), [2.5, -2.5])


def test_standard_error_by_hand() -> None:
    assert standard_error_95(np.array([1.0, 3.0])) == pytest.approx(1.96)  # s = √2, n = 2
    assert standard_error_95(np.array([0.0, 0.0, 3.0])) == pytest.approx(1.96)  # s = √3, n = 3


def test_interval_of_two_tasks_spans_both() -> None:
    assert bootstrap_interval(np.array([3.0, -1.0])) == (-1.0, 3.0)


def test_interval_stored_example() -> None:
    assert bootstrap_interval(EXAMPLE) == pytest.approx(STORED_MEAN, abs=5e-4)
    assert bootstrap_interval(EXAMPLE, iqm) == pytest.approx(STORED_IQM, abs=5e-4)
    assert bootstrap_interval(EXAMPLE) == bootstrap_interval(EXAMPLE.copy())


def test_interval_agrees_with_normal_theory_for_many_tasks() -> None:
    values = np.random.default_rng(0).normal(5.0, 2.0, 500)
    low, high = bootstrap_interval(values)
    assert (high - low) / 2 == pytest.approx(standard_error_95(values), rel=0.03)
    assert (high + low) / 2 == pytest.approx(values.mean(), abs=0.01)


def test_interval_stays_within_the_data_where_most_tasks_agree() -> None:
    values = np.zeros(40)
    values[:2] = 50.0  # sparse reward: two tasks of forty were solved
    low, high = bootstrap_interval(values)
    assert low == 0.0
    assert 5.0 <= high <= 10.0


# Quartile mean of the exponential: 2·[(1−u)·ln(1−u) + u] from u = 1/4 to 3/4.
EXPONENTIAL_IQM = 2 * (0.25 * math.log(0.25) + 0.75 - 0.75 * math.log(0.75) - 0.25)


def solved(rng: np.random.Generator, size: tuple[int, int]) -> np.ndarray:
    """A sparse reward: nine tasks of ten are solved, for about 90, the tenth earns nothing."""
    return np.where(rng.uniform(size=size) < 0.9, 90 + 3 * rng.normal(size=size), 0.0)


@pytest.mark.parametrize(
    ("draw", "statistic", "truth"),
    [
        (lambda rng, size: rng.normal(size=size), mean, 0.0),
        (lambda rng, size: rng.normal(size=size), iqm, 0.0),
        (lambda rng, size: rng.exponential(size=size), mean, 1.0),
        (lambda rng, size: rng.exponential(size=size), iqm, EXPONENTIAL_IQM),
        (lambda rng, size: rng.standard_t(3, size=size), mean, 0.0),
        (lambda rng, size: rng.choice([-1.0, 1.0], size) + rng.normal(0, 0.1, size), mean, 0.0),
        (lambda rng, size: rng.gamma(0.5, size=size), mean, 0.5),
        (lambda rng, size: rng.lognormal(0, 1, size), mean, math.exp(0.5)),
        (solved, mean, 81.0),
    ],
    ids=[
        *("normal-mean", "normal-iqm", "exponential-mean", "exponential-iqm", "heavy-tails-mean"),
        *("two-peaks-mean", "gamma-mean", "lognormal-mean", "sparse-mean"),
    ],
)
def test_coverage_with_forty_tasks(
    draw: Callable[[np.random.Generator, tuple[int, int]], np.ndarray],
    statistic: Statistic,
    truth: float,
) -> None:
    """Nominal 95 % within 3 points; the simulation's own standard error is 0.6 points."""
    runs = draw(np.random.default_rng(4), (1200, 40))
    intervals = np.array([bootstrap_interval(run, statistic, resamples=400) for run in runs])
    covered = (intervals[:, 0] <= truth) & (truth <= intervals[:, 1])
    assert 0.92 <= covered.mean() <= 0.98


@pytest.mark.parametrize(
    ("shift", "words"), [(5.0, "adaptation helps: +"), (-5.0, "adaptation hurts: -")]
)
def test_verdict_is_paired(shift: float, words: str) -> None:
    # Tasks differ by hundreds, the paired difference by hundredths: unpaired it would be unclear.
    before = np.linspace(-300.0, 0.0, 40)
    after = before + shift + 0.01 * np.cos(np.arange(40))
    verdict = adaptation_verdict(before, after)
    assert verdict.verdict.startswith(words)
    assert verdict.delta == pytest.approx(shift, abs=0.01)
    assert verdict.ci95[0] < verdict.delta < verdict.ci95[1]


def test_verdict_without_effect() -> None:
    difference = np.tile([1.0, -1.0], 20)
    verdict = adaptation_verdict(np.zeros(40), difference)
    assert verdict.verdict.startswith("no clear effect: +0.00 [-0.3")
    assert verdict.ci95[0] < 0 < verdict.ci95[1]
    # Better on average is not yet clearly better, nor worse clearly worse.
    for sign in (1.0, -1.0):
        verdict = adaptation_verdict(np.zeros(40), difference + 0.1 * sign)
        assert verdict.delta == pytest.approx(0.1 * sign)
        assert verdict.verdict.startswith("no clear effect")
    # An agent that does nothing at all
    assert adaptation_verdict(EXAMPLE, EXAMPLE).verdict == "no clear effect: +0.0 [0.0, 0.0]"


def test_verdict_in_words() -> None:
    before = np.zeros(2)  # two tasks: the interval spans their differences
    assert adaptation_verdict(before, np.array([25.94, 30.83])).verdict == (
        "adaptation helps: +28.4 [25.9, 30.8]"
    )
    assert adaptation_verdict(before, np.array([-0.011, -0.033])).verdict == (
        "adaptation hurts: -0.022 [-0.033, -0.011]"
    )
    assert adaptation_verdict(before, np.array([100.0, 300.0])).verdict == (
        "adaptation helps: +200 [100, 300]"
    )


def test_normalised_scores() -> None:
    found = normalised_scores([-20.0, -150.0, -85.0], floor=-150.0, oracle=-20.0)
    assert found == [1.0, 0.0, 0.5]
    assert normalised_scores([-85.0], floor=-20.0, oracle=-20.0) is None
    assert normalised_scores([-85.0], floor=None, oracle=-20.0) is None


def test_refusals() -> None:
    with pytest.raises(ValueError, match="one number for each task"):
        bootstrap_interval(np.zeros(0))
    with pytest.raises(ValueError, match="return of task 1 is nan"):
        bootstrap_interval(np.array([1.0, np.nan]))
    with pytest.raises(ValueError, match="same tasks: 3 of one, 2 of"):
        adaptation_verdict(np.zeros(3), np.zeros(2))
