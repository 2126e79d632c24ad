"""Targets of Q-learning against a slow loop, an identity, and backward induction."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch

from metarl.maths.q_learning import double_q_values, n_step_targets
from metarl.maths.soft_q import soft_targets

GAMMA = 0.9


def some_trials(seed: int = 0) -> tuple[torch.Tensor, ...]:
    """Rewards, values, valid and ended of trials of 1, 4, 6 and 6 steps, in float64."""
    rng = np.random.default_rng(seed)
    lengths = np.array([1, 4, 6, 6])
    valid = torch.from_numpy(np.arange(6)[:, None] < lengths)
    ended = torch.zeros_like(valid)
    ended[0, 0] = ended[5, 2] = True  # the others go on behind their last step
    rewards = torch.from_numpy(rng.standard_normal((6, 4)))
    values = torch.from_numpy(rng.standard_normal((7, 4)))
    return rewards, values, valid, ended


@pytest.mark.parametrize("n", [1, 2, 3, 5, 6, 9])
def test_n_step_targets_are_those_of_a_slow_loop(n: int) -> None:
    rewards, values, valid, ended = some_trials()
    values[1, 0] = values[6, 2] = np.nan  # what comes after an end counts for nothing
    found = n_step_targets(rewards, values, valid, ended, GAMMA, n)
    for lane in range(4):
        length = int(valid[:, lane].sum())
        for t in range(length):
            m = min(n, length - t)
            y = sum(GAMMA**k * float(rewards[t + k, lane]) for k in range(m))
            if not ended[t + m - 1, lane]:
                y += GAMMA**m * float(values[t + m, lane])
            assert float(found[t, lane]) == pytest.approx(y, rel=1e-12)


def test_one_step_without_entropy_is_the_soft_target() -> None:
    rewards, values, valid, ended = some_trials()
    soft = soft_targets(rewards, ended, values[1:].expand(2, -1, -1), 0 * rewards, 0.0, GAMMA)
    found = n_step_targets(rewards, values, valid, ended, GAMMA, 1)
    assert torch.equal(found[valid], soft[valid])


def test_one_network_chooses_and_the_other_judges() -> None:
    q = torch.tensor([[1.0, 3.0, 2.0], [0.0, -1.0, -2.0]])
    target_q = torch.tensor([[9.0, 5.0, 7.0], [4.0, 8.0, 8.0]])
    assert double_q_values(q, target_q).tolist() == [5.0, 4.0]
    with pytest.raises(ValueError, match="shapes differ"):
        double_q_values(q, target_q[:1])


def test_shapes_that_do_not_fit_are_refused() -> None:
    rewards, values, valid, ended = some_trials()
    with pytest.raises(ValueError, match="shapes do not fit"):
        n_step_targets(rewards, values[:-1], valid, ended, GAMMA, 1)


def test_iterated_targets_are_the_optimum_of_a_tree() -> None:
    """All trials of four binary choices; a memory is where in the tree they have led to."""
    steps, rng = 4, np.random.default_rng(3)
    reward = {
        n: rng.standard_normal(2) for k in range(steps) for n in itertools.product(*[(0, 1)] * k)
    }
    after = {n: rng.standard_normal() for n in itertools.product(*[(0, 1)] * steps)}
    trials = list(after)
    best = dict(after)
    for k in reversed(range(steps)):
        for node in itertools.product(*[(0, 1)] * k):
            best[node] = max(reward[node][a] + GAMMA * best[(*node, a)] for a in (0, 1))
    rewards = torch.tensor([[reward[t[:k]][t[k]] for t in trials] for k in range(steps)]).double()
    table = {node: np.zeros(2) for node in reward} | {n: np.full(2, v) for n, v in after.items()}
    valid = torch.ones(steps, len(trials), dtype=torch.bool)
    for _ in range(steps):
        q = torch.from_numpy(np.array([[table[t[:k]] for t in trials] for k in range(steps + 1)]))
        values = double_q_values(q, q)
        y = n_step_targets(rewards, values, valid, ~valid, GAMMA, 1)
        for (k, trial), target in zip(
            itertools.product(range(steps), trials), y.flatten().tolist(), strict=True
        ):
            table[trial[:k]][trial[k]] = target
    for node in reward:
        assert table[node].max() == pytest.approx(best[node], rel=1e-12)
