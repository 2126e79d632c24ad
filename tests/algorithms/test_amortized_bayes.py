"""Amortised Bayesian meta-learning: its bound, its meta-gradient, and that it learns."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from metarl.algorithms.amortized_bayes import AmortizedBayes
from metarl.algorithms.settings.amortized_bayes import AmortizedBayesSettings
from metarl.envs.supervised import Sinusoid, SupervisedTasks
from metarl.experience.few_shot import FewShotSource
from metarl.maths.losses import judged
from metarl.maths.params import Params, stack
from metarl.networks.bayesian import LOG_STD, MEAN, PRIOR, BayesianNetwork, antithetic
from metarl.networks.mlp import MLPRegression
from metarl.random import Key
from tests.algorithms.few_shot_toys import Blobs
from tests.few_shot_toys import Slopes


def made(toy: SupervisedTasks, hidden: tuple[int, ...], **settings: Any) -> AmortizedBayes:
    network = {"name": "mlp", "hidden_sizes": hidden, "activation": "tanh"}
    config = AmortizedBayesSettings(**{"network": network, "tasks": 4} | settings)
    return AmortizedBayes(config, toy.input_space, toy.target_space, seed=0)


def doubled(algorithm: AmortizedBayes, source: FewShotSource) -> Any:
    """A batch in float64, and the algorithm likewise, its q a little unlike at every weight."""
    rng = torch.Generator().manual_seed(2)
    algorithm.meta = algorithm.meta.map(
        lambda params: {
            n: p.double() + 0.1 * torch.randn(p.shape, generator=rng, dtype=torch.float64)
            for n, p in params.items()
        }
    )
    noise = algorithm._noise
    algorithm._noise = lambda key, draws: lambda step: noise(key, draws)(step).double()  # type: ignore[method-assign]
    batch = algorithm.collect(source, Key(0, 1))
    data = [s.map(lambda x: x.double() if x.is_floating_point() else x) for s in batch.data]
    data = [replace(s, weights=torch.ones_like(s.weights) / s.weights.shape[1]) for s in data]
    return replace(batch, data=data)


def bound(lam: Params, theta: Params, x: Tensor, y: Tensor, noise: Tensor, weight: float) -> Tensor:
    """One task's negative bound, a loop over draws of the weights of two layers."""
    names = [n.removeprefix(MEAN) for n in lam if n.startswith(MEAN)]
    total = torch.zeros((), dtype=torch.float64)
    for eps in noise:
        w, first = {}, 0
        for n in names:
            size = lam[MEAN + n].numel()
            part = eps[first : first + size].view(lam[MEAN + n].shape)
            w[n] = lam[MEAN + n] + lam[LOG_STD + n].exp() * part
            first += size
        hidden = torch.tanh(x @ w["layer0.weight"] + w["layer0.bias"])
        out = hidden @ w["layer1.weight"] + w["layer1.bias"]
        if y.ndim == 1:
            total = total + torch.nn.functional.cross_entropy(out, y) / len(noise)
        else:
            total = total + (out - y).square().sum(1).mean() / len(noise)
    for n in names:
        q, p = (
            torch.distributions.Normal(of[MEAN + n], of[LOG_STD + n].exp()) for of in (lam, theta)
        )
        total = total + weight / len(x) * torch.distributions.kl_divergence(q, p).sum()
    return total


