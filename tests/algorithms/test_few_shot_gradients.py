"""The supervised family's updates against the papers' objectives, unrolled slowly in float64.

The slow side is one task at a time through plain autograd and torch's own operations.
"""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from gymnasium import spaces
from torch import Tensor

from metarl.algorithms import algorithm_class
from metarl.algorithms.maml import GradientBatch
from metarl.experience.few_shot import FewShotSets
from metarl.maths.adam import AdamState
from metarl.maths.params import Params, flatten, unflatten
from metarl.maths.samples import Samples
from metarl.random import Key
from tests.algorithms.test_family_gradients import relative_error
from tests.networks.test_conv import reference

F64 = torch.float64
M, WAYS, SHOTS, QUERIES = 3, 3, 2, 3
INNER_LR = (0.4, 0.3)
IMAGES = spaces.Box(0, 1, (1, 6, 5))
NUMBERS = spaces.Box(-np.inf, np.inf, (2,))
CLASSES = spaces.Discrete(WAYS)
MLP = {"name": "mlp", "hidden_sizes": (5, 4)}
CONV = {"name": "conv", "filters": 3}


class Case(NamedTuple):
    name: str
    network: dict[str, Any]
    options: dict[str, Any] = {}  # noqa: RUF012
    targets: spaces.Space = CLASSES


NETWORKS = {
    "regression": (MLP, NUMBERS),
    "classes": (MLP | {"activation": "tanh"}, CLASSES),
    "transductive": (CONV, CLASSES),
    "by_support": (CONV | {"transductive": False}, CLASSES),
}
METHODS = {
    "maml": {"adaptation_steps": 2},
    "maml-weights": {"adaptation_steps": 2, "outer_weights": (1.0, 0.0, 3.0)},
    "fomaml": {"adaptation_steps": 2},
    "anil": {"adaptation_steps": 2},
    "meta_sgd": {"adaptation_steps": 2},
}
CASES = {
    f"{method}-{kind}": Case(f"few_shot_{method.partition('-')[0]}", network, options, targets)
    for method, options in METHODS.items()
    for kind, (network, targets) in NETWORKS.items()
}


def make(case: Case) -> Any:
    """An algorithm in float64, its rates, where it learns some, of both signs."""
    cls = algorithm_class(case.name)
    given = {"tasks": M, "queries": QUERIES, "inner_lr": INNER_LR, "network": case.network}
    algorithm = cls(cls.config_class(**(given | case.options)), IMAGES, case.targets, seed=0)
    algorithm.meta = algorithm.meta.map(lambda params: {n: p.to(F64) for n, p in params.items()})
    algorithm.adam = AdamState.fresh(algorithm.meta.vector())
    g = torch.Generator().manual_seed(5)
    for p in (*(algorithm.meta.rates or {}).values(), *algorithm.params.values()):
        p += 0.3 * torch.randn(p.shape, generator=g, dtype=F64)
    return algorithm


def examples(per_class: int, targets: spaces.Space, seed: int) -> Samples:
    g = torch.Generator().manual_seed(seed)
    n = per_class * WAYS
    if targets == CLASSES:
        y = torch.arange(WAYS).repeat_interleave(per_class).expand(M, n)
    else:
        y = torch.randn(M, n, 2, generator=g, dtype=F64)
    ones = torch.ones(M, n, dtype=F64)
    return Samples(torch.rand(M, n, 30, generator=g, dtype=F64), y, ones, ones / n)


def make_batch(algorithm: Any, case: Case) -> tuple[FewShotSets, GradientBatch]:
    sets = FewShotSets(examples(SHOTS, case.targets, 1), examples(QUERIES, case.targets, 2))
    source = SimpleNamespace(
        sample_tasks=lambda n, key: np.zeros((n, 1)),
        examples=lambda tasks, queries, key, augment: sets,
    )
    return sets, algorithm.collect(source, Key(1, 1))


def predicted(algorithm: Any, theta: Params, support: Tensor, x: Tensor) -> Tensor:
    """What one task's network says of x ``[N, ...]``, beside its support set if it is to."""
    network = algorithm.config.network
    if network.name == "mlp":
        act = F.relu if network.activation == "relu" else torch.tanh
        x = act(x @ theta["layer0.weight"] + theta["layer0.bias"])
        x = act(x @ theta["layer1.weight"] + theta["layer1.bias"])
        return x @ theta["layer2.weight"] + theta["layer2.bias"]
    if network.transductive:
        return reference(algorithm.policy, theta, x)
    shown = torch.cat([support, x])
    like: Any = SimpleNamespace(
        image_shape=(1, 6, 5), statistics_rows=len(support), pooling="stride", norm="batch"
    )
    return reference(like, theta, shown)[len(support) :]


def loss(algorithm: Any, theta: Params, sets: FewShotSets, m: int, *, query: bool) -> Tensor:
    of, support = sets[int(query)], sets.support.observations[m]
    output = predicted(algorithm, theta, support, of.observations[m])
    if of.actions.is_floating_point():
        return (output - of.actions[m]).square().sum(1).mean()
    return F.cross_entropy(output, of.actions[m])


