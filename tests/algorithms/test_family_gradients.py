"""The gradient family's updates against the papers' objectives, unrolled slowly in float64.

The slow side knows the equations and torch's own distributions, and nothing of the package: one
task at a time, episode by episode, through plain autograd.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch
from gymnasium import spaces
from torch import Tensor
from torch import distributions as td

from metarl.algorithms.anil import ANIL
from metarl.algorithms.cavia import CAVIA
from metarl.algorithms.e_maml import EMAML
from metarl.algorithms.maesn import MAESN
from metarl.algorithms.maml import FOMAML, MAML, GradientBatch
from metarl.algorithms.meta_sgd import MetaSGD
from metarl.algorithms.promp import ProMP
from metarl.algorithms.reptile import Reptile
from metarl.maths.adam import AdamState
from metarl.maths.params import MetaParams, Params, flatten, unflatten
from metarl.maths.samples import Samples, flat_samples

F64 = torch.float64
M, B, T, OBS = 3, 2, 6, 2
GAUSSIAN, CATEGORICAL = spaces.Box(-1, 1, (2,)), spaces.Discrete(3)
OBSERVATION = spaces.Box(-np.inf, np.inf, (OBS,))
INNER_LR = (0.1, 0.06)
DRAWN = 2  # numbers of MAESN's latent
HEAD = {"layer2.weight", "layer2.bias", "log_std"}  # of a network with two hidden layers
LENGTHS = [  # of the episodes of D_0, D_1, D_2: only D_0's first task leaves no padding
    [[6, 6], [4, 3], [6, 5]],
    [[5, 6], [2, 6], [4, 1]],
    [[3, 3], [6, 4], [1, 6]],
]
RETURNS = torch.tensor([1.0, 2.0, 6.0], dtype=F64)


# ---- the data


@dataclass(frozen=True)
class Play:
    """What M tasks × B lanes saw: ``[M, B, T, ...]``, each lane up to its own length.

    Behind the observation stand two draws of the episode, which MAESN alone is shown.
    """

    observations: Tensor
    actions: Tensor
    advantages: Tensor
    log_probs: Tensor | None
    lengths: list[list[int]]

    def flat(self, shown: int = OBS) -> Samples:
        valid = torch.arange(T) < torch.tensor(self.lengths).unsqueeze(-1)
        parts = (
            self.observations[..., :shown],
            self.actions,
            self.advantages,
            valid,
            self.log_probs,
        )
        return flat_samples(*parts)


def make_play(k: int, space: spaces.Space, stored: bool, seed: int = 0) -> Play:
    g = torch.Generator().manual_seed(10 * seed + k)
    if space == GAUSSIAN:
        actions = torch.randn(M, B, T, 2, generator=g, dtype=F64)
    else:
        actions = torch.randint(0, 3, (M, B, T), generator=g)
    # No policy at hand has these log-probabilities, so that one in their place would show.
    log_probs = -1.5 + 0.3 * torch.randn(M, B, T, generator=g, dtype=F64)
    drawn = torch.randn(M, B, 1, DRAWN, generator=torch.Generator().manual_seed(k), dtype=F64)
    observations = torch.randn(M, B, T, OBS, generator=g, dtype=F64)
    return Play(
        torch.cat([observations, drawn.expand(M, B, T, DRAWN)], dim=-1),
        actions,
        torch.randn(M, B, T, generator=g, dtype=F64),
        log_probs if stored else None,
        LENGTHS[k],
    )


def make_batch(plays: list[Play], shown: int = OBS) -> GradientBatch:
    data = [play.flat(shown) for play in plays]
    return GradientBatch(1, np.zeros((M, 1)), data, 0, {}, (RETURNS,) * len(data))


# ---- the papers' objectives, slowly


def policy(theta: Params, observations: Tensor) -> td.Distribution:
    seen, weight = observations[..., :OBS], theta["layer0.weight"]
    if "latent.mean" in theta:
        z = theta["latent.mean"].expand(*seen.shape[:-1], -1)
        if "latent.log_std" in theta:
            z = z + theta["latent.log_std"].exp() * observations[..., OBS:]
        seen, weight = torch.cat([seen, z], -1), torch.cat([weight, theta["latent.weight"]])
    x = torch.tanh(seen @ weight + theta["layer0.bias"])
    x = torch.tanh(x @ theta["layer1.weight"] + theta["layer1.bias"])
    x = x @ theta["layer2.weight"] + theta["layer2.bias"]
    if "log_std" not in theta:
        return td.Categorical(logits=x)
    return td.Independent(td.Normal(x, theta["log_std"].exp()), 1)


def magic_box(tau: Tensor) -> Tensor:
    return (tau - tau.detach()).exp()


def inner_loss(estimator: str, theta: Params, play: Play, m: int) -> Tensor:
    steps = []
    for b, n in enumerate(play.lengths[m]):
        log_prob = policy(theta, play.observations[m, b, :n]).log_prob(play.actions[m, b, :n])
        tau = torch.zeros((), dtype=F64)
        for t in range(n):
            before, tau = tau, tau + log_prob[t]
            if estimator == "log_prob":
                objective = log_prob[t]
            elif estimator == "dice":
                objective = magic_box(tau) - magic_box(before)
            elif play.log_probs is None:
                objective = magic_box(log_prob[t])
            else:
                objective = (log_prob[t] - play.log_probs[m, b, t]).exp()
            steps.append(-objective * play.advantages[m, b, t])
    return torch.stack(steps).mean()


def ratios(new: Params, old: Params, play: Play, m: int) -> Tensor:
    found = []
    for b, n in enumerate(play.lengths[m]):
        seen, acted = play.observations[m, b, :n], play.actions[m, b, :n]
        found.append((policy(new, seen).log_prob(acted) - policy(old, seen).log_prob(acted)).exp())
    return torch.cat(found)


def surrogate(new: Params, old: Params, play: Play, m: int, credit: float | None = None) -> Tensor:
    ratio = ratios(new, old, play, m)
    if credit is not None:
        return -(ratio * credit).mean()
    advantage = torch.cat([play.advantages[m, b, :n] for b, n in enumerate(play.lengths[m])])
    return -(ratio * advantage).mean()


def clipped(new: Params, old: Params, play: Play, m: int, clip: float) -> Tensor:
    """What has already gained more than the clip allows counts no further."""
    advantage = torch.cat([play.advantages[m, b, :n] for b, n in enumerate(play.lengths[m])])
    steps = []
    for ratio, a in zip(ratios(new, old, play, m), advantage, strict=True):
        if a > 0 and ratio > 1 + clip:
            steps.append(-(1 + clip) * a)
        elif a < 0 and ratio < 1 - clip:
            steps.append(-(1 - clip) * a)
        else:
            steps.append(-ratio * a)
    return torch.stack(steps).mean()


def divergence(new: Params, old: Params, play: Play, m: int) -> Tensor:
    found = []
    for b, n in enumerate(play.lengths[m]):
        seen = play.observations[m, b, :n]
        found.append(td.kl_divergence(policy(old, seen), policy(new, seen)))
    return torch.cat(found).mean()


class Judged(NamedTuple):
    """A task's policy after k of K steps, and the one that sampled its episodes."""

    k: int
    last: bool
    new: Params
    old: Params
    play: Play
    m: int

    def args(self) -> tuple[Params, Params, Play, int]:
        return self.new, self.old, self.play, self.m


