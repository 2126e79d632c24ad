"""PPO and Adam, against numbers worked out slowly in float64."""

from __future__ import annotations

import math
from dataclasses import fields
from typing import Any

import numpy as np
import pytest
import torch

from metarl.algorithms.settings.rl2 import RL2Settings
from metarl.maths.adam import Adam, AdamState
from metarl.maths.ppo import PPO, Evaluated, PPOData

STEPS, LANES = 5, 8


def rows(seed: int = 0) -> PPOData:
    g = torch.Generator().manual_seed(seed)

    def draw() -> torch.Tensor:
        return torch.randn(STEPS, LANES, generator=g, dtype=torch.float64)

    lengths = torch.tensor([5, 5, 3, 2, 5, 1, 4, 5])
    valid = torch.arange(STEPS).unsqueeze(1) < lengths
    return PPOData(draw(), draw(), draw(), draw(), valid)


def make_ppo(**changes: Any) -> PPO:
    return PPO(**(RL2Settings().model_dump(include={f.name for f in fields(PPO)}) | changes))


def linear(x: torch.Tensor, lanes: torch.Tensor) -> Evaluated:
    """A toy policy and critic: everything is linear in three parameters, and differs by step."""
    g = torch.Generator().manual_seed(9)
    slopes = torch.randn(3, STEPS, LANES, 3, generator=g, dtype=torch.float64)[:, :, lanes]
    return Evaluated(*(0.3 * slopes @ x + rows(4)[0][:, lanes]))


def slow_loss(ppo: PPO, x: list[float], old: PPOData, lanes: list[int]) -> float:
    """Step by step, in plain Python."""
    new = linear(torch.tensor(x, dtype=torch.float64), torch.tensor(lanes))
    total, count = 0.0, 0
    for n, lane in enumerate(lanes):
        for s in range(STEPS):
            if not old.valid[s, lane]:
                continue
            count += 1
            advantage = float(old.advantages[s, lane])
            ratio = math.exp(float(new.log_probs[s, n]) - float(old.log_probs[s, lane]))
            near = min(max(ratio, 1 - ppo.clip), 1 + ppo.clip)
            value, before = float(new.values[s, n]), float(old.values[s, lane])
            error = (value - float(old.returns[s, lane])) ** 2
            if ppo.value_clip is not None:
                moved = before + min(max(value - before, -ppo.value_clip), ppo.value_clip)
                error = max(error, (moved - float(old.returns[s, lane])) ** 2)
            total -= min(ratio * advantage, near * advantage)
            total += ppo.value_weight * 0.5 * error
            total -= ppo.entropy_weight * float(new.entropies[s, n])
    return total / count


@pytest.mark.parametrize("value_clip", [None, 0.3])
def test_loss_and_gradient_against_a_slow_loop(value_clip: float | None) -> None:
    ppo = make_ppo(clip=0.2, value_clip=value_clip, value_weight=0.7, entropy_weight=0.05)
    lanes = [6, 0, 2, 3, 5]
    leaf = torch.tensor([0.4, -0.3, 0.2], dtype=torch.float64, requires_grad=True)
    index = torch.tensor(lanes)
    loss, parts = ppo.loss(linear(leaf, index), rows().lanes(index))
    assert loss.item() == pytest.approx(slow_loss(ppo, leaf.tolist(), rows(), lanes), rel=1e-12)
    (gradient,) = torch.autograd.grad(loss, leaf)
    h = 1e-5
    for i in range(3):
        ends = []
        for sign in (1.0, -1.0):
            x = leaf.tolist()
            x[i] += sign * h
            ends.append(slow_loss(ppo, x, rows(), lanes))
        assert float(gradient[i]) == pytest.approx((ends[0] - ends[1]) / (2 * h), rel=1e-7)
    assert 0.0 < float(parts["clip_fraction"]) < 1.0


def test_nothing_has_moved_before_an_update() -> None:
    old = rows()
    new = Evaluated(old.log_probs, old.values, old.values)
    _, parts = make_ppo().loss(new, old)
    assert float(parts["kl/update"]) == 0.0
    assert float(parts["clip_fraction"]) == 0.0
    mean = (old.advantages * old.valid).sum() / old.valid.sum()
    assert float(parts["loss/policy"]) == pytest.approx(-float(mean), rel=1e-12)


def test_adam_is_torchs() -> None:
    g = torch.Generator().manual_seed(0)
    x = torch.randn(6, generator=g, dtype=torch.float64)
    theirs = x.clone().requires_grad_()
    optimizer = torch.optim.Adam([theirs], lr=0.1, eps=1e-5)
    state = AdamState.fresh(x)
    for step in range(5):
        gradient = torch.randn(6, generator=g, dtype=torch.float64)
        theirs.grad = gradient.clone()
        optimizer.param_groups[0]["lr"] = 0.1 / (step + 1)
        optimizer.step()
        x, state = Adam().step(x, gradient, state, 0.1 / (step + 1))
    torch.testing.assert_close(x, theirs.detach(), rtol=1e-12, atol=1e-14)
    assert state.step == 5


