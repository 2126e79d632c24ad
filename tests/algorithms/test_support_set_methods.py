"""Prototypical networks, matching networks and VERSA: worked out by hand, and learned."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
from gymnasium import spaces

from metarl.algorithms import algorithm_class, settings_class
from metarl.algorithms.prototypical_networks import EpisodeBatch, PrototypicalNetworks, class_means
from metarl.algorithms.versa import VERSA
from metarl.envs.supervised import Sinusoid, SupervisedTasks
from metarl.experience.few_shot import FewShotSets, FewShotSource
from metarl.maths.distributions import DiagonalGaussian
from metarl.maths.losses import judged
from metarl.maths.samples import Samples
from metarl.random import Key
from tests.algorithms.few_shot_toys import Blobs

NAMES = ("prototypical_networks", "matching_networks", "versa")
MLP = {"name": "mlp", "hidden_sizes": (32, 8)}
KEY = Key(0, 1)


def made(name: str, toy: SupervisedTasks, seed: int = 0, **settings: Any) -> Any:
    config = settings_class(name)(
        **{"network": MLP, "tasks": 8, "outer": {"name": "adam", "lr": 0.01}} | settings
    )
    cls = algorithm_class(name)
    return cls(config, toy.input_space, toy.target_space, seed)


def trained(name: str, tasks: SupervisedTasks, iterations: int, **settings: Any) -> Any:
    algorithm, source = made(name, tasks, **settings), FewShotSource(tasks)
    for iteration in range(1, iterations + 1):
        algorithm.update(algorithm.collect(source, Key(0, iteration)))
    return algorithm


def before_and_after(algorithm: Any, tasks: SupervisedTasks, queries: int = 10) -> list[float]:
    """Accuracy or error on the held-out tasks without the support set and with it."""
    held_out = tasks.task_distribution.held_out()
    sets = FewShotSource(tasks).examples(held_out, queries, Key(7))
    agent = algorithm.agent("deterministic", Key(0, evaluation=True))
    agent.begin(sets.support)
    found = []
    for _ in range(2):
        predicted = agent.predict(sets.query.observations)
        found.append(float(judged(predicted, sets.query).mean()))
        agent.adapt()
    return found


# ---- by hand


SUPPORT = torch.tensor([[[0.0, 0.0], [0.0, 4.0], [2.0, 0.0], [0.0, 2.0]]])  # [1, 4, 2]
TARGETS = torch.tensor([[0, 1, 0, 1]])


def test_a_class_is_the_mean_of_its_examples_and_the_nearest_is_likeliest() -> None:
    """Means (1, 0) and (0, 3); (1, 1) is 1 and 1 + 4 away from them, squared."""
    algorithm = made("prototypical_networks", Blobs(2))
    assert class_means(SUPPORT, TARGETS).tolist() == [[[1.0, 0.0], [0.0, 3.0]]]
    predict = algorithm.predictor({}, SUPPORT, TARGETS, KEY)
    p = predict(torch.tensor([[[1.0, 1.0], [0.0, 3.0]]])).logits.softmax(-1)
    expected = [1 / (1 + math.exp(-4.0)), 1 / (1 + math.exp(10.0))]  # second: 10 and 0 away
    assert p[0, :, 0].tolist() == pytest.approx(expected, rel=1e-5)


def test_a_query_takes_the_labels_that_it_attends_to() -> None:
    """Cosines of (1, 0) to the support: 1 and 0.6 of class 0, 0 and −1 of class 1."""
    algorithm = made("matching_networks", Blobs(2))
    support = torch.tensor([[[2.0, 0.0], [0.0, 3.0], [0.6, 0.8], [-5.0, 0.0]]])
    params = {"log_scale": torch.tensor(math.log(2.0))}
    p = algorithm.predictor(params, support, TARGETS, KEY)(torch.tensor([[[4.0, 0.0]]]))
    mine, theirs = math.exp(2.0) + math.exp(1.2), 1.0 + math.exp(-2.0)
    assert p.logits.softmax(-1).flatten().tolist() == pytest.approx(
        [mine / (mine + theirs), theirs / (mine + theirs)], rel=1e-5
    )
    assert float(algorithm.params["log_scale"].exp()) == pytest.approx(10.0)


# ---- VERSA


def versa_with_features(classes: bool) -> tuple[VERSA, torch.Tensor, torch.Tensor, torch.Tensor]:
    """With features of two tasks in float64: support, targets, query."""
    tasks: SupervisedTasks = Blobs(3, shots=2) if classes else Sinusoid(shots=6)
    algorithm: VERSA = made("versa", tasks, amortisation_sizes=(5,), samples=20_000)
    algorithm.params = {n: 2.0 * p.double() for n, p in algorithm.params.items()}
    torch.manual_seed(3)
    support, query = torch.randn(2, 6, 8).double(), torch.randn(2, 4, 8).double()
    targets = torch.arange(3).repeat(2, 2) if classes else torch.randn(2, 6, 1).double()
    return algorithm, support, targets, query


def drawn_outputs(weights: DiagonalGaussian, x: torch.Tensor, draws: int) -> torch.Tensor:
    """w·x + b ``[L, M, Q, n]`` of weights drawn one by one."""
    rng = torch.Generator().manual_seed(1)
    noise = torch.randn(draws, *weights.mean.shape, generator=rng, dtype=torch.float64)
    w = weights.sample(noise)
    return torch.einsum("lmnf,mqf->lmqn", w[..., :-1], x) + w[..., -1].unsqueeze(2)


def test_versas_predictions_are_the_mean_over_weights() -> None:
    """20,000 draws of logits against 200,000 of weights; the mean's logits are far from it."""
    algorithm, support, targets, query = versa_with_features(classes=True)
    weights = algorithm.linear_weights(algorithm.params, support, targets)
    p = algorithm.predictor(algorithm.params, support, targets, KEY)(query).logits.softmax(-1)
    expected = drawn_outputs(weights, query, 200_000).softmax(-1).mean(0)
    assert float((p - expected).abs().max()) < 0.015
    of_the_mean = DiagonalGaussian(weights.mean, torch.full_like(weights.mean, -30.0))
    certain = drawn_outputs(of_the_mean, query, 1)[0].softmax(-1)
    assert float((certain - expected).abs().max()) > 0.1