def weight(algorithm: Any, at: Judged) -> float:
    """Of the return after k steps; the last's alone unless chosen."""
    chosen = algorithm.config.outer_weights
    return float(at.last) if chosen is None else chosen[at.k] / sum(chosen)


def maml_objective(algorithm: Any, at: Judged) -> Tensor:
    if weight(algorithm, at) == 0:
        return torch.zeros((), dtype=F64)
    if algorithm.config.outer.name == "ppo":
        return weight(algorithm, at) * clipped(*at.args(), algorithm.config.outer.clip)
    return weight(algorithm, at) * surrogate(*at.args())


def e_maml_objective(algorithm: EMAML, at: Judged) -> Tensor:
    judged = maml_objective(algorithm, at)
    if at.last:
        return judged
    other = [float(r) for m, r in enumerate(RETURNS) if m != at.m]
    credit = float(RETURNS[at.m]) - sum(other) / len(other)
    # The returns 1, 2, 6 have mean 3 and variance (4 + 1 + 9) / 2.
    scale = 1 / math.sqrt(7) if algorithm.config.normalize_advantages else B
    explored = surrogate(*at.args(), credit=scale * credit)
    return judged + algorithm.config.exploration_weight * explored


def promp_objective(algorithm: ProMP, at: Judged) -> Tensor:
    judged = maml_objective(algorithm, at)
    if at.last:
        return judged
    return judged + algorithm.kl_coefficients[at.k] * divergence(*at.args())


