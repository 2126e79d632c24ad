"""MAML's update against slow, independent computations in float64."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any
from unittest import mock

import numpy as np
import pytest
import torch
from gymnasium import spaces

from metarl.adaptation.inner_loop import Adaptation
from metarl.algorithms.maml import MAML, GradientBatch
from metarl.algorithms.settings.gradient import MAMLSettings
from metarl.maths.losses import log_prob_loss, mean_kl, ratio_loss
from metarl.maths.params import MetaParams, Params, flatten, stack, unflatten
from metarl.maths.samples import Samples, flat_samples
from metarl.maths.trpo import TRPO
from metarl.networks.mlp import MLPPolicy, PolicyPass

F64 = torch.float64
M, N, OBS = 3, 12, 2
CONTINUOUS, DISCRETE = spaces.Box(-1, 1, (2,)), spaces.Discrete(4)
SEVERAL = spaces.MultiDiscrete([2, 3])
OBSERVATION = spaces.Box(-np.inf, np.inf, (OBS,))


WEIGHTS = [(0, None), (1, None), (2, None), (2, (0.0, 3.0, 1.0)), (1, (1.0, 1.0))]
"""Inner steps, and how their returns count in the objective."""
CASES = [(*weights, space) for space in (CONTINUOUS, DISCRETE) for weights in WEIGHTS]
CASES += [(2, (0.0, 3.0, 1.0), SEVERAL)]


def make_maml(action_space: spaces.Space = CONTINUOUS, **changes: Any) -> MAML:
    options = {"hidden_sizes": (5, 4), "tasks": M, "inner_lr": (0.3, 0.2)}
    maml = MAML(MAMLSettings(**(options | changes)), OBSERVATION, action_space, seed=0)
    maml.meta = MetaParams({name: p.to(F64) for name, p in maml.params.items()})
    return maml


def make_samples(seed: int, action_space: spaces.Space = CONTINUOUS) -> Samples:
    """Fixed data with a padded task."""
    g = torch.Generator().manual_seed(seed)
    if isinstance(action_space, spaces.Discrete):
        actions = torch.randint(0, int(action_space.n), (M, N), generator=g)
    elif isinstance(action_space, spaces.MultiDiscrete):
        sizes = action_space.nvec.tolist()
        actions = torch.stack([torch.randint(0, n, (M, N), generator=g) for n in sizes], dim=-1)
    else:
        actions = torch.randn(M, N, 2, generator=g, dtype=F64)
    valid = torch.arange(N) < torch.tensor([[N], [7], [N - 1]])
    weights = valid.to(F64) / valid.sum(1, keepdim=True)
    return Samples(
        torch.randn(M, N, OBS, generator=g, dtype=F64),
        actions,
        torch.randn(M, N, generator=g, dtype=F64),
        weights,
    )


def make_batch(maml: MAML, space: spaces.Space = CONTINUOUS, steps: int = 1) -> GradientBatch:
    inner = [make_samples(k, space) for k in range(steps)]
    data = [*inner, make_samples(99, space)]
    return GradientBatch(1, np.zeros((M, 1)), data, env_steps=0, metrics={}, returns=())


def objective_by_hand(
    maml: MAML, batch: GradientBatch, x: torch.Tensor, old: dict[tuple[int, int], torch.Tensor]
) -> torch.Tensor:
    """The meta-objective one task at a time, unrolled through plain autograd.

    ``old`` is filled with the log-probabilities at the first call, and kept.
    """
    steps = len(batch.data) - 1
    chosen = maml.config.outer_weights or [0.0] * steps + [1.0]
    losses = []
    for m in range(M):
        theta = {name: p.unsqueeze(0) for name, p in unflatten(x, maml.params).items()}
        for k, data in enumerate(batch.data):
            one = pick(data, m)
            distribution = maml.policy(theta, one.observations)
            if chosen[k] > 0:
                log_prob = old.setdefault((m, k), distribution.log_prob(one.actions).detach())
                loss = ratio_loss(distribution, one, log_prob).squeeze()
                losses.append(chosen[k] / sum(chosen) * loss)
            if k < steps:
                loss = log_prob_loss(distribution, one).squeeze()
                g = torch.autograd.grad(loss, list(theta.values()), create_graph=True)
                size = maml.config.inner_lr[min(k, 1)]
                theta = {n: p - size * d for (n, p), d in zip(theta.items(), g, strict=True)}
    return torch.stack(losses).sum() / M


def pick(samples: Samples, m: int) -> Samples:
    """Task m alone, without its padding."""
    keep = samples.weights[m] > 0
    fields = (samples.observations, samples.actions, samples.advantages, samples.weights)
    return Samples(*(x[m : m + 1][:, keep] for x in fields))


def meta_gradient(maml: MAML, batch: GradientBatch) -> torch.Tensor:
    """The gradient that `update` hands to TRPO."""
    return update_of(maml, batch)["gradient"]


def update_of(maml: MAML, batch: GradientBatch) -> dict[str, Any]:
    """Update; what TRPO was asked, and the evaluation where it began."""
    seen: dict[str, Any] = {}
    step = TRPO.step

    def watched(self, x, gradient, fisher_product, evaluate, loss):  # type: ignore[no-untyped-def]
        at_x = evaluate(x)
        seen.update(gradient=gradient, fisher_product=fisher_product, at_x=at_x, loss=loss)
        return step(self, x, gradient, fisher_product, evaluate, loss)

    with mock.patch.object(TRPO, "step", watched):
        maml.update(batch)
    return seen


@pytest.mark.parametrize(("steps", "weights", "space"), CASES)
def test_meta_gradient_against_finite_differences(
    steps: int, weights: tuple[float, ...] | None, space: spaces.Space
) -> None:
    maml = make_maml(space, adaptation_steps=steps, outer_weights=weights)
    batch = make_batch(maml, space, steps)
    x = flatten(maml.params)
    old: dict[tuple[int, int], torch.Tensor] = {}
    objective_by_hand(maml, batch, x.requires_grad_(), old)
    got = meta_gradient(maml, batch)

    def value(y: torch.Tensor) -> float:
        return objective_by_hand(maml, batch, y.detach().requires_grad_(), old).item()

    h = 1e-4
    numeric = torch.empty_like(got)
    for i in range(len(x)):
        e = torch.zeros_like(got)
        e[i] = h
        # Fourth-order central difference: truncation h⁴, so 1e-6 is within reach in float64.
        with torch.no_grad():
            y = x.detach()
        numeric[i] = (8 * (value(y + e) - value(y - e)) - (value(y + 2 * e) - value(y - 2 * e))) / (
            12 * h
        )
    assert float((got - numeric).norm() / numeric.norm()) < 1e-6


@pytest.mark.parametrize(("steps", "weights"), WEIGHTS[1:])
def test_meta_gradient_is_the_unrolled_graphs_and_joint_is_one_task_at_a_time(
    steps: int, weights: tuple[float, ...] | None
) -> None:
    maml = make_maml(adaptation_steps=steps, outer_weights=weights)
    batch = make_batch(maml, steps=steps)
    x = flatten(maml.params).requires_grad_()
    (expected,) = torch.autograd.grad(objective_by_hand(maml, batch, x, {}), x)
    torch.testing.assert_close(meta_gradient(maml, batch), expected, rtol=1e-10, atol=1e-12)


def test_first_order_gradient_drops_the_second_order_term_and_only_that() -> None:
    maml, exact = make_maml(first_order=True), make_maml()
    batch = make_batch(maml)
    theta = maml.adaptation.step(stack(maml.params, M), batch.data[0], 0).adapted
    theta = {name: p.requires_grad_() for name, p in theta.items()}
    distribution = maml.policy(theta, batch.data[-1].observations)
    loss = ratio_loss(
        distribution, batch.data[-1], distribution.log_prob(batch.data[-1].actions).detach()
    )
    g = torch.autograd.grad(loss.mean(), list(theta.values()))
    expected = torch.cat([x.sum(0).reshape(-1) for x in g])
    got = meta_gradient(maml, batch)
    torch.testing.assert_close(got, expected, rtol=1e-10, atol=1e-12)
    assert not torch.allclose(got, meta_gradient(exact, batch), rtol=1e-2)


def test_the_inner_step_of_a_task_does_not_depend_on_the_number_of_tasks() -> None:
    # Trap: a mean over tasks before differentiating stacked parameters scales α by 1/M.
    maml = make_maml()
    data = make_samples(0)
    joint = maml.adaptation.step(stack(maml.params, M), data, 0).adapted
    for m in range(M):
        alone = maml.adaptation.step(stack(maml.params, 1), pick(data, m), 0).adapted
        for name, p in alone.items():
            torch.testing.assert_close(joint[name][m], p[0], rtol=1e-12, atol=1e-14)


def test_the_inner_step_by_hand() -> None:
    """One observation 1, a linear policy μ = w + b: θ' = θ + α Â (a − μ)/σ², and log σ's own."""
    policy = MLPPolicy(1, 1, hidden_sizes=())
    theta: Params = {
        "layer0.weight": torch.tensor([[[0.5]]], dtype=F64),
        "layer0.bias": torch.tensor([[0.25]], dtype=F64),
        "log_std": torch.tensor([[math.log(2.0)]], dtype=F64),
    }
    one = torch.ones(1, 1, 1, dtype=F64)
    samples = Samples(one, 1.75 * one, 3.0 * one[..., 0], one[..., 0])
    adapted = Adaptation(policy, (0.1,)).step(theta, samples, 0).adapted
    # a − μ = 1, σ = 2: ∂ log π/∂μ = 1/4, ∂ log π/∂ log σ = 1/4 − 1.
    assert float(adapted["layer0.weight"]) == pytest.approx(0.5 + 0.1 * 3 / 4, abs=1e-12)
    assert float(adapted["layer0.bias"]) == pytest.approx(0.25 + 0.1 * 3 / 4, abs=1e-12)
    assert float(adapted["log_std"]) == pytest.approx(math.log(2) - 0.1 * 3 * 3 / 4, abs=1e-12)


def test_the_two_estimators_share_the_first_derivative_and_not_the_second() -> None:
    maml = make_maml()
    data = make_samples(0)
    v = {n: torch.ones_like(p) for n, p in stack(maml.params, M).items()}
    steps = [
        make_maml(inner_estimator=e).adaptation.step(
            stack(maml.params, M), data, 0, second_order=True
        )
        for e in ("log_prob", "lvc")
    ]
    for name in v:
        torch.testing.assert_close(steps[0].adapted[name], steps[1].adapted[name])
    products = [flatten(s.push_forward(v)) for s in steps]
    assert not torch.allclose(products[0], products[1], rtol=1e-2)


@pytest.mark.parametrize(("steps", "weights", "space"), CASES)
def test_fisher_product_is_the_hessian_of_the_kl_between_adapted_policies(
    steps: int, weights: tuple[float, ...] | None, space: spaces.Space
) -> None:
    maml = make_maml(space, adaptation_steps=steps, outer_weights=weights)
    batch = make_batch(maml, space, steps)
    x = flatten(maml.params)
    params = dict(maml.params)
    fisher_product = update_of(maml, batch)["fisher_product"]
    maml.meta = MetaParams(params)

    chosen = maml.config.objective_weights()
    frozen: dict[int, Any] = {}

    def kl(y: torch.Tensor) -> torch.Tensor:
        theta = stack(unflatten(y, params), M)
        total = torch.zeros((), dtype=F64)
        for k, data in enumerate(batch.data):
            new = maml.policy(theta, data.observations)
            old = frozen.setdefault(k, type(new)(*(z.detach() for z in new)))
            total = total + chosen[k] * mean_kl(old, new, data.weights).mean()
            if k < steps:
                loss = maml.adaptation.inner_loss(new, data)
                g = torch.autograd.grad(loss.sum(), list(theta.values()), create_graph=True)
                size = maml.config.inner_lr[min(k, 1)]
                theta = {n: p - size * d for (n, p), d in zip(theta.items(), g, strict=True)}
        return total

    v = torch.randn(len(x), generator=torch.Generator().manual_seed(0), dtype=F64)
    kl(x.clone().requires_grad_())
    y = x.clone().requires_grad_()
    (g,) = torch.autograd.grad(kl(y), y, create_graph=True)
    (expected,) = torch.autograd.grad(g, y, v)
    torch.testing.assert_close(fisher_product(v), expected, rtol=1e-7, atol=1e-10)


def test_ratio_is_one_and_kl_zero_before_an_update() -> None:
    maml = make_maml(adaptation_steps=2)
    batch = make_batch(maml, steps=2)
    seen = update_of(maml, batch)
    (loss, kl), at_x = seen["at_x"], seen["loss"]
    mean_advantage = (batch.data[-1].weights * batch.data[-1].advantages).sum(1).mean()
    # With every ratio equal to 1 the surrogate is minus the mean advantage.
    assert float(at_x) == pytest.approx(-float(mean_advantage), rel=1e-12)
    assert float(loss) == pytest.approx(float(at_x), rel=1e-12)
    assert abs(float(kl)) < 1e-14


def test_an_update_improves_the_surrogate_within_the_trust_region() -> None:
    maml = make_maml(outer={"name": "trpo", "max_kl": 0.01})
    metrics = maml.update(make_batch(maml))
    assert metrics["line_search/accepted"] == 1.0
    assert metrics["loss/outer_after"] < metrics["loss/outer_before"]
    assert 0 < metrics["kl/outer"] <= 0.01


def test_a_rejected_update_leaves_the_parameters_to_the_bit() -> None:
    maml = make_maml(outer={"name": "trpo", "max_kl": 1e-300})
    before = {name: p.clone() for name, p in maml.params.items()}
    metrics = maml.update(make_batch(maml))
    assert metrics["line_search/accepted"] == 0.0
    assert all(torch.equal(before[name], p) for name, p in maml.params.items())


def test_curvature_on_every_sample_thinned_by_one_is_the_whole() -> None:
    data = make_samples(0)
    assert data.thin(1) is data


@pytest.mark.parametrize("horizon", [1, 4, 6, 7])  # a multiple of 3 and others, and shorter
def test_thinned_episodes_cover_every_time_step_alike(horizon: int) -> None:
    lanes, every = 5, 3
    time = torch.arange(horizon, dtype=F64).expand(6, lanes, horizon)
    whole = flat_samples(time.unsqueeze(-1), time, time, torch.ones_like(time).bool())
    thinned = whole.thin(every)
    counted = thinned.weights > 0
    for t in range(horizon):  # 30 episodes
        assert int((thinned.advantages[counted] == t).sum()) == 30 // every
    for m in range(6):
        counts = (thinned.advantages[m][counted[m]].long()).bincount(minlength=horizon)
        assert int(counts.max() - counts.min()) <= 1
        assert thinned.weights[m].sum() == pytest.approx(1.0)
        assert len(thinned.weights[m][counted[m]].unique()) == 1


def test_thinned_tasks_keep_valid_steps_only_and_each_at_least_one() -> None:
    """Episodes of one step at every lane, beside a task of full length."""
    lengths = torch.tensor([[4, 4, 4], [1, 1, 1], [1, 3, 2]])
    valid = torch.arange(4) < lengths.unsqueeze(-1)
    x = torch.where(valid, torch.arange(36.0).view(3, 3, 4), -1.0)
    for every in (2, 3, 5, 100):
        thinned = flat_samples(x.unsqueeze(-1), x, x, valid).thin(every)
        counted = thinned.weights > 0
        assert counted.any(1).all()
        assert (thinned.advantages[counted] >= 0).all()
        torch.testing.assert_close(thinned.weights.sum(1), torch.ones(3))
        assert thinned.advantages.shape[1] <= math.ceil(12 / every) + 1


def test_fisher_product_of_a_stack_is_each_tasks_own() -> None:
    maml = make_maml()
    data = make_samples(0)
    theta = {n: p.clone() for n, p in stack(maml.params, M).items()}
    v = {
        n: torch.randn(p.shape, generator=torch.Generator().manual_seed(1), dtype=F64)
        for n, p in theta.items()
    }

    def fisher_product(theta: Params, data: Samples, v: Params) -> Params:
        return PolicyPass(maml.policy, theta, data.observations).fisher_product(data.weights, v)

    joint = fisher_product(theta, data, v)
    for m in range(M):
        one = {n: p[m : m + 1] for n, p in theta.items()}
        alone = fisher_product(one, pick(data, m), {n: x[m : m + 1] for n, x in v.items()})
        for n in theta:
            torch.testing.assert_close(joint[n][m], alone[n][0], rtol=1e-10, atol=1e-12)


def test_flat_samples_drop_padding_and_keep_every_valid_step() -> None:
    lengths = torch.tensor([[2, 1], [3, 3]])  # of horizon 4: at most 6 valid steps a task
    valid = torch.arange(4) < lengths.unsqueeze(-1)
    x = torch.arange(16.0).view(2, 2, 4)
    samples = flat_samples(x.unsqueeze(-1), x.unsqueeze(-1), x, valid)
    assert samples.advantages.shape == (2, 6)
    for m, expected in enumerate([[0, 1, 4], [8, 9, 10, 12, 13, 14]]):
        kept = samples.weights[m] > 0
        assert samples.advantages[m][kept].tolist() == expected
        assert samples.observations[m, kept, 0].tolist() == expected
        assert samples.actions[m, kept, 0].tolist() == expected
        assert samples.weights[m].sum() == pytest.approx(1.0)


@pytest.mark.parametrize(("iteration", "limit"), [(1, 0.01), (3, 0.01 / 4)])
def test_the_trust_region_shrinks_from_the_second_iteration_on(
    iteration: int, limit: float
) -> None:
    metrics = make_maml(outer={"name": "trpo", "max_kl": 0.01, "max_kl_decay": 0.5}).update(
        replace(make_batch(make_maml()), iteration=iteration)
    )
    assert metrics["kl/limit"] == pytest.approx(limit)
    assert 0 < metrics["kl/outer"] <= limit
