"""Statistics of several seeds: hand-computed numbers, stored examples, simulated coverage."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest

from metarl.evaluation.seed_statistics import (
    difference_interval,
    gain_verdict,
    iqm_interval,
    mean_interval,
    paired_verdict,
    pooled_iqm,
    probability_of_improvement,
)
from metarl.evaluation.statistics import bootstrap_interval, iqm

RNG = np.random.default_rng

X = np.array(
    [
        [0.92, 0.31, 1.40],
        [1.05, 0.12, 1.10],
        [0.70, 0.55, 1.75],
        [1.21, 0.44, 0.96],
        [0.88, 0.27, 1.33],
    ]
)
Y = np.array([[0.81, 0.35, 1.02], [0.95, 0.05, 1.21], [0.66, 0.28, 0.87], [1.02, 0.19, 1.15]])


def test_pooled_iqm_by_hand() -> None:
    returns = np.array([[100.0, 0.0, 1.0, 2.0], [3.0, 4.0, 5.0, -70.0]])
    assert pooled_iqm(returns) == (1 + 2 + 3 + 4) / 4
    np.testing.assert_array_equal(pooled_iqm(np.stack([returns, -returns])), [2.5, -2.5])


def test_improvement_by_hand() -> None:
    x, y = np.array([[1.0, 5.0], [3.0, 5.0]]), np.array([[2.0, 5.0], [0.0, 6.0], [1.0, 4.0]])
    # Task 0: 1 beats 0, ties 1, loses to 2: 1.5; 3 beats all: 3; of 6. Task 1, twice: ½ + 0 + 1.
    assert probability_of_improvement(x, y).value == pytest.approx((4.5 / 6 + 3 / 6) / 2)
    assert probability_of_improvement(y, x).value == pytest.approx(1 - (4.5 / 6 + 3 / 6) / 2)
    assert probability_of_improvement(x, x).value == 0.5


# By a script of its own, in plain Python: the IQM as the mean of the sorted values 3 to 11 of 15 (a
# quarter of 15, rounded down, off either end), wins and half the ties counted over all pairs.
STORED = {"iqm": 0.8678, "improvement": 0.7000}


def test_stored_examples() -> None:
    assert pooled_iqm(X) == pytest.approx(STORED["iqm"], abs=5e-5)
    found = probability_of_improvement(X, Y).value
    assert found == pytest.approx(STORED["improvement"], abs=5e-5)


def test_one_seed_is_the_interval_over_tasks() -> None:
    returns = RNG(1).normal(size=(1, 40))
    assert mean_interval(returns) == bootstrap_interval(returns[0])
    assert iqm_interval(returns) == bootstrap_interval(returns[0], iqm)
    other = RNG(2).normal(size=(1, 40))
    assert difference_interval(returns, other) == bootstrap_interval(returns[0] - other[0])
    share = probability_of_improvement(returns, other)
    assert share.value == (returns > other).mean()


def test_seeds_and_tasks_both_widen_an_interval() -> None:
    tasks, seeds = np.linspace(-1, 1, 40)[None, :], np.linspace(-1, 1, 10)[:, None]

    def width(returns: np.ndarray) -> float:
        low, high = mean_interval(returns)
        return high - low

    # By hand: 2·t·s/√n with the Student quantile of n − 1 (2.0227 and 2.2622).
    by_tasks = 2 * 2.0227 * tasks.std(ddof=1) / math.sqrt(40)
    by_seeds = 2 * 2.2622 * seeds.std(ddof=1) / math.sqrt(10)
    assert width(tasks + 0 * seeds) == pytest.approx(by_tasks, rel=0.08)
    assert width(seeds + 0 * tasks) == pytest.approx(by_seeds, rel=0.12)
    assert width(tasks + seeds) > by_seeds > by_tasks
    assert mean_interval(np.full((3, 5), 7.0)) == (7.0, 7.0)
    assert difference_interval(np.full((3, 5), 7.0), np.full((2, 5), 4.0)) == (3.0, 3.0)


def test_a_difference_is_paired_by_task() -> None:
    # Tasks differ by hundreds, the groups by five: unpaired it would be lost.
    tasks = np.linspace(-300.0, 0.0, 40)
    a = tasks + 5.0 + RNG(0).normal(0, 1, (4, 40))
    b = tasks + RNG(1).normal(0, 1, (3, 40))
    low, high = difference_interval(a, b)
    assert 4.0 < low < a.mean() - b.mean() < high < 6.0
    mirrored = difference_interval(b, a)
    assert mirrored == pytest.approx((-high, -low), rel=0.02)
    assert paired_verdict(a, b, ("better", "worse", "?")).verdict.startswith("better: +")
    assert paired_verdict(b, a, ("better", "worse", "?")).verdict.startswith("worse: -")
    noise = 1000 * RNG(2).normal(size=(4, 40))
    assert paired_verdict(a + noise, b, ("better", "worse", "?")).verdict.startswith("?: ")


def test_a_gain_is_paired_by_seed_too() -> None:
    seeds = np.array([[-200.0], [0.0], [200.0]])
    before = seeds + RNG(0).normal(0, 1, (3, 40))
    assert gain_verdict(before, before + 2.0).verdict == "adaptation helps: +2.0 [2.0, 2.0]"
    assert gain_verdict(before, before).verdict.startswith("no clear effect")


def test_probability_of_improvement_and_its_interval() -> None:
    a, b = RNG(3).normal(0.7, 1, (8, 40)), RNG(4).normal(0.0, 1, (6, 40))
    found = probability_of_improvement(a, b)
    by_hand = np.mean(
        [(x > y) + 0.5 * (x == y) for t in range(40) for x in a[:, t] for y in b[:, t]]
    )
    assert found.value == pytest.approx(by_hand)
    assert 0.5 < found.ci95[0] < 0.69 < found.ci95[1] < 0.85  # Φ(0.7/√2) = 0.69
    other = probability_of_improvement(b, a)
    assert other.value == pytest.approx(1 - found.value)
    sure = probability_of_improvement(a + 100, b)
    assert (sure.value, *sure.ci95) == pytest.approx((1.0, 1.0, 1.0))


# --- coverage ---------------------------------------------------------------------------------


def lognormal(rng: np.random.Generator, size: tuple[int, int], sigma: float) -> np.ndarray:
    """Skewed, mean 0."""
    return rng.lognormal(0.0, sigma, size) - math.exp(sigma**2 / 2)


Draw = Callable[[np.random.Generator, int], np.ndarray]
CROSSED: dict[str, Draw] = {
    "tasks and seeds": lambda rng, s: (
        rng.normal(size=(1, 40)) + 0.3 * rng.normal(size=(s, 1)) + rng.normal(size=(s, 40))
    ),
    "seeds alone": lambda rng, s: rng.normal(size=(s, 1)) + 0.1 * rng.normal(size=(s, 40)),
    "neither": lambda rng, s: rng.normal(size=(s, 40)),
    "skewed tasks": lambda rng, s: (
        lognormal(rng, (1, 40), 0.75) + 0.1 * rng.normal(size=(s, 1)) + rng.normal(size=(s, 40))
    ),
    "skewed seeds": lambda rng, s: (
        rng.normal(size=(1, 40))
        + rng.exponential(0.5, (s, 1))
        - 0.5
        + lognormal(rng, (s, 40), 0.75)
    ),
}


@pytest.mark.parametrize("shape", CROSSED)
def test_coverage_with_ten_seeds_and_forty_tasks(shape: str) -> None:
    """Nominal 95 % within 3 points; the simulation's own standard error is 0.8 points."""
    rng = RNG(7)
    intervals = [mean_interval(CROSSED[shape](rng, 10), resamples=400) for _ in range(800)]
    covered = np.mean([low <= 0 <= high for low, high in intervals])
    assert 0.92 <= covered <= 0.98