def maesn_objective(algorithm: MAESN, at: Judged) -> Tensor:
    judged = maml_objective(algorithm, at)
    if at.k > 0:
        return judged
    latent = td.Normal(at.new["latent.mean"], at.new["latent.log_std"].exp())
    prior = td.Normal(torch.zeros(DRAWN, dtype=F64), torch.ones(DRAWN, dtype=F64))
    return judged + algorithm.config.prior_weight * td.kl_divergence(latent, prior).sum()


def kl_objective(algorithm: Any, at: Judged) -> Tensor:
    return weight(algorithm, at) * divergence(*at.args())


class Unrolled:
    """J of the meta-parameters, around those that an algorithm has now."""

    def __init__(
        self, algorithm: Any, plays: list[Play], objective: Callable[[Any, Judged], Tensor]
    ) -> None:
        self.algorithm, self.plays, self.objective = algorithm, plays, objective
        self.like = algorithm.meta
        self.old: dict[tuple[int, int], Params] = {}
        self.value(self.like.vector())

    def __call__(self, x: Tensor) -> Tensor:
        meta = self.like.unflatten(x)
        total = torch.zeros((), dtype=F64)
        for m in range(M):
            theta = meta.policy
            if isinstance(self.algorithm, CAVIA):  # its context before adaptation is a constant
                theta = theta | {"latent.mean": theta["latent.mean"].detach()}
            for k, play in enumerate(self.plays):
                last = k == len(self.plays) - 1
                own = {n: p.detach() for n, p in theta.items()}
                old = self.old.setdefault((m, k), own)
                total = total + self.objective(self.algorithm, Judged(k, last, theta, old, play, m))
                if not last:
                    theta = self.adapt(meta, theta, play, m, k)
        return total / M

    def adapt(self, meta: MetaParams, theta: Params, play: Play, m: int, k: int) -> Params:
        config = self.algorithm.config
        names = list(theta)
        if isinstance(self.algorithm, ANIL):
            names = [n for n in theta if n in HEAD]
        elif isinstance(self.algorithm, CAVIA):
            names = ["latent.mean"]
            theta = theta | {"latent.mean": theta["latent.mean"].requires_grad_()}
        elif config.name == "maesn" and config.adapted == "latent":
            names = ["latent.mean", "latent.log_std"]
        loss = inner_loss(config.inner_estimator, theta, play, m)
        gradient = torch.autograd.grad(loss, [theta[n] for n in names], create_graph=True)
        moved = dict(theta)
        for n, g in zip(names, gradient, strict=True):
            if config.first_order:
                g = g.detach()
            rate = 1.0 if meta.rates is None else meta.rates[n]
            moved[n] = theta[n] - INNER_LR[min(k, 1)] * rate * g
        return moved

    def value(self, x: Tensor) -> Tensor:
        return self(x.detach().requires_grad_()).detach()

    def gradient(self, x: Tensor) -> Tensor:
        x = x.detach().requires_grad_()
        return torch.autograd.grad(self(x), x)[0]


# ---- the cases


class Case(NamedTuple):
    algorithm: type
    objective: Callable[[Any, Judged], Tensor]
    options: dict[str, Any]
    steps: int = 1
    stored: bool = True
    space: spaces.Space = GAUSSIAN