def unrolled(algorithm: Any, sets: FewShotSets, x: Tensor) -> Tensor:
    config, meta = algorithm.config, algorithm.meta.unflatten(x)
    steps = config.adaptation_steps
    chosen = config.outer_weights or [0.0] * steps + [1.0]
    total = torch.zeros((), dtype=F64)
    for m in range(M):
        theta = meta.policy
        for k in range(steps + 1):
            judged = loss(algorithm, theta, sets, m, query=True)
            total = total + chosen[k] / sum(chosen) * judged / M
            names = [
                n
                for n in theta
                if config.name != "few_shot_anil" or n.startswith(("layer2.", "head."))
            ]
            inner = loss(algorithm, theta, sets, m, query=False)
            gradient = torch.autograd.grad(inner, [theta[n] for n in names], create_graph=True)
            moved = dict(theta)
            for n, g in zip(names, gradient, strict=True):
                g = g.detach() if config.first_order else g
                rate = 1.0 if meta.rates is None else meta.rates[n]
                moved[n] = theta[n] - INNER_LR[min(k, 1)] * rate * g
            theta = moved
    return total


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_the_gradient_is_that_of_the_unrolled_objective(case: Case) -> None:
    algorithm = make(case)
    sets, batch = make_batch(algorithm, case)
    x = algorithm.meta.vector().requires_grad_()
    value = unrolled(algorithm, sets, x)
    (expected,) = torch.autograd.grad(value, x)
    losses, gradient = algorithm.objective(batch).loss_and_gradient()
    assert float(losses.mean()) == pytest.approx(float(value.detach()), rel=1e-10)
    assert relative_error(gradient, expected) < 1e-9


@pytest.mark.parametrize("kind", ["regression", "transductive"])
def test_the_second_order_is_no_rounding(kind: str) -> None:
    """Else first-order MAML would pass for MAML above."""
    found = []
    for method in ("maml", "fomaml"):
        case = CASES[f"{method}-{kind}"]
        algorithm = make(case)
        _, batch = make_batch(algorithm, case)
        found.append(algorithm.objective(batch).loss_and_gradient()[1])
    assert relative_error(*found) > 1e-2


@pytest.mark.parametrize("kind", NETWORKS)
def test_the_update_is_adams_and_says_how_good_the_predictions_were(kind: str) -> None:
    network, targets = NETWORKS[kind]
    outer = {"name": "adam", "lr": 0.05, "lr_decay_iterations": 4}
    case = Case("few_shot_maml", network, {"outer": outer, "outer_weights": (1, 1)}, targets)
    algorithm = make(case)
    sets, batch = make_batch(algorithm, case)
    x = algorithm.meta.vector().clone().requires_grad_()
    adam = torch.optim.Adam([x], lr=0.05, eps=1e-5)
    x.grad = torch.autograd.grad(unrolled(algorithm, sets, x), x)[0]
    before = [
        predicted(algorithm, algorithm.params, sets.support.observations[m], q)
        for m, q in enumerate(sets.query.observations)
    ]
    metrics = algorithm.update(batch)
    adam.step()
    assert relative_error(flatten(algorithm.params), x.detach()) < 1e-10
    output, y = torch.stack(before), sets.query.actions
    if targets == CLASSES:
        expected = (output.argmax(-1) == y).double().mean()
        assert metrics["accuracy/step_0"] == pytest.approx(float(expected))
        assert 0.0 <= metrics["accuracy/step_1"] <= 1.0
    else:
        assert metrics["error/step_0"] == pytest.approx(float((output - y).square().sum(-1).mean()))
        assert metrics["error/step_1"] > 0.0
    assert metrics["lr"] == 0.05
    assert algorithm.update(replace(batch, iteration=3))["lr"] == pytest.approx(0.05 * 2 / 4)


