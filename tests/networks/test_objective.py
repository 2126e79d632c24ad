"""Objectives: what they depend on and what not, learned and written by hand."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from metarl.maths.params import Params
from metarl.networks.objective import ObjectiveNetwork, Steps, reinforce

NETWORK = ObjectiveNetwork(width=6, hidden=8)


@pytest.fixture
def params() -> Params:
    drawn = NETWORK.init(np.random.default_rng(1))
    return {name: p.double() for name, p in drawn.items()}


def steps(m: int = 2, t: int = 4, n: int = 3, a: int = 3, seed: int = 0) -> Steps:
    rng = np.random.default_rng(seed)
    draw: Any = lambda *shape: torch.from_numpy(rng.standard_normal(shape))  # noqa: E731
    valid = torch.ones(m, t, n, dtype=torch.bool)
    valid[0, 2:, 1] = False
    rest = [draw(m, t, n) for _ in range(3)]
    return Steps(draw(m, t, n, a), draw(m, t, n, a), *rest, valid, 0.9)


def gradients(params: Params, batch: list[Steps]) -> list[Tensor]:
    leaves = [s.policy_actions.clone().requires_grad_() for s in batch]
    own = [s._replace(policy_actions=leaf) for s, leaf in zip(batch, leaves, strict=True)]
    losses = NETWORK(params, own)
    total = sum(s.mean(each).sum() for s, each in zip(own, losses, strict=True))
    assert isinstance(total, Tensor)
    return list(torch.autograd.grad(total, leaves))


def test_the_order_of_action_dimensions_does_not_matter(params: Params) -> None:
    one = steps()
    order = torch.tensor([2, 0, 1])
    other = one._replace(
        actions=one.actions[..., order], policy_actions=one.policy_actions[..., order]
    )
    torch.testing.assert_close(NETWORK(params, [other]), NETWORK(params, [one]))
    (found,), (expected,) = gradients(params, [other]), gradients(params, [one])
    torch.testing.assert_close(found, expected[..., order])


def test_dimensions_that_are_there_twice_say_nothing_new(params: Params) -> None:
    one = steps()
    twice = one._replace(
        actions=one.actions.repeat(1, 1, 1, 2), policy_actions=one.policy_actions.repeat(1, 1, 1, 2)
    )
    torch.testing.assert_close(NETWORK(params, [twice]), NETWORK(params, [one]))


def test_policies_of_several_sizes_are_judged_together_as_each_alone(params: Params) -> None:
    batch = [steps(), steps(m=1, t=6, n=2, a=1, seed=1), steps(m=3, t=1, n=5, a=2, seed=2)]
    together = gradients(params, batch)
    for s, found, loss in zip(batch, together, NETWORK(params, batch), strict=True):
        torch.testing.assert_close(found, gradients(params, [s])[0])
        (alone,) = NETWORK(params, [s])
        torch.testing.assert_close(loss[s.valid], alone[s.valid])


def test_each_policy_is_judged_by_its_own_experience(params: Params) -> None:
    one = steps()
    other = one._replace(rewards=one.rewards.clone())
    other.rewards[1] += torch.randn(4, 3, dtype=torch.float64)
    (before,), (after,) = NETWORK(params, [one]), NETWORK(params, [other])
    torch.testing.assert_close(after[0], before[0])
    assert not torch.allclose(after[1], before[1])


def test_it_reads_from_the_end_what_is_valid(params: Params) -> None:
    one = steps()
    other = one._replace(
        actions=one.actions.clone(), policy_actions=torch.where(one.valid[..., None], one[1], 9.0)
    )
    (before,), (padded) = NETWORK(params, [one]), NETWORK(params, [other])[0]
    torch.testing.assert_close(padded[one.valid], before[one.valid])
    other.actions[1, 2] += 0.5  # what follows on the steps before, and not on the last
    (after,) = NETWORK(params, [other])
    torch.testing.assert_close(after[1, 3], before[1, 3])
    assert not torch.isclose(after[1, :3], before[1, :3]).any()
    (found,) = gradients(params, [other])
    assert not found[~one.valid].any()


def test_the_units_of_rewards_do_not_matter(params: Params) -> None:
    one = steps()
    dear = one._replace(
        rewards=1e3 * one.rewards, values=1e3 * one.values, next_values=1e3 * one.next_values
    )
    torch.testing.assert_close(NETWORK(params, [dear]), NETWORK(params, [one]))
    torch.testing.assert_close(reinforce([dear]), reinforce([one]))


def test_rewards_that_are_all_the_same_are_no_news(params: Params) -> None:
    one = steps()
    same, none = (one._replace(rewards=torch.full_like(one.rewards, r)) for r in (0.1, 0.0))
    constant, zero = (torch.zeros_like(one.rewards) for _ in range(2))
    flat = [s._replace(values=constant, next_values=zero) for s in (same, none)]
    (found,) = NETWORK(params, [flat[0]])
    assert found.isfinite().all()
    (found,) = NETWORK(params, [flat[1]])
    assert found.isfinite().all()


def test_it_is_differentiable_twice(params: Params) -> None:
    one = steps(m=1, t=3, n=2, a=2)

    def loss(actions: Tensor, weight: Tensor) -> Tensor:
        own = one._replace(policy_actions=actions)
        return own.mean(NETWORK(params | {"action0.weight": weight}, [own])[0]).sum()

    inputs = (one.policy_actions.requires_grad_(), params["action0.weight"].requires_grad_())
    assert torch.autograd.gradgradcheck(loss, inputs)


def test_reinforce_follows_advantages_that_see_beyond_a_time_limit() -> None:
    """One sequence of two steps by hand: δ = (1 + .5·2 − 1, −1 + .5·4 − 2) = (1, −1)."""
    shape = (1, 2, 1)
    one = Steps(
        actions=torch.tensor([0.5, -0.5]).view(1, 2, 1, 1),
        policy_actions=torch.tensor([0.0, 0.5]).view(1, 2, 1, 1),
        rewards=torch.tensor([1.0, -1.0]).view(shape),
        values=torch.tensor([1.0, 2.0]).view(shape),
        next_values=torch.tensor([2.0, 4.0]).view(shape),
        valid=torch.ones(shape, dtype=torch.bool),
        discount=0.5,
    )
    advantages = torch.tensor([1.0 - 0.5 * 0.8, -1.0])
    scale = advantages.square().mean().sqrt()
    (found,) = reinforce([one], gae_lambda=0.8)
    torch.testing.assert_close(found.flatten(), torch.tensor([0.25, 1.0]) * advantages / scale)
    (ended,) = reinforce([one._replace(next_values=torch.tensor([2.0, 0.0]).view(shape))], 0.8)
    assert ended[0, 1, 0] < found[0, 1, 0]  # −1 − 2: nothing follows on an end