MAESN_OPTIONS = {"latent": DRAWN, "latent_std": 0.6, "prior_weight": 0.3}


def dedicated(steps: int = 1, space: spaces.Space = GAUSSIAN) -> dict[str, Case]:
    """Every algorithm's own, with so many steps."""
    name = f"{steps}-{'gaussian' if space == GAUSSIAN else 'categorical'}"
    return {
        f"anil-{name}": Case(ANIL, maml_objective, {}, steps, space=space),
        f"meta_sgd-{name}": Case(MetaSGD, maml_objective, {}, steps, space=space),
        f"e_maml-{name}": Case(
            EMAML, e_maml_objective, {"exploration_weight": 0.7}, steps, space=space
        ),
        f"promp-{name}": Case(ProMP, promp_objective, {}, steps, space=space),
        f"cavia-{name}": Case(CAVIA, maml_objective, {"context": 3}, steps, space=space),
        f"maesn-{name}": Case(MAESN, maesn_objective, MAESN_OPTIONS, steps, space=space),
    }


def estimators(steps: int, space: spaces.Space) -> dict[str, Case]:
    """MAML with each inner loss; LVC with the log-probabilities of who acted, and without."""
    name = f"{steps}-{'gaussian' if space == GAUSSIAN else 'categorical'}"
    found = {}
    for kind, stored in [("lvc", True), ("lvc", False), ("dice", False), ("log_prob", False)]:
        found[f"maml_{kind}{'_stored' * stored}-{name}"] = Case(
            MAML, maml_objective, {"inner_estimator": kind}, steps, stored, space
        )
    return found


CASES = {
    **dedicated(1),
    **dedicated(2),
    **dedicated(1, CATEGORICAL),
    **estimators(1, GAUSSIAN),
    **estimators(2, GAUSSIAN),
    **estimators(1, CATEGORICAL),
    "fomaml": Case(FOMAML, maml_objective, {}, 2),
    "e_maml-raw": Case(EMAML, e_maml_objective, {"normalize_advantages": False}),
    "e_maml-weights": Case(EMAML, e_maml_objective, {"outer_weights": (1.0, 0.0, 3.0)}, 2),
    "promp-weights": Case(ProMP, promp_objective, {"outer_weights": (1.0, 2.0)}),
    "meta_sgd-first_order": Case(MetaSGD, maml_objective, {"first_order": True}, 2),
    "maml-ppo": Case(MAML, maml_objective, {"outer": "ppo"}),
    "maesn-latent": Case(MAESN, maesn_objective, MAESN_OPTIONS | {"adapted": "latent"}, 2),
    "maesn-dice": Case(MAESN, maesn_objective, MAESN_OPTIONS | {"inner_estimator": "dice"}, 2),
    "cavia-lvc": Case(CAVIA, maml_objective, {"inner_estimator": "lvc"}, 2),
    "anil-dice": Case(ANIL, maml_objective, {"inner_estimator": "dice"}, 2),
}
cases = pytest.mark.parametrize("case", CASES.values(), ids=CASES.keys())


def make(kind: Any, space: spaces.Space = GAUSSIAN, steps: int = 1, **options: Any) -> Any:
    """An algorithm in float64, its rates, where it learns some, of both signs."""
    config = kind.config_class(
        hidden_sizes=(5, 4),
        tasks=M,
        episodes=B,
        adaptation_steps=steps,
        inner_lr=INNER_LR,
        initial_std=0.9,
        **options,
    )
    algorithm = kind(config, OBSERVATION, space, seed=0)
    algorithm.meta = algorithm.meta.map(lambda params: {n: p.to(F64) for n, p in params.items()})
    algorithm.adam = AdamState.fresh(algorithm.meta.vector())
    g = torch.Generator().manual_seed(5)
    for p in (algorithm.meta.rates or {}).values():
        p += torch.randn(p.shape, generator=g, dtype=F64)
    if kind is ProMP:
        algorithm.kl_coefficients = [0.8, 0.3][:steps]
    return algorithm


