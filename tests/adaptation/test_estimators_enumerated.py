"""The gradient family's estimators against exact expectations, every trajectory enumerated.

Two states, two actions, a policy that is a softmax of the state alone: the expected return is a
short sum, and autograd's derivatives of it are the truth. Losses are means over a task's samples,
so that their derivatives are those of return / horizon.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cache

import numpy as np
import pytest
import torch
from gymnasium import spaces
from torch import Tensor

from metarl.adaptation.inner_loop import Adaptation
from metarl.adaptation.meta_objective import MetaObjective, Term
from metarl.algorithms.e_maml import EMAML
from metarl.algorithms.maml import GradientBatch
from metarl.algorithms.settings.gradient import EMAMLSettings
from metarl.maths.params import MetaParams, flatten, stack, unflatten
from metarl.maths.samples import Samples, flat_samples
from metarl.networks.mlp import MLPPolicy

F64 = torch.float64
POLICY = MLPPolicy(2, 2, discrete=True, hidden_sizes=())  # logits = onehot(s) W + b
START = torch.tensor([0.6, 0.4], dtype=F64)
NEXT = torch.tensor([[[0.9, 0.1], [0.2, 0.8]], [[0.7, 0.3], [0.5, 0.5]]], dtype=F64)  # [s, a, s']
REWARD = torch.tensor([[1.0, -0.5], [0.3, 2.0]], dtype=F64)  # [s, a]
THETA = {
    "layer0.weight": torch.tensor([[0.4, -0.3], [-0.8, 0.5]], dtype=F64),
    "layer0.bias": torch.tensor([0.2, -0.1], dtype=F64),
}
X = flatten(THETA)
ESTIMATORS = ["log_prob", "lvc", "dice"]


# ---- the truth


def log_policy(x: Tensor) -> Tensor:
    """log π(a|s) ``[s, a]`` of parameters ``[6]``, W row by row and then b."""
    return torch.log_softmax(x[:4].view(2, 2) + x[4:], dim=1)


def expected_return(x: Tensor, horizon: int) -> Tensor:
    """J, by dynamic programming."""
    return START @ action_values(x, horizon)[1][0]


def action_values(x: Tensor, horizon: int) -> tuple[list[Tensor], list[Tensor]]:
    """Q_t ``[s, a]`` and V_t ``[s]`` of every step."""
    pi, q, v = log_policy(x).exp(), [], [torch.zeros(2, dtype=F64)]
    for _ in range(horizon):
        q.insert(0, REWARD + NEXT @ v[0])
        v.insert(0, (pi * q[0]).sum(1))
    return q, v


@dataclass(frozen=True)
class Path:
    """One trajectory: its states and actions, and what the policy has no say in."""

    states: tuple[int, ...]
    actions: tuple[int, ...]

    def probability(self, x: Tensor) -> Tensor:
        s, a = self.states, self.actions
        moves = [NEXT[s[t], a[t], s[t + 1]] for t in range(len(s) - 1)]
        return START[s[0]] * math.prod(moves) * self.log_likelihood(x).exp()

    def log_likelihood(self, x: Tensor) -> Tensor:
        return log_policy(x)[list(self.states), list(self.actions)].sum()

    def returns_to_go(self) -> Tensor:
        rewards = REWARD[list(self.states), list(self.actions)]
        return rewards.flip(0).cumsum(0).flip(0)

    def scores(self, x: Tensor) -> list[Tensor]:
        """∇ log π(a_t|s_t) of every step ``[6]``, by the formula for a softmax."""
        pi, onehot = log_policy(x).exp(), torch.eye(2, dtype=F64)
        found = []
        for s, a in zip(self.states, self.actions, strict=True):
            error = onehot[a] - pi[s]
            found.append(torch.cat([torch.outer(onehot[s], error).flatten(), error]))
        return found


@cache
def all_paths(horizon: int) -> list[Path]:
    sequences = list(itertools.product((0, 1), repeat=horizon))
    return [Path(s, a) for s in sequences for a in sequences]


def advantages(path: Path, kind: str) -> Tensor:
    """Whatever is the advantage in expectation ``[T]``."""
    horizon = len(path.states)
    if kind == "exact":
        q, v = action_values(X, horizon)
        steps = enumerate(zip(path.states, path.actions, strict=True))
        return torch.stack([q[t][s, a] - v[t][s] for t, (s, a) in steps])
    if kind == "returns":
        return path.returns_to_go()
    baseline = torch.tensor([[0.7, -1.1, 2.0], [0.2, 0.9, -0.4]], dtype=F64)  # of s and t: any
    return path.returns_to_go() - baseline[list(path.states), list(range(horizon))]


def make_samples(tasks: Sequence[Sequence[Path]], values: Sequence[Sequence[Tensor]]) -> Samples:
    """A task for each list of episodes."""
    states = torch.tensor([[path.states for path in task] for task in tasks])  # [M, B, T]
    actions = torch.tensor([[path.actions for path in task] for task in tasks])
    judged = torch.stack([torch.stack(list(task)) for task in values])
    valid = torch.ones_like(states, dtype=torch.bool)
    return flat_samples(torch.eye(2, dtype=F64)[states], actions, judged, valid)


def relative_error(got: Tensor, expected: Tensor) -> float:
    return float((got - expected).norm() / expected.norm())


# ---- the inner losses

HORIZON = 3


def expected_derivatives(estimator: str, kind: str) -> tuple[Tensor, Tensor]:
    """−∇L ``[6]`` and −∇²L ``[6, 6]`` in expectation over episodes, times the horizon.

    By the step that MAML takes: θ' = θ − ∇L, and its Jacobian I − ∇²L, every episode a task.
    """
    paths = all_paths(HORIZON)
    samples = make_samples([[p] for p in paths], [[advantages(p, kind)] for p in paths])
    adaptation = Adaptation(POLICY, (1.0,), estimator)  # type: ignore[arg-type]
    step = adaptation.step(stack(THETA, len(paths)), samples, 0, second_order=True)
    probability = torch.stack([p.probability(X) for p in paths])

    def expectation(stacked: dict[str, Tensor]) -> Tensor:
        return flatten({n: torch.einsum("m,m...->...", probability, p) for n, p in stacked.items()})

    gradient = expectation(step.adapted) - X
    columns = []
    for e in torch.eye(6, dtype=F64):
        product = step.push_forward(stack(unflatten(e, THETA), len(paths)))
        columns.append(expectation(product) - e)
    return HORIZON * gradient, HORIZON * torch.stack(columns, dim=1)


@cache
def exact_hessian() -> Tensor:
    return torch.autograd.functional.hessian(lambda x: expected_return(x, HORIZON), X)


def missing(kind: str) -> tuple[Tensor, Tensor]:
    """What is lost of E[Σ_t (∇²π_≤t / π_≤t) Â_t], by the scores alone.

    Across the times, E[Σ_t Σ_{t' < t} (∇l_t' ∇l_tᵀ + ∇l_t ∇l_t'ᵀ) Â_t], and within them,
    E[Σ_t ∇l_t ∇l_tᵀ Â_t].
    """
    across, within = torch.zeros(6, 6, dtype=F64), torch.zeros(6, 6, dtype=F64)
    for path in all_paths(HORIZON):
        scores, values = path.scores(X), advantages(path, kind)
        for t in range(HORIZON):
            weight = path.probability(X) * values[t]
            within += weight * torch.outer(scores[t], scores[t])
            for before in range(t):
                product = torch.outer(scores[before], scores[t])
                across += weight * (product + product.T)
    return across, within


def test_the_enumeration_is_complete() -> None:
    paths = all_paths(HORIZON)
    probability = torch.stack([p.probability(X) for p in paths])
    returns = torch.stack([p.returns_to_go()[0] for p in paths])
    assert float(probability.sum()) == pytest.approx(1.0, abs=1e-14)
    assert float(probability @ returns) == pytest.approx(float(expected_return(X, HORIZON)))


@pytest.mark.parametrize("kind", ["exact", "returns", "baseline"])
def test_the_hessians_of_the_inner_losses_have_exactly_their_known_bias(kind: str) -> None:
    x = X.clone().requires_grad_()
    (exact_gradient,) = torch.autograd.grad(expected_return(x, HORIZON), x)
    gradients, hessians = {}, {}
    for estimator in ESTIMATORS:
        gradients[estimator], hessians[estimator] = expected_derivatives(estimator, kind)
        assert relative_error(gradients[estimator], exact_gradient) < 1e-12
    exact, (across, within) = exact_hessian(), missing(kind)
    size = exact.norm()
    assert (hessians["dice"] - exact).norm() < 1e-12 * size
    assert (hessians["lvc"] - (exact - across)).norm() < 1e-12 * size
    # With exact advantages nothing is left of it: a softmax's ∇² log π is of the state alone.
    assert (hessians["log_prob"] - (exact - across - within)).norm() < 1e-12 * size
    # The biases are no rounding.
    assert min(across.norm(), within.norm(), (across + within).norm()) > 0.1 * size


def test_a_baseline_changes_the_expected_hessian_of_log_prob_alone() -> None:
    for estimator in ESTIMATORS:
        plain, based = (expected_derivatives(estimator, k)[1] for k in ("returns", "baseline"))
        if estimator == "log_prob":
            assert relative_error(based, plain) > 0.1
        else:
            assert relative_error(based, plain) < 1e-12


def test_dice_has_the_higher_derivatives_of_the_expected_return_too() -> None:
    paths = all_paths(HORIZON)
    samples = make_samples([[p] for p in paths], [[advantages(p, "returns")] for p in paths])
    probability = torch.stack([p.probability(X) for p in paths])
    v = torch.tensor([0.3, -0.7, 0.5, 0.9, -0.2, 0.4], dtype=F64)

    def derivatives(f) -> list[float]:  # type: ignore[no-untyped-def]
        """Of the first to the fourth order along v."""
        s = torch.zeros((), dtype=F64, requires_grad=True)
        value, found = f(X + s * v), []
        for _ in range(4):
            (value,) = torch.autograd.grad(value, s, create_graph=True)
            found.append(value.item())
        return found

    def surrogate(x: Tensor) -> Tensor:
        theta = stack(unflatten(x, THETA), len(paths))
        losses = Adaptation(POLICY, (1.0,), "dice").inner_loss(
            POLICY(theta, samples.observations), samples
        )
        return -HORIZON * probability @ losses

    exact = derivatives(lambda x: expected_return(x, HORIZON))
    assert derivatives(surrogate) == pytest.approx(exact, rel=1e-10)


# ---- E-MAML

STEP_SIZE = 4.0
SHORT = 2  # the horizon


def adapted(x: Tensor, before: Sequence[Path]) -> Tensor:
    """θ' = θ + α ∇ mean(log π Â), Â the return to go over a constant."""
    value = sum(
        (log_policy(x)[list(p.states), list(p.actions)] * (p.returns_to_go() - 0.4)).sum()
        for p in before
    )
    mean = value / (len(before) * SHORT)
    return x + STEP_SIZE * torch.autograd.grad(mean, x, create_graph=True)[0]


def exact_gradients(episodes: int) -> tuple[Tensor, Tensor]:
    """∇E_{D_0 ~ π_θ}[J(θ'(D_0))] ``[6]``, and of it E[J(θ') ∇ log π_θ(D_0)], what MAML leaves out.

    The first is autograd's of the whole sum over D_0, whose probabilities move with θ.
    """
    x = X.clone().requires_grad_()
    total, explored = torch.zeros((), dtype=F64), torch.zeros(6, dtype=F64)
    for before in itertools.product(all_paths(SHORT), repeat=episodes):
        probability = math.prod(path.probability(x) for path in before)
        value = expected_return(adapted(x, before), SHORT)
        total = total + probability * value
        score = sum(s for path in before for s in path.scores(X))
        explored += (probability * value).detach() * score
    return torch.autograd.grad(total, x)[0], explored


def expected_estimates(
    episodes: int, other: float, estimator: str = "log_prob"
) -> tuple[Tensor, Tensor]:
    """What E-MAML's gradient, and its exploration's alone, expects over D_0 and D_1 ``[6]``.

    Of a meta-batch of two tasks, in which the other's return is whatever it is: the two tasks'
    episodes are independent, so that what holds for every constant holds in expectation.
    """
    e_maml = EMAML(
        EMAMLSettings(
            tasks=2,
            episodes=episodes,
            hidden_sizes=(),
            inner_lr=(STEP_SIZE,),
            normalize_advantages=False,
            discount=1.0,
        ).model_copy(update={"inner_estimator": estimator}),  # past the refusal of others
        spaces.Box(-np.inf, np.inf, (2,)),
        spaces.Discrete(2),
        seed=0,
    )
    e_maml.meta = MetaParams(dict(THETA))
    befores, afters, probability = [], [], []
    for before in itertools.product(all_paths(SHORT), repeat=episodes):
        theta = adapted(X.clone().requires_grad_(), before).detach()
        for after in all_paths(SHORT):  # one episode: the expectation over D_1 is the same
            befores.append(before)
            afters.append((after,))
            chance = math.prod(path.probability(X) for path in before)
            probability.append(chance * after.probability(theta))
    data = [
        make_samples(befores, [[p.returns_to_go() - 0.4 for p in task] for task in befores]),
        make_samples(afters, [[p.returns_to_go() for p in task] for task in afters]),
    ]
    returns = torch.stack([task[0].returns_to_go()[0] for task in afters])
    rows = torch.stack(probability).unsqueeze(1)

    credit = e_maml._credit
    pairs = [torch.stack([r, torch.tensor(other, dtype=F64)]) for r in returns]
    e_maml._credit = lambda _: torch.stack([credit(pair)[0] for pair in pairs])  # type: ignore[method-assign]
    batch = GradientBatch(1, np.zeros((len(rows), 1)), data, 0, {}, (returns, returns))

    def gradient(terms: list[Term]) -> Tensor:
        """The expectation: the objective's mean over tasks, each weighted by its probability."""
        weighted = [
            replace(t, samples=replace(t.samples, weights=t.samples.weights * rows * len(rows)))
            for t in terms
        ]
        objective = MetaObjective(e_maml.adaptation, e_maml.meta, data[:1], weighted)
        return -SHORT * objective.loss_and_gradient()[1]

    terms = e_maml.terms(batch)
    return gradient(terms), gradient([term for term in terms if term.step == 0])


@pytest.mark.parametrize(("episodes", "other"), [(1, 0.0), (1, 3.0), (2, 3.0)])
def test_e_maml_has_the_gradient_of_the_expected_return_after_adaptation(
    episodes: int, other: float
) -> None:
    exact, explored = exact_gradients(episodes)
    estimate, exploration = expected_estimates(episodes, other)
    assert relative_error(estimate, exact) < 1e-12
    # MAML's is the same without the exploration, and lacks exactly that.
    assert relative_error(exploration, explored) < 1e-12
    assert explored.norm() > 0.1 * exact.norm()


@pytest.mark.parametrize("estimator", ["lvc", "dice"])
def test_exploration_would_count_twice_with_the_other_inner_estimators(estimator: str) -> None:
    """Their Hessians hold some of how θ moves the episodes before adaptation: they are refused."""
    exact, _ = exact_gradients(1)
    assert relative_error(expected_estimates(1, 0.0, estimator)[0], exact) > 0.05