def test_versas_regression_is_exact() -> None:
    algorithm, support, targets, query = versa_with_features(classes=False)
    weights = algorithm.linear_weights(algorithm.params, support, targets)
    predicted = algorithm.predictor(algorithm.params, support, targets, KEY)(query)
    y = torch.linspace(-1.0, 1.0, 8).double().view(2, 4, 1)
    given = DiagonalGaussian(
        drawn_outputs(weights, query, 400_000), torch.full((1,), 0.5 * math.log(0.5)).double()
    )
    log_p = given.log_prob(y.expand(400_000, 2, 4, 1)).logsumexp(0) - math.log(400_000)
    assert torch.allclose(predicted.log_prob(y), log_p, atol=0.02)


def test_versas_classes_are_inferred_from_their_own_examples_alone() -> None:
    algorithm, support, targets, _ = versa_with_features(classes=True)
    weights = algorithm.linear_weights(algorithm.params, support, targets)
    support[:, targets[0] == 2] += 1.0
    changed = algorithm.linear_weights(algorithm.params, support, targets)
    same = (weights.mean == changed.mean).flatten(2).all(2)
    assert same.tolist() == [[True, True, False]] * 2


# ---- learning


LEARNED = {"prototypical_networks": 0.93, "matching_networks": 0.85, "versa": 0.85}
SMALL: dict[str, Any] = {"versa": {"amortisation_sizes": (32,), "samples": 5}}


@pytest.mark.parametrize("name", NAMES)
def test_it_learns_what_tells_classes_apart(name: str) -> None:
    """Of a plane hidden in loud noise: untrained, hardly better than a guess."""
    tasks = Blobs()
    chance, untrained = before_and_after(made(name, tasks), tasks)
    assert chance == pytest.approx(1 / 3)
    assert untrained < 0.5
    assert (
        before_and_after(trained(name, tasks, 120, **SMALL.get(name, {})), tasks)[1] > LEARNED[name]
    )


def test_more_ways_in_training_than_in_the_test() -> None:
    tasks, source = Blobs(3), FewShotSource(Blobs(3))
    algorithm = made("prototypical_networks", tasks, training_ways=7, queries=2, tasks=4)
    batch = algorithm.collect(source, KEY)
    assert batch.sets.support.actions.shape == (4, 7)
    assert batch.sets.query.actions.shape == (4, 14)
    assert batch.env_steps == 4 * 21
    algorithm.update(batch)
    assert before_and_after(algorithm, tasks)[0] == pytest.approx(1 / 3)
    of_seven = source.with_ways(7)  # made once, on the source's own clock
    assert source.with_ways(7) is of_seven
    assert source.seconds == of_seven.seconds > 0.0


def test_the_step_size_falls_and_the_weights_decay_apart_from_adam() -> None:
    toy, source = Blobs(), FewShotSource(Blobs())
    outer = {"name": "adam", "lr": 0.01, "lr_decay_iterations": 4}
    plain, decayed = (made(NAMES[0], toy, weight_decay=decay, outer=outer) for decay in (0.0, 0.5))
    before = plain.params
    batch = plain.collect(source, Key(0, 3))  # half of the way: lr is 0.005
    assert plain.update(batch)["lr"] == decayed.update(batch)["lr"] == pytest.approx(0.005)
    for n, p in before.items():
        assert torch.allclose(decayed.params[n], plain.params[n] - 0.005 * 0.5 * p, atol=1e-7)
    settled = plain.params
    plain.update(plain.collect(source, Key(0, 5)))
    assert all(torch.equal(p, settled[n]) for n, p in plain.params.items())


def test_running_statistics_move_with_every_update() -> None:
    targets = spaces.Discrete(2)
    settings = settings_class(NAMES[0])(network={"name": "conv", "filters": 3})
    algorithm = PrototypicalNetworks(settings, spaces.Box(0, 1, (1, 16, 16)), targets, seed=0)
    rng = torch.Generator().manual_seed(0)
    ones = torch.ones(1, 4)
    images = torch.rand(1, 4, 256, generator=rng)
    samples = Samples(images, torch.tensor([[0, 0, 1, 1]]), ones, ones / 4)
    before = algorithm.statistics
    batch = EpisodeBatch(KEY, np.zeros((1, 2)), FewShotSets(samples, samples), 8, {})
    algorithm.update(batch)
    assert all(not torch.equal(s, algorithm.statistics[n]) for n, s in before.items())