def make_case(case: Case) -> tuple[Any, GradientBatch, Unrolled]:
    algorithm = make(case.algorithm, case.space, case.steps, **case.options)
    plays = [make_play(k, case.space, case.stored) for k in range(case.steps + 1)]
    shown = OBS + DRAWN * (case.algorithm is MAESN)
    return algorithm, make_batch(plays, shown), Unrolled(algorithm, plays, case.objective)


def moved(x: Tensor, by: float = 0.1) -> Tensor:
    return x + by * torch.randn(x.shape, generator=torch.Generator().manual_seed(3), dtype=F64)


def relative_error(got: Tensor, expected: Tensor) -> float:
    return float((got - expected).norm() / expected.norm())


# ---- gradients of the objectives


@cases
def test_the_gradient_is_that_of_the_unrolled_objective(case: Case) -> None:
    algorithm, batch, unrolled = make_case(case)
    objective = algorithm.objective(batch)
    x = algorithm.meta.vector()
    again = objective.loss_and_gradient(x)[1]
    for here, found in [
        (x, objective.loss_and_gradient()),
        (moved(x), objective.loss_and_gradient(moved(x))),
    ]:
        losses, gradient = found
        assert losses.shape == (M,)
        assert float(losses.mean()) == pytest.approx(float(unrolled.value(here)), rel=1e-10)
        assert relative_error(gradient, unrolled.gradient(here)) < 1e-9
        # The line search comes to its losses another way.
        assert float(objective.evaluate(here)[0]) == pytest.approx(float(losses.mean()), rel=1e-10)
    assert relative_error(again, objective.loss_and_gradient()[1]) < 1e-12


@pytest.mark.parametrize(
    "name", ["meta_sgd-2-gaussian", "promp-2-gaussian", "e_maml-1-gaussian", "maesn-2-gaussian"]
)
def test_the_gradient_agrees_with_finite_differences(name: str) -> None:
    algorithm, batch, unrolled = make_case(CASES[name])
    x, h = moved(algorithm.meta.vector()), 1e-4
    _, gradient = algorithm.objective(batch).loss_and_gradient(x)
    g = torch.Generator().manual_seed(0)
    for _ in range(4):
        v = torch.randn(len(x), generator=g, dtype=F64)
        v *= h / v.norm()
        # Fourth-order central difference.
        far = unrolled.value(x + 2 * v) - unrolled.value(x - 2 * v)
        near = unrolled.value(x + v) - unrolled.value(x - v)
        numeric = (8 * near - far) / 12
        assert float(gradient.dot(v)) == pytest.approx(float(numeric), rel=1e-6)


def test_the_moved_policies_of_the_clipped_cases_are_on_both_sides_of_the_clip() -> None:
    for name in ("promp-1-gaussian", "promp-2-gaussian", "promp-1-categorical", "maml-ppo"):
        algorithm, _, unrolled = make_case(CASES[name])
        meta = algorithm.meta.unflatten(moved(algorithm.meta.vector()).requires_grad_())
        clipped_steps, steps = 0, 0
        for m in range(M):
            theta = meta.policy
            for k, play in enumerate(unrolled.plays[:-1]):
                theta = unrolled.adapt(meta, theta, play, m, k)
            play = unrolled.plays[-1]
            last = len(unrolled.plays) - 1
            ratio = ratios(theta, unrolled.old[m, last], play, m)
            a = torch.cat([play.advantages[m, b, :n] for b, n in enumerate(play.lengths[m])])
            over = ((a > 0) & (ratio > 1.2)) | ((a < 0) & (ratio < 0.8))
            clipped_steps, steps = clipped_steps + int(over.sum()), steps + len(a)
        assert 3 <= clipped_steps <= steps - 3