def update(ppo: PPO, evaluate: Any = linear, lr: float = 0.01, seed: int = 0) -> Any:
    """From the policy that played."""
    x = torch.tensor([0.4, -0.3, 0.2], dtype=torch.float64)
    old = rows()._replace(log_probs=linear(x, torch.arange(LANES)).log_probs)
    rng = np.random.default_rng(seed)
    return ppo.update(x, AdamState.fresh(x), old, evaluate, lr, rng)


def test_minibatches_are_whole_lanes_dealt_anew_in_every_epoch() -> None:
    dealt: list[list[int]] = []

    def evaluate(x: torch.Tensor, lanes: torch.Tensor) -> Evaluated:
        dealt.append(lanes.tolist())
        return linear(x, lanes)

    _, state, metrics = update(make_ppo(epochs=3, minibatches=3), evaluate)
    assert [len(lanes) for lanes in dealt] == [3, 3, 2] * 3
    epochs = [[n for lanes in dealt[i : i + 3] for n in lanes] for i in (0, 3, 6)]
    assert all(sorted(epoch) == list(range(LANES)) for epoch in epochs)
    assert epochs[0] != epochs[1] != epochs[2]
    assert state.step == metrics["update_steps"] == 9


def test_the_same_stream_gives_the_same_update() -> None:
    assert torch.equal(update(make_ppo())[0], update(make_ppo())[0])
    assert not torch.equal(update(make_ppo())[0], update(make_ppo(), seed=1)[0])


def test_long_gradients_are_shortened() -> None:
    short = make_ppo(epochs=1, minibatches=1, max_gradient_norm=1e-3)
    free = make_ppo(epochs=1, minibatches=1, max_gradient_norm=1e9)
    _, a, metrics = update(short)
    _, b, _ = update(free)
    norm = metrics["gradient_norm"]
    assert norm > 0.1
    torch.testing.assert_close(a.mean * norm / 1e-3, b.mean, rtol=1e-4, atol=0)


def test_a_target_kl_ends_the_update() -> None:
    free = update(make_ppo(epochs=20, minibatches=1), lr=0.1)
    held = update(make_ppo(epochs=20, minibatches=1, target_kl=0.002), lr=0.1)
    assert free[2]["update_steps"] == 20 > held[2]["update_steps"] >= 2
    assert free[2]["kl/update"] > held[2]["kl/update"] > 0.002  # what ended it is told


def test_no_step_is_taken_by_what_a_minibatch_finds_too_far() -> None:
    seen: list[torch.Tensor] = []

    def evaluate(x: torch.Tensor, lanes: torch.Tensor) -> Evaluated:
        seen.append(x.detach().clone())
        return linear(x, lanes)

    x, _, metrics = update(make_ppo(epochs=20, minibatches=4, target_kl=0.05), evaluate, lr=0.1)
    assert len(seen) == metrics["update_steps"] + 1 < 80
    assert torch.equal(x, seen[-1])
    assert not torch.equal(x, seen[-2])


def test_an_update_may_take_no_step() -> None:
    """The rollout and the update computed π apart: rounding grew in a long memory."""
    ppo = make_ppo(minibatches=4, target_kl=0.05)
    x, _, metrics = update(ppo, lambda x, lanes: linear(x + 9.0, lanes), lr=0.1)
    assert metrics["update_steps"] == 0
    assert metrics["kl/update"] > 0.05
    assert x.tolist() == [0.4, -0.3, 0.2]


def test_by_default_an_update_that_goes_too_far_ends_early() -> None:
    """What keeps a policy whose noise has shrunk from being thrown away by one update."""
    ppo = make_ppo()
    assert update(ppo, lr=0.001)[2]["update_steps"] == ppo.epochs * ppo.minibatches
    assert update(ppo, lr=1.0)[2]["update_steps"] < ppo.epochs * ppo.minibatches


@pytest.mark.parametrize("what", ["loss", "gradient"])
def test_a_number_that_is_none_stops_the_update(what: str) -> None:
    def evaluate(x: torch.Tensor, lanes: torch.Tensor) -> Evaluated:
        new = linear(x, lanes)
        if what == "loss":
            return new._replace(values=new.values * float("nan"))
        root = (x - x.detach()).abs().sum().sqrt()  # 0, with a slope that is none
        return new._replace(values=new.values + root)

    with pytest.raises(FloatingPointError, match=f"the {what} of PPO is not finite"):
        update(make_ppo(), evaluate)
