"""Critics side by side are critics alone; the actor acts inside (−1, 1)."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from metarl.maths.adam import Learned
from metarl.networks.critics import Critics, SquashedActor


@pytest.mark.parametrize("outputs", [1, 3])
def test_stacked_critics_are_two_of_torchs_own(outputs: int) -> None:
    critics = Critics(5, (16, 8), outputs=outputs)
    params = critics.init(np.random.default_rng(0))
    observation, action = torch.randn(4, 7, 3), torch.randn(4, 7, 2)
    q = critics(params, observation, action)
    assert q.shape == (2, 4, 7) if outputs == 1 else (2, 4, 7, outputs)
    assert not torch.equal(q[0], q[1])
    for n in range(2):
        layers: list[torch.nn.Module] = []
        for i, (n_in, n_out) in enumerate(((5, 16), (16, 8), (8, outputs))):
            layer = torch.nn.Linear(n_in, n_out)
            layer.weight.data = params[f"critic{i}.weight"][n].T
            layer.bias.data = params[f"critic{i}.bias"][n, 0]
            layers += [layer, torch.nn.ReLU()]
        alone = torch.nn.Sequential(*layers[:-1])(torch.cat([observation, action], -1))
        torch.testing.assert_close(q[n], alone.squeeze(-1) if outputs == 1 else alone)


def test_critics_learn_apart() -> None:
    critics = Critics(2, (4,))
    learned = Learned(critics.init(np.random.default_rng(0)), "cpu")
    before = learned.params
    x = torch.ones(3, 2)
    learned.step("it", lambda p: critics(p, x)[0].sum(), 0.1)
    assert any(not torch.equal(p[0], before[n][0]) for n, p in learned.params.items())
    assert all(torch.equal(p[1], before[n][1]) for n, p in learned.params.items())


def test_the_actor_begins_near_the_middle_and_stays_inside() -> None:
    actor = SquashedActor(4, 2, (32, 32))
    params = actor.init(np.random.default_rng(0))
    x = torch.randn(6, 10, 4)
    pi = actor(params, x[..., :3], x[..., 3:])
    assert pi.mean.shape == pi.log_std.shape == (6, 10, 2)
    assert pi.mean.abs().max() < 0.05
    wild = {name: 1000.0 * p for name, p in params.items()}
    action, log_prob = actor(wild, x).sample_and_log_prob(torch.randn(6, 10, 2))
    assert action.abs().max() < 1.0
    assert log_prob.isfinite().all()


def test_what_is_learned_goes_on_to_the_same_bits() -> None:
    critics, x = Critics(2, (4,)), torch.randn(5, 2)

    def step(learned: Learned) -> None:
        learned.step("the loss", lambda p: (critics(p, x) - 1.0).square().sum(), 0.01)

    one = Learned(critics.init(np.random.default_rng(0)), "cpu")
    for _ in range(3):
        step(one)
    two = Learned(critics.init(np.random.default_rng(1)), "cpu")
    two.load_state_dict(one.state_dict())
    for learned in (one, two):
        step(learned)
    assert all(torch.equal(p, two.params[n]) for n, p in one.params.items())
    with pytest.raises(FloatingPointError, match="the gradient of the loss is not finite"):
        one.step("the loss", lambda p: critics(p, x).sum() * float("inf"), 0.01)