@cases
def test_blocks_of_tasks_change_nothing(case: Case, monkeypatch: pytest.MonkeyPatch) -> None:
    algorithm, batch, _ = make_case(case)
    x = algorithm.meta.vector()
    whole = algorithm.objective(batch)
    monkeypatch.setattr("metarl.maths.samples.BLOCK_BYTES", 1)
    blocks = algorithm.objective(batch)
    assert relative_error(blocks.loss_and_gradient()[1], whole.loss_and_gradient()[1]) < 1e-12
    assert relative_error(blocks.curvature_product(x), whole.curvature_product(x)) < 1e-12


def test_the_estimators_differ_in_the_meta_gradient_and_not_in_the_step() -> None:
    """Else the cases above could all be one."""
    batch = make_batch([make_play(k, GAUSSIAN, stored=False) for k in range(2)])
    algorithms = [make(MAML, inner_estimator=kind) for kind in ("log_prob", "lvc", "dice")]
    found = [algorithm.objective(batch).loss_and_gradient() for algorithm in algorithms]
    for (losses, gradient), (others, other) in itertools.combinations(found, 2):
        torch.testing.assert_close(losses, others, rtol=1e-10, atol=1e-12)
        assert relative_error(gradient, other) > 1e-2


# ---- curvature


@pytest.mark.parametrize(
    "name",
    [
        "meta_sgd-1-gaussian",
        "meta_sgd-2-gaussian",
        "meta_sgd-1-categorical",
        "anil-2-gaussian",
        "meta_sgd-first_order",
        "e_maml-2-gaussian",
        "e_maml-weights",
        "maml_dice-1-gaussian",
        "maml_lvc_stored-2-gaussian",
        "cavia-2-gaussian",
        "maesn-2-gaussian",
        "maesn-1-categorical",
        "maesn-latent",
    ],
)
def test_the_curvature_is_the_hessian_of_the_kl_between_adapted_policies(name: str) -> None:
    algorithm, batch, unrolled = make_case(CASES[name]._replace(objective=kl_objective))
    x = algorithm.meta.vector().requires_grad_()
    v = moved(torch.zeros_like(x), by=1.0)
    (g,) = torch.autograd.grad(unrolled(x), x, create_graph=True)
    (expected,) = torch.autograd.grad(g, x, v)
    got = algorithm.objective(batch).curvature_product(v)
    assert relative_error(got, expected) < 1e-7


# ---- outer optimisers


@pytest.mark.parametrize(("outer", "steps"), [("adam", 1), ("ppo", 4)])
def test_adam_moves_maml_as_torchs_does_on_the_unrolled_loss(outer: str, steps: int) -> None:
    options = {"steps": steps} if outer == "ppo" else {}
    maml = make(MAML, outer={"name": outer, "lr": 0.05, **options})
    x = flatten(maml.params).clone().requires_grad_()
    adam = torch.optim.Adam([x], lr=0.05, eps=1e-5)
    for iteration in range(2):  # the second from what Adam remembers
        plays = [make_play(k, GAUSSIAN, stored=True, seed=iteration) for k in range(2)]
        unrolled = Unrolled(maml, plays, maml_objective)
        for _ in range(steps):
            x.grad = unrolled.gradient(x)
            adam.step()
        metrics = maml.update(make_batch(plays))
        assert relative_error(flatten(maml.params), x.detach()) < 1e-10
        after = float(unrolled.value(x))
        assert metrics["loss/outer_after"] == pytest.approx(after, rel=1e-9)


@pytest.mark.parametrize(("outer", "lr"), [("sgd", 1.0), ("sgd", 0.4), ("adam", 0.05)])
def test_reptile_goes_where_a_slow_loop_leads(outer: str, lr: float) -> None:
    reptile = make(Reptile, steps=2, outer={"name": outer, "lr": lr})
    x = flatten(reptile.params).clone().requires_grad_()
    adam = torch.optim.Adam([x], lr=lr, eps=1e-5)
    for iteration in range(3 if outer == "adam" else 1):
        plays = [make_play(k, GAUSSIAN, stored=True, seed=iteration) for k in range(3)]
        towards = torch.zeros_like(x)
        for m in range(M):
            theta = unflatten(x.detach().clone(), reptile.params)
            for k, play in enumerate(plays):  # the episodes after adaptation too
                theta = {n: p.detach().requires_grad_() for n, p in theta.items()}
                inner_loss("log_prob", theta, play, m).backward()
                size = INNER_LR[min(k, 1)]
                theta = {n: p - size * p.grad for n, p in theta.items()}  # type: ignore[operator]
            towards += (flatten(theta).detach() - x.detach()) / M
        if outer == "adam":
            x.grad = -towards
            adam.step()
        else:
            x.data += lr * towards
        reptile.update(make_batch(plays))
        assert relative_error(flatten(reptile.params), x.detach()) < 1e-10


