"""The evidence lower bound's parts against closed forms and enumeration."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
import torch

from metarl.maths.distributions import DiagonalGaussian
from metarl.maths.variational import Subset, chain_kl, draw_subset


def test_the_first_belief_is_measured_from_the_standard_normal_and_each_next_from_the_last() -> (
    None
):
    """By hand, in one dimension: KL = ½ (s² + d² − 1) − log s in units of the prior."""
    mean = torch.tensor([[[1.0]], [[3.0]]], dtype=torch.float64)
    log_std = torch.tensor([[[math.log(2.0)]], [[math.log(0.5)]]], dtype=torch.float64)
    first = 0.5 * (4.0 + 1.0 - 1.0) - math.log(2.0)
    second = 0.5 * (0.25**2 + 1.0**2 - 1.0) - math.log(0.25)  # σ 0.5 and a shift of 2, over σ 2
    found = chain_kl(DiagonalGaussian(mean, log_std))
    torch.testing.assert_close(found, torch.tensor([[first], [second]], dtype=torch.float64))


def test_the_kl_is_that_of_an_integral() -> None:
    rng = np.random.default_rng(1)
    mean, log_std = torch.from_numpy(rng.standard_normal((2, 4, 1, 1)))
    found = chain_kl(DiagonalGaussian(mean, 0.3 * log_std)).flatten()
    x = torch.linspace(-30.0, 30.0, 400_001, dtype=torch.float64).unsqueeze(-1)
    before = torch.zeros(1, dtype=torch.float64), torch.zeros(1, dtype=torch.float64)
    for t in range(4):
        q = DiagonalGaussian(mean[t, 0], 0.3 * log_std[t, 0])
        log_q, log_p = q.log_prob(x), DiagonalGaussian(*before).log_prob(x)
        integral = torch.trapezoid(log_q.exp() * (log_q - log_p), x.flatten())
        assert float(found[t]) == pytest.approx(float(integral), abs=1e-9)
        before = q.mean, q.log_std


def test_gradients_reach_both_beliefs_of_a_pair() -> None:
    mean = torch.zeros(2, 1, 3, requires_grad=True)
    log_std = torch.zeros(2, 1, 3, requires_grad=True)
    kl = chain_kl(DiagonalGaussian(mean + torch.tensor([[[0.0]], [[1.0]]]), log_std))
    (gradient,) = torch.autograd.grad(kl[1].sum(), mean)
    assert gradient[0].abs().min() > 0.5
    assert gradient[1].abs().min() > 0.5


def test_all_steps_are_a_subset_of_weight_one() -> None:
    found = draw_subset(np.random.default_rng(1), torch.tensor([4, 2]), None)
    assert found.weight.tolist() == [[1, 1], [1, 1], [1, 0], [1, 0]]
    assert sorted(found.steps[:, 0].tolist()) == [0, 1, 2, 3]
    assert sorted(found.steps[:2, 1].tolist()) == [0, 1]
    more = draw_subset(np.random.default_rng(1), torch.tensor([4, 2]), 9)
    assert all(torch.equal(a, b) for a, b in zip(found, more, strict=True))


def test_every_subset_is_as_probable_as_every_other_and_padding_is_never_taken() -> None:
    rng, lengths = np.random.default_rng(2), torch.tensor([4, 3])
    drawn = [draw_subset(rng, lengths, 2) for _ in range(6000)]
    for lane, length in enumerate(lengths.tolist()):
        sets = [tuple(sorted(d.steps[:, lane].tolist())) for d in drawn]
        possible = list(itertools.combinations(range(length), 2))
        assert set(sets) == set(possible)
        shares = np.array([sets.count(each) / len(sets) for each in possible])
        assert np.abs(shares - 1 / len(possible)).max() < 0.02
        assert {d.weight[0, lane].item() for d in drawn} == {length / 2}


def test_the_weighted_double_sum_has_the_full_one_for_its_mean() -> None:
    """Over all pairs of subsets, by enumeration: exactly."""
    x = torch.from_numpy(np.random.default_rng(3).standard_normal((4, 4)))
    sets = list(itertools.combinations(range(4), 2))
    sums = []
    for terms, steps in itertools.product(sets, sets):
        subsets = [
            Subset(torch.tensor(s).unsqueeze(1), torch.full((2, 1), 2.0)) for s in (terms, steps)
        ]
        rows = subsets[0].take(x.unsqueeze(1))[:, 0]  # [T, 4]
        chosen = subsets[1].take(rows.T.unsqueeze(1))[:, 0].T  # [T, K]
        weights = (subset.weight[:, 0].double() for subset in subsets)
        sums.append(torch.einsum("t,k,tk->", *weights, chosen))
    assert float(torch.stack(sums).mean()) == pytest.approx(float(x.sum()), abs=1e-12)