@pytest.mark.parametrize("toy", [Blobs(3, 2), Sinusoid(shots=4)], ids=["classes", "regression"])
@pytest.mark.parametrize("samples", [1, 3])
def test_the_meta_gradient_is_that_of_the_unrolled_bound(
    toy: SupervisedTasks, samples: int
) -> None:
    """Three steps of two sizes, noise of each step's own; through the steps the prior's too."""
    sizes = (0.2, 0.1)
    algorithm = made(
        toy, (5,), adaptation_steps=3, inner_lr=sizes, samples=samples, initial_std=0.4,
        kl_weight=0.7, hyperprior_weight=0.3, queries=3,
    )  # fmt: skip
    batch = doubled(algorithm, FewShotSource(toy))
    losses, gradient = algorithm._loss_and_gradient(algorithm.objective(batch), batch)
    theta = {n: p.clone().requires_grad_() for n, p in algorithm.params.items()}
    noise = algorithm._noise(Key(0, 1), samples)
    expected = []
    for m in range(4):
        lam = dict(theta)
        for k, size in enumerate((0.2, 0.1, 0.1)):
            x, y = batch.data[k].observations[m], batch.data[k].actions[m]
            inner = bound(lam, theta, x, y, noise(k), 0.7)
            slopes = torch.autograd.grad(inner, list(lam.values()), create_graph=True)
            lam = {n: p - size * g for (n, p), g in zip(lam.items(), slopes, strict=True)}
        x, y = batch.data[-1].observations[m], batch.data[-1].actions[m]
        expected.append(bound(lam, theta, x, y, noise(3), 0.7))
    assert torch.allclose(losses, torch.stack(expected).detach(), rtol=1e-12)
    hyper = sum(
        (0.5 * p.square() if n.startswith(MEAN) else 0.01 * (-2.0 * p).exp()).sum()
        for n, p in theta.items()
    )
    objective = torch.stack(expected).mean() + 0.3 * hyper
    unrolled = torch.cat(
        [g.flatten() for g in torch.autograd.grad(objective, list(theta.values()))]
    )
    assert float((gradient - unrolled).norm() / unrolled.norm()) < 1e-9


def test_the_bound_of_a_linear_model_is_known_in_closed_form() -> None:
    """E_q[(y − w·x − b)²] = (y − μ·x − μ_b)² + Σ σ² x² + σ_b²; 20,000 antithetic draws of it."""
    torch.manual_seed(0)
    network = MLPRegression(3, 1, hidden_sizes=())
    shapes = {"layer0.weight": torch.Size([3, 1]), "layer0.bias": torch.Size([1])}
    noise = antithetic(Key(3).generator("action"), 20_000, 4).double()
    bayesian = BayesianNetwork(network, shapes, lambda step: noise, kl_weight=0.5)
    mean, std = torch.randn(4).double(), torch.rand(4).double() + 0.2
    prior_mean, prior_std = torch.randn(4).double(), torch.rand(4).double() + 0.2

    def part(values: Tensor) -> dict[str, Tensor]:
        return {"layer0.weight": values[:3].view(3, 1), "layer0.bias": values[3:]}

    params = {}
    for whose, mu, sigma in (("", mean, std), (PRIOR, prior_mean, prior_std)):
        params |= {whose + MEAN + n: p for n, p in part(mu).items()}
        params |= {whose + LOG_STD + n: p for n, p in part(sigma.log()).items()}
    x, y = torch.randn(2, 5, 3).double(), torch.randn(2, 5, 1).double()
    with_one = torch.cat([x, torch.ones(2, 5, 1)], dim=2)
    square = (y[..., 0] - with_one @ mean).square() + with_one.square() @ std.square()
    kl = (
        0.5 * ((std / prior_std).square() + ((mean - prior_mean) / prior_std).square() - 1.0)
        + (prior_std / std).log()
    )
    said = bayesian(stack(params, 2), x)
    assert torch.allclose(said.log_prob(y), -square - 0.5 * kl.sum() / 5, rtol=0.02)
    predicted = said.predictive()
    assert torch.allclose(predicted.mean[..., 0], with_one @ mean, atol=1e-9)  # antithetic: exact
    variance = with_one.square() @ std.square() + 0.5
    assert torch.allclose((2.0 * predicted.log_std[..., 0]).exp(), variance, rtol=0.02)


def test_it_learns_to_adapt() -> None:
    """Lines of slopes in [−1, 1]: without adaptation their variance, 1/9, is the least error."""
    toy = Slopes(5)
    source = FewShotSource(toy)
    algorithm = made(
        toy, (8,), tasks=10, queries=5, adaptation_steps=2, inner_lr=(0.5,), initial_std=0.02,
        kl_weight=0.001, outer={"name": "adam", "lr": 0.02},
    )  # fmt: skip
    sets = source.examples(toy.task_distribution.held_out(), 20, Key(7))

    def errors() -> list[float]:
        agent = algorithm.agent("deterministic", Key(0, evaluation=True))
        agent.begin(sets.support)
        found = []
        for _ in range(3):
            found.append(float(judged(agent.predict(sets.query.observations), sets.query).mean()))
            agent.adapt()
        return found

    assert errors()[2] > 0.3
    for iteration in range(1, 151):
        algorithm.update(algorithm.collect(source, Key(0, iteration)))
    learned = errors()
    assert learned[0] > 0.1
    assert learned[2] < 0.06
    assert errors() == learned  # noise is the agent's own