# ---- ANIL's body, ProMP's coefficient, E-MAML's credit


def test_anil_adapts_the_head_alone() -> None:
    anil = make(ANIL)
    data = make_play(0, GAUSSIAN, stored=True).flat()
    theta = {name: p.expand(M, *p.shape) for name, p in anil.params.items()}
    adapted = anil.adaptation.step(theta, data, 0).adapted
    still = {name for name, p in adapted.items() if torch.equal(p, theta[name])}
    assert still == set(anil.params) - HEAD
    assert still == {f"layer{i}.{part}" for i in (0, 1) for part in ("weight", "bias")}


def test_promps_coefficients_halve_and_double_beyond_the_limits_and_stay_within() -> None:
    promp = make(ProMP, steps=2, kl_target=0.03)  # limits 0.02 and 0.045
    for kls, expected in [
        ((0.0199, 0.0201), [0.4, 0.3]),
        ((0.0449, 0.0451), [0.4, 0.6]),
        ((0.5, 0.0), [0.8, 0.3]),
    ]:
        found = [torch.tensor(kl) for kl in (*kls, 99.0)]  # the last of the adapted policy
        metrics = promp.after_update(SimpleNamespace(divergences=lambda x, found=found: found))
        assert promp.kl_coefficients == pytest.approx(expected, rel=1e-12)
        for k in range(2):
            assert metrics[f"kl/before_step_{k + 1}"] == pytest.approx(kls[k])
            assert metrics[f"kl/coefficient_{k + 1}"] == pytest.approx(expected[k])


def test_promps_coefficients_do_not_vanish() -> None:
    promp = make(ProMP, kl_coefficient=0.5)
    promp.kl_coefficients = [0.5]
    still = SimpleNamespace(divergences=lambda x: [torch.tensor(0.0)])
    for _ in range(20):
        promp.after_update(still)
    assert promp.kl_coefficients == [0.5 / 1024]


def test_promps_update_reports_the_kl_of_the_policies_before_each_step() -> None:
    algorithm, batch, unrolled = make_case(CASES["promp-2-gaussian"])
    metrics = algorithm.update(batch)
    for k in range(2):
        unrolled.objective = lambda _, at, k=k: divergence(*at.args()) * (at.k == k)
        expected = float(unrolled.value(algorithm.meta.vector()))
        assert expected > 0
        assert metrics[f"kl/before_step_{k + 1}"] == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize(
    ("normalise", "expected"),
    [
        # Over the mean of the two others: 1 − 4, 2 − 3.5, 6 − 1.5.
        (True, [x / math.sqrt(7) for x in (-3.0, -1.5, 4.5)]),
        (False, [B * x for x in (-3.0, -1.5, 4.5)]),
    ],
)
def test_e_mamls_credit_by_hand(normalise: bool, expected: list[float]) -> None:
    e_maml = make(EMAML, steps=2, normalize_advantages=normalise, exploration_weight=0.5)
    batch = make_batch([make_play(k, GAUSSIAN, stored=True) for k in range(3)])
    outer, *explored = e_maml.terms(batch)
    assert outer.step == 2
    assert outer.samples is batch.data[2]
    assert [term.step for term in explored] == [0, 1]
    for term in explored:
        rows = [[0.5 * credit] * term.samples.weights.shape[1] for credit in expected]
        torch.testing.assert_close(
            term.samples.advantages, torch.tensor(rows, dtype=F64), rtol=1e-7, atol=0
        )
        assert term.kl_weight == 0.0