def test_few_seeds_whose_differences_are_all_residual_leave_the_interval_finite() -> None:
    """Satterthwaite's ½ a degree of freedom here would make it 25 times as wide as two degrees."""
    residual = RNG(0).normal(size=(3, 40))
    residual -= residual.mean(axis=0)
    residual -= residual.mean(axis=1, keepdims=True)
    c = float((residual**2).sum()) / (2 * 39) / (3 * 40)
    seeds = np.array([[-1.0], [0.0], [1.0]]) * math.sqrt(3 * c)  # their variance of the mean is c
    low, high = mean_interval(residual + seeds)
    assert 2 * math.sqrt(c) < high - low < 10 * math.sqrt(c)


def test_coverage_of_a_difference_of_two_groups() -> None:
    rng = RNG(8)
    covered = 0
    for _ in range(600):
        tasks = 5 * rng.normal(size=(1, 40))
        a, b = (tasks + CROSSED["tasks and seeds"](rng, s) for s in (10, 5))
        low, high = difference_interval(a, b, resamples=400)
        covered += low <= 0 <= high
    assert 0.92 <= covered / 600 <= 0.98


def test_coverage_of_the_pooled_iqm() -> None:
    rng = RNG(9)
    covered = 0
    for _ in range(300):
        low, high = iqm_interval(CROSSED["tasks and seeds"](rng, 10), resamples=400)
        covered += low <= 0 <= high
    assert 0.92 <= covered / 300 <= 0.98


def test_refusals() -> None:
    with pytest.raises(ValueError, match=r"not an array of shape \[3, 0\]"):
        mean_interval(np.zeros((3, 0)))
    with pytest.raises(ValueError, match="seed 1 on task 2 is nan"):
        mean_interval(np.array([[0.0, 1.0, 2.0], [0.0, 1.0, np.nan]]))
    with pytest.raises(ValueError, match="same tasks: 3 of one, 2"):
        difference_interval(np.zeros((2, 3)), np.zeros((2, 2)))
    with pytest.raises(ValueError, match="same seeds"):
        gain_verdict(np.zeros((2, 3)), np.zeros((3, 3)))