@pytest.mark.parametrize("kind", NETWORKS)
def test_blocks_of_tasks_change_nothing(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    case = CASES[f"maml-{kind}"]
    algorithm = make(case)
    _, batch = make_batch(algorithm, case)
    whole = algorithm.objective(batch).loss_and_gradient()[1]
    monkeypatch.setattr("metarl.maths.samples.BLOCK_BYTES", 1)
    assert relative_error(algorithm.objective(batch).loss_and_gradient()[1], whole) < 1e-12


@pytest.mark.parametrize("kind", ["classes", "by_support"])
def test_anil_adapts_the_head_alone(kind: str) -> None:
    case = CASES[f"anil-{kind}"]
    algorithm = make(case)
    agent = algorithm.agent("deterministic", Key(0))
    agent.begin(examples(SHOTS, case.targets, 1))
    agent.adapt()
    own = {n for n, p in agent.params.items() if not torch.equal(p[0], algorithm.params[n])}
    assert own == {
        f"{'head' if kind == 'by_support' else 'layer2'}.{p}" for p in ("weight", "bias")
    }


# ---- agents


@pytest.mark.parametrize("kind", NETWORKS)
def test_the_agent_takes_the_training_step_with_its_own_sizes(kind: str) -> None:
    network, targets = NETWORKS[kind]
    options = {"evaluation_inner_lr": (0.2, 0.1)}
    algorithm = make(Case("few_shot_maml", network, options, targets))
    sets = FewShotSets(examples(SHOTS, targets, 1), examples(QUERIES, targets, 2))
    agent = algorithm.agent("deterministic", Key(0))
    assert agent.step_sizes == [0.2, 0.1]
    assert agent.transductive == (kind == "transductive")
    with pytest.raises(ValueError, match="call begin"):
        agent.adapt()
    agent.begin(sets.support)
    thetas = [dict(algorithm.params) for _ in range(M)]
    for k in range(4):
        (output,) = agent.predict(sets.query.observations)
        for m, theta in enumerate(thetas):
            theta = {n: p.detach().requires_grad_() for n, p in theta.items()}
            support = sets.support.observations[m]
            expected = predicted(algorithm, theta, support, sets.query.observations[m])
            torch.testing.assert_close(output[m], expected.detach(), rtol=1e-9, atol=1e-10)
            inner = loss(algorithm, theta, sets, m, query=False)
            found = torch.autograd.grad(inner, list(theta.values()))
            size = (0.2, 0.1)[min(k, 1)]
            thetas[m] = {n: p - size * g for (n, p), g in zip(theta.items(), found, strict=True)}
        agent.adapt()
    agent.begin(sets.support)
    assert all(torch.equal(p[1], algorithm.params[n]) for n, p in agent.params.items())


# ---- Reptile


def test_reptiles_minibatches_take_every_example_once_before_any_twice() -> None:
    case = Case("few_shot_reptile", MLP, {"adaptation_steps": 3, "minibatch": 5})
    algorithm = make(case)
    sets, batch = make_batch(algorithm, case)
    pool = torch.cat([sets.support.observations, sets.query.observations], dim=1)  # [M, 15, x]
    assert [samples.weights.shape for samples in batch.data] == [(M, 5)] * 4
    dealt = torch.cat([samples.observations for samples in batch.data], dim=1)  # [M, 20, x]
    labels = torch.cat([samples.actions for samples in batch.data], dim=1)
    known = torch.cat([sets.support.actions, sets.query.actions], dim=1)
    orders = []
    for m in range(M):
        same = (dealt[m].unsqueeze(1) == pool[m]).all(-1)  # [20, 15]
        assert same[:15].sum(0).tolist() == [1] * 15
        assert same[15:].sum().item() == 5
        assert torch.equal(known[m][same.long().argmax(1)], labels[m])
        orders.append(same.long().argmax(1).tolist())
    assert len({tuple(order) for order in orders}) == M  # each task has its own


@pytest.mark.parametrize(("outer", "lr"), [("sgd", 0.4), ("adam", 0.05)])
@pytest.mark.parametrize("kind", ["regression", "transductive"])
def test_reptile_goes_where_a_slow_loop_leads(kind: str, outer: str, lr: float) -> None:
    network, targets = NETWORKS[kind]
    options = {
        "adaptation_steps": 2,
        "minibatch": 5,
        "outer": {"name": outer, "lr": lr, "lr_decay_iterations": 2},
    }
    case = Case("few_shot_reptile", network, options, targets)
    algorithm = make(case)
    x = flatten(algorithm.params).clone().requires_grad_()
    adam = torch.optim.Adam([x], lr=lr, eps=1e-5)
    for iteration, factor in ((1, 1.0), (2, 0.5), (3, 0.0)):
        _, batch = make_batch(algorithm, case)
        batch = GradientBatch(iteration, batch.tasks, batch.data, 0, {}, ())
        towards, last = torch.zeros_like(x), 0.0
        for m in range(M):
            theta = unflatten(x.detach().clone(), algorithm.params)
            for k, data in enumerate(batch.data):
                theta = {n: p.detach().requires_grad_() for n, p in theta.items()}
                one = FewShotSets(data, data)
                inner = loss(algorithm, theta, one, m, query=False)
                found = torch.autograd.grad(inner, list(theta.values()))
                size = INNER_LR[min(k, 1)]
                theta = {n: p - size * g for (n, p), g in zip(theta.items(), found, strict=True)}
            last += float(inner.detach()) / M
            towards += (flatten(theta).detach() - x.detach()) / M
        if outer == "adam":
            adam.param_groups[0]["lr"] = lr * factor
            x.grad = -towards
            adam.step()
        else:
            x.data += factor * lr * towards
        metrics = algorithm.update(batch)
        assert relative_error(flatten(algorithm.params), x.detach()) < 1e-10
        if kind == "regression":
            assert metrics["error/step_2"] == pytest.approx(last, rel=1e-9)
        else:
            assert 0.0 <= metrics["accuracy/step_2"] <= 1.0
