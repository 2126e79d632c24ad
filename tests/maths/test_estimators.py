"""Returns, advantages, baseline, solvers and distributions against hand-computed numbers."""

from __future__ import annotations

import math
from dataclasses import fields

import numpy as np
import pytest
import torch

from metarl.algorithms.settings.outer import TRPOSettings
from metarl.maths import baseline
from metarl.maths.baseline import linear_baseline, time_features
from metarl.maths.distributions import Categorical, DiagonalGaussian, action_family
from metarl.maths.returns import discounted_sum, generalized_advantages, normalize, rounding
from metarl.maths.samples import task_blocks
from metarl.maths.solvers import backtracking_line_search, conjugate_gradient
from metarl.maths.trpo import TRPO

F64 = torch.float64


def test_discounted_sum_by_hand() -> None:
    y = discounted_sum(torch.tensor([1.0, 2.0, 4.0], dtype=F64), 0.5)
    assert y.tolist() == [1 + 0.5 * 2 + 0.25 * 4, 2 + 0.5 * 4, 4.0]


@pytest.mark.parametrize("discount", [0.0, 1.0])
def test_discounted_sum_at_the_ends_of_the_range(discount: float) -> None:
    y = discounted_sum(torch.tensor([1.0, 2.0, 4.0], dtype=F64), discount)
    assert y.tolist() == ([1.0, 2.0, 4.0] if discount == 0 else [7.0, 6.0, 4.0])


@pytest.mark.parametrize("discount", [0.0, 0.9, 0.999, 1.0])
@pytest.mark.parametrize("horizon", [1, 2, 127, 128, 129, 1000, 20_000])
def test_discounted_sum_against_a_loop(discount: float, horizon: int) -> None:
    """Blocks of 128 steps, and blocks of those: each sum goes on across their bounds."""
    x = np.random.default_rng(horizon).standard_normal((2, horizon))
    expected, following = np.zeros_like(x), np.zeros(2)
    for t in reversed(range(horizon)):
        following = expected[:, t] = x[:, t] + discount * following
    y = discounted_sum(torch.from_numpy(x), discount)
    np.testing.assert_allclose(y.numpy(), expected, rtol=1e-11, atol=1e-11)
    y32 = discounted_sum(torch.from_numpy(x).float(), discount)
    scale = np.abs(expected).max()
    np.testing.assert_allclose(y32.numpy(), expected, rtol=0, atol=1e-5 * scale)


def test_discounted_sums_hold_no_matrix_over_time() -> None:
    """A matrix of 200,000 × 200,000 steps would be 160 GB."""
    y = discounted_sum(torch.ones(1, 200_000), 1.0)
    assert y[0, 0] == 200_000


def test_gae_by_hand_with_early_termination() -> None:
    # Two rows of horizon 3; the second ends after two steps. γ = 0.5, λ = 0.5, so γλ = 0.25.
    rewards = torch.tensor([[1.0, 2.0, 3.0], [1.0, 2.0, 0.0]], dtype=F64)
    values = torch.tensor([[10.0, 20.0, 30.0], [10.0, 20.0, 999.0]], dtype=F64)
    valid = torch.tensor([[True, True, True], [True, True, False]])
    # Row 1: δ = (1 + 10 − 10, 2 + 15 − 20, 3 − 30) = (1, −3, −27)
    # Row 2: δ = (1 + 10 − 10, 2 − 20) = (1, −18): nothing is bootstrapped from the padded value.
    expected = [
        [1 - 3 / 4 - 27 / 16, -3 - 27 / 4, -27.0],
        [1 - 18 / 4, -18.0, 0.0],
    ]
    got = generalized_advantages(rewards, values, valid, 0.5, 0.5)
    torch.testing.assert_close(got, torch.tensor(expected, dtype=F64), rtol=0, atol=1e-14)


def test_gae_at_lambda_one_is_returns_minus_values_and_at_zero_the_td_error() -> None:
    g = torch.Generator().manual_seed(0)
    rewards = torch.randn(3, 4, 7, generator=g, dtype=F64)
    values = torch.randn(3, 4, 7, generator=g, dtype=F64)
    valid = torch.arange(7) < torch.randint(1, 8, (3, 4, 1), generator=g)
    rewards = rewards * valid
    monte_carlo = (discounted_sum(rewards, 0.9) - values) * valid
    torch.testing.assert_close(
        generalized_advantages(rewards, values, valid, 0.9, 1.0), monte_carlo, rtol=0, atol=1e-12
    )
    # λ = 0, by a slow loop.
    td = torch.zeros_like(values)
    for m, b, t in np.ndindex(3, 4, 7):
        if valid[m, b, t]:
            following = values[m, b, t + 1] if t < 6 and valid[m, b, t + 1] else 0.0
            td[m, b, t] = rewards[m, b, t] + 0.9 * following - values[m, b, t]
    torch.testing.assert_close(
        generalized_advantages(rewards, values, valid, 0.9, 0.0), td, rtol=0, atol=1e-12
    )


def test_gae_refuses_shapes_that_would_broadcast() -> None:
    with pytest.raises(ValueError, match="shapes differ"):
        generalized_advantages(torch.zeros(2, 3), torch.zeros(3), torch.ones(2, 3).bool(), 0.9, 1.0)


def test_normalize_divides_by_the_standard_deviation_per_task_over_valid_steps() -> None:
    # Trap: dividing by the variance. Values far from unit variance tell the two apart.
    x = torch.tensor([[[2.0, 4.0, 777.0]], [[10.0, 20.0, 60.0]]], dtype=F64)
    valid = torch.tensor([[[True, True, False]], [[True, True, True]]])
    y = normalize(x, valid, dims=(1, 2), noise=torch.zeros(2, 1, 1))
    std = math.sqrt((20**2 + 10**2 + 30**2) / 3)
    expected = [[[-1.0, 1.0, 0.0]], [[-20 / std, -10 / std, 30 / std]]]
    torch.testing.assert_close(y, torch.tensor(expected, dtype=F64), rtol=0, atol=1e-7)


def test_normalize_knows_no_scale_but_leaves_noise_at_zero() -> None:
    g = torch.Generator().manual_seed(6)
    x, valid = torch.randn(2, 3, 5, generator=g), torch.ones(2, 3, 5, dtype=torch.bool)
    plain = normalize(x, valid, (1, 2), torch.zeros(2, 1, 1))
    for scale in (2.0**-60, 2.0**-30, 2.0**30):
        assert torch.equal(normalize(scale * x, valid, (1, 2), torch.zeros(2, 1, 1)), plain)
    std = x[1].std(correction=0)
    for noise, told in ((0.99 * std, True), (1.01 * std, False)):
        y = normalize(x, valid, (1, 2), torch.stack([torch.zeros(()), noise]).view(2, 1, 1))
        assert torch.equal(y[0], plain[0])
        assert torch.equal(y[1], plain[1] if told else torch.zeros(3, 5))


def test_rounding_is_that_of_the_largest_of_each() -> None:
    x = torch.tensor([[1.0, -8.0], [0.0, 0.5]])
    assert rounding(x, (1,)).tolist() == [[16 * 8 * 2.0**-23], [16 * 0.5 * 2.0**-23]]
    assert rounding(x.to(F64), (0, 1)).tolist() == [[16 * 8 * 2.0**-52]]


def test_linear_baseline_recovers_a_linear_function_and_ignores_padding() -> None:
    g = torch.Generator().manual_seed(1)
    observations = torch.randn(3, 5, 6, 2, generator=g, dtype=F64)
    weights = torch.randn(3, 8, generator=g, dtype=F64)  # every task its own function
    returns = torch.einsum("mbtf,mf->mbt", time_features(observations), weights)
    valid = torch.arange(6) < torch.tensor([6, 2, 4, 6, 1]).view(1, 5, 1)
    valid = valid.expand(3, 5, 6)
    poisoned = torch.where(valid, returns, 1e6)
    fitted = linear_baseline(observations, poisoned, valid, ridge=1e-12)
    torch.testing.assert_close(fitted[valid], returns[valid], rtol=1e-6, atol=1e-6)


def test_linear_baseline_against_the_textbook_solution_of_each_task() -> None:
    g = torch.Generator().manual_seed(2)
    observations = 20 * torch.randn(2, 3, 8, 2, generator=g, dtype=F64)  # some are clipped
    returns = torch.randn(2, 3, 8, generator=g, dtype=F64)
    valid = torch.arange(8) < torch.tensor([8, 6, 4]).view(1, 3, 1)
    valid = valid.expand(2, 3, 8)
    fitted = linear_baseline(observations, returns, valid, ridge=1e-2)
    for m in range(2):
        rows = []
        for b, t in np.ndindex(3, 8):
            s = np.clip(observations[m, b, t].numpy(), -10, 10)
            rows.append([*s, *(s**2), t / 100, (t / 100) ** 2, (t / 100) ** 3, 1.0])
        phi, keep = np.array(rows), valid[m].flatten().numpy()
        a = phi[keep].T @ phi[keep] + 1e-2 * np.eye(8)
        w = np.linalg.solve(a, phi[keep].T @ returns[m].flatten().numpy()[keep])
        expected = np.where(keep, phi @ w, 0.0)
        np.testing.assert_allclose(fitted[m].flatten().numpy(), expected, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("columns", [4, 30, 12_288])
def test_features_that_are_many_for_the_steps_leave_the_advantages_whole(columns: int) -> None:
    """A fit of as many weights as there are steps is the returns themselves; of half, half."""
    g = torch.Generator().manual_seed(3)
    observations = torch.randn(2, 5, 8, columns, generator=g)
    returns = torch.randn(2, 5, 8, generator=g)  # what actions did by chance, nothing else
    valid = torch.ones(2, 5, 8, dtype=torch.bool)
    left = (returns - linear_baseline(observations, returns, valid)).flatten(1)
    for task, chance in zip(left, returns.flatten(1), strict=True):
        assert float(torch.corrcoef(torch.stack([task, chance]))[0, 1]) > 0.7
    if columns > 4:
        alone = linear_baseline(torch.zeros(2, 5, 8, 0), returns, valid)
        assert torch.equal(linear_baseline(observations, returns, valid), alone)


def test_every_task_has_the_features_that_its_own_steps_can_carry() -> None:
    g = torch.Generator().manual_seed(4)
    observations, returns = torch.randn(2, 3, 8, 3, generator=g), torch.randn(2, 3, 8, generator=g)
    valid = torch.ones(2, 3, 8, dtype=torch.bool)
    valid[1, :, 6:] = False  # 24 steps are enough for ten features, 18 are not
    fitted = linear_baseline(observations, returns, valid)
    torch.testing.assert_close(
        fitted[:1], linear_baseline(observations[:1], returns[:1], valid[:1])
    )
    by_time = linear_baseline(torch.zeros(1, 3, 8, 0), returns[1:], valid[1:])
    torch.testing.assert_close(fitted[1:], by_time)
    assert (
        fitted[0] - linear_baseline(torch.zeros(2, 3, 8, 0), returns, valid)[0]
    ).abs().max() > 0.1


def test_pixels_are_no_features() -> None:
    """However many steps there are: 0 to 255, they would be clipped to ten."""
    g = torch.Generator().manual_seed(5)
    images = torch.randint(256, (1, 20, 30, 3), generator=g).to(torch.uint8)
    returns, valid = torch.randn(1, 20, 30, generator=g), torch.ones(1, 20, 30, dtype=torch.bool)
    by_time = linear_baseline(torch.zeros(1, 20, 30, 0), returns, valid)
    assert torch.equal(linear_baseline(images, returns, valid), by_time)
    assert not torch.equal(linear_baseline(images.float(), returns, valid), by_time)


def test_the_features_go_by_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    g = torch.Generator().manual_seed(6)
    observations = torch.randn(2, 6, 7, 4, generator=g, dtype=F64)
    returns = torch.randn(2, 6, 7, generator=g, dtype=F64)
    valid = torch.rand(2, 6, 7, generator=g) < 0.9
    whole = linear_baseline(observations, returns, valid)
    monkeypatch.setattr(baseline, "CHUNK_BYTES", 1000)
    chunks = linear_baseline(observations, returns, valid)
    torch.testing.assert_close(chunks, whole, rtol=1e-9, atol=1e-9)


def test_time_is_a_feature_no_larger_than_ten() -> None:
    """Its cube would drown every other feature of a long episode."""
    for horizon, unit in ((3, 100), (1000, 100), (20_000, 2000)):
        t = time_features(torch.zeros(1, 1, horizon, 1, dtype=F64))[0, 0, :, -4]
        assert t.tolist() == [step / unit for step in range(horizon)]


def test_large_tasks_go_one_by_one_whatever_the_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch, "get_num_threads", lambda: 16)
    cpu = torch.device("cpu")
    assert task_blocks(40, 100 << 20, cpu) == [slice(m, m + 1) for m in range(40)]
    assert task_blocks(40, 1 << 20, cpu) == [slice(0, 16), slice(16, 32), slice(32, 40)]
    assert len(task_blocks(40, 100 << 20, torch.device("cuda"))) == 4  # ten of them are 1 GB


def test_conjugate_gradient_is_exact_in_n_steps_and_leaves_its_input_alone() -> None:
    # Trap: `p = r = b` updated in place is wrong by 39 % here and overwrites the gradient.
    g = torch.Generator().manual_seed(0)
    root = torch.randn(8, 8, generator=g, dtype=F64)
    a = root @ root.T + 0.5 * torch.eye(8, dtype=F64)
    b = torch.randn(8, generator=g, dtype=F64)
    kept = b.clone()
    x = conjugate_gradient(lambda v: a @ v, b, steps=8, residual_tolerance=0.0)
    torch.testing.assert_close(x, torch.linalg.solve(a, b), rtol=1e-9, atol=1e-9)
    assert torch.equal(b, kept)
    short = conjugate_gradient(lambda v: a @ v, b, steps=3, residual_tolerance=0.0)
    assert not torch.allclose(short, x, rtol=1e-3)  # eight steps were needed


def test_conjugate_gradient_of_zero_is_zero() -> None:
    assert conjugate_gradient(lambda v: 2 * v, torch.zeros(3), steps=5).tolist() == [0, 0, 0]


def test_line_search_takes_the_first_acceptable_candidate() -> None:
    x, step = torch.tensor([1.0]), torch.tensor([8.0])
    seen: list[float] = []

    def accept(candidate: torch.Tensor) -> bool:
        seen.append(float(candidate))
        return float(candidate) <= 3.0

    result = backtracking_line_search(accept, x, step, tries=5, ratio=0.5)
    assert seen == [9.0, 5.0, 3.0]
    assert (float(result.x), result.accepted, result.tries) == (3.0, True, 3)


def test_a_failed_line_search_restores_to_the_bit() -> None:
    # Trap: the last trial's parameters left in place.
    x = torch.tensor([0.1, -0.3])
    result = backtracking_line_search(lambda c: False, x, torch.ones(2), tries=4, ratio=0.5)
    assert not result.accepted
    assert torch.equal(result.x, x)


def make_trpo(**changes: float) -> TRPO:
    return TRPO(**(TRPOSettings().model_dump(include={f.name for f in fields(TRPO)}) | changes))


def _quadratic_trpo(trpo: TRPO, sign: float = 1.0):  # type: ignore[no-untyped-def]
    """loss = sign·gᵀx and KL = ½ xᵀFx around x = 0, whose best step is known in closed form."""
    fisher = torch.diag(torch.tensor([1.0, 4.0, 0.25], dtype=F64))
    g = torch.tensor([1.0, -2.0, 0.5], dtype=F64)
    x = torch.zeros(3, dtype=F64)
    result = trpo.step(
        x, g, lambda v: fisher @ v, lambda c: (sign * g @ c, 0.5 * c @ fisher @ c), torch.zeros(())
    )
    return result, x, g, fisher


def test_trpo_step_is_the_natural_gradient_at_the_trust_regions_edge() -> None:
    result, _, g, fisher = _quadratic_trpo(
        make_trpo(max_kl=0.02, cg_damping=0.0, line_search_ratio=0.999999)
    )
    natural = torch.linalg.solve(fisher, g)
    expected = -natural * math.sqrt(2 * 0.02 / float(g @ natural))
    assert result.accepted
    torch.testing.assert_close(result.x, expected, rtol=1e-5, atol=0)
    assert result.kl <= 0.02


def test_trpo_that_improves_nowhere_returns_the_same_parameters() -> None:
    result, x, _, _ = _quadratic_trpo(make_trpo(), sign=-1.0)
    assert not result.accepted
    assert torch.equal(result.x, x)
    assert result.kl == 0.0


def test_gaussian_against_torch_distributions() -> None:
    g = torch.Generator().manual_seed(3)
    mean, other = torch.randn(2, 5, 3, generator=g, dtype=F64).unbind(0)
    log_std = torch.randn(1, 3, generator=g, dtype=F64)
    action = torch.randn(5, 3, generator=g, dtype=F64)
    ours = DiagonalGaussian(mean, log_std)
    theirs = torch.distributions.Independent(torch.distributions.Normal(mean, log_std.exp()), 1)
    q = torch.distributions.Independent(torch.distributions.Normal(other, (2 * log_std).exp()), 1)
    # Trap: log-probabilities averaged over the action's dimensions; here they are sums.
    torch.testing.assert_close(ours.log_prob(action), theirs.log_prob(action))
    torch.testing.assert_close(ours.entropy(), theirs.entropy())
    torch.testing.assert_close(
        ours.kl(DiagonalGaussian(other, 2 * log_std)), torch.distributions.kl_divergence(theirs, q)
    )


def test_categorical_against_torch_distributions() -> None:
    g = torch.Generator().manual_seed(4)
    logits, other = torch.randn(2, 5, 3, generator=g, dtype=F64).unbind(0)
    action = torch.randint(0, 3, (5,), generator=g)
    ours, theirs = Categorical(logits), torch.distributions.Categorical(logits=logits)
    torch.testing.assert_close(ours.log_prob(action), theirs.log_prob(action))
    torch.testing.assert_close(ours.entropy(), theirs.entropy())
    q = torch.distributions.Categorical(logits=other)
    torch.testing.assert_close(
        ours.kl(Categorical(other)), torch.distributions.kl_divergence(theirs, q)
    )


def test_a_product_of_categoricals_against_torch_distributions_one_by_one() -> None:
    """Of unequal sizes: padding to the largest has no part in anything."""
    sizes = (2, 5, 1, 3)
    g = torch.Generator().manual_seed(8)
    logits, other = (5 * torch.randn(2, 6, sum(sizes), generator=g, dtype=F64)).unbind(0)
    family = action_family(sizes)
    ours, q = family(logits), family(other)
    action = torch.stack([torch.randint(0, n, (6,), generator=g) for n in sizes], dim=-1)
    pairs = zip(logits.split(sizes, -1), other.split(sizes, -1), strict=True)
    log_prob = entropy = kl = torch.zeros(6, dtype=F64)
    for i, parts in enumerate(pairs):
        one, two = (torch.distributions.Categorical(logits=z) for z in parts)
        log_prob = log_prob + one.log_prob(action[:, i])
        entropy = entropy + one.entropy()
        kl = kl + torch.distributions.kl_divergence(one, two)
    torch.testing.assert_close(ours.log_prob(action), log_prob)
    torch.testing.assert_close(ours.entropy(), entropy)
    torch.testing.assert_close(ours.kl(q), kl)
    best = [z.argmax(-1) for z in logits.split(sizes, -1)]
    assert torch.equal(ours.mode(), torch.stack(best, dim=-1))
    assert family is action_family(sizes)
    assert not isinstance(ours, Categorical)


def test_the_choices_of_a_product_are_drawn_apart() -> None:
    family = action_family((2, 3))
    noise = torch.from_numpy(family.noise(np.random.default_rng(0), (100_000, 5)))
    logits = torch.tensor([0.0, math.log(3.0), 0.0, 0.0, math.log(2.0)])
    drawn = family(logits).sample(noise)
    counts = torch.zeros(2, 3).index_put((drawn[:, 0], drawn[:, 1]), torch.ones(()), True)
    expected = torch.outer(torch.tensor([0.25, 0.75]), torch.tensor([0.25, 0.25, 0.5]))
    torch.testing.assert_close(counts / 100_000, expected, rtol=0, atol=0.006)


@pytest.mark.parametrize("family", [DiagonalGaussian, Categorical])
def test_samples_follow_the_distribution(family: type) -> None:
    rng = np.random.default_rng(0)
    noise = torch.from_numpy(family.noise(rng, (200_000, 2)))
    if family is DiagonalGaussian:
        x = DiagonalGaussian(torch.tensor([1.0, -2.0]), torch.tensor([0.0, 1.0])).sample(noise)
        torch.testing.assert_close(x.mean(0), torch.tensor([1.0, -2.0]), rtol=0, atol=0.03)
        torch.testing.assert_close(x.std(0), torch.tensor([1.0, math.e]), rtol=0, atol=0.03)
    else:
        x = Categorical(torch.tensor([0.0, math.log(3.0)])).sample(noise)
        assert float(x.double().mean()) == pytest.approx(0.75, abs=0.005)


@pytest.mark.parametrize("family", ["gaussian", "categorical", "product"])
def test_fisher_metric_is_the_hessian_of_the_kl(family: str) -> None:
    g = torch.Generator().manual_seed(5)
    if family == "gaussian":
        p = DiagonalGaussian(torch.randn(3, generator=g), torch.randn(3, generator=g))
    else:
        of_logits = Categorical if family == "categorical" else action_family((3, 1, 2))
        p = of_logits(torch.randn(6, generator=g))  # type: ignore[assignment]
    p = type(p)(*(x.to(F64) for x in p))
    v = type(p)(*(torch.randn(x.shape, generator=g, dtype=F64) for x in p))

    def kl(*values: torch.Tensor) -> torch.Tensor:
        return p.kl(type(p)(*values))  # type: ignore[arg-type]

    _, expected = torch.autograd.functional.hvp(kl, tuple(p), tuple(v))
    for got, want in zip(p.fisher_product(v), expected, strict=True):  # type: ignore[arg-type]
        torch.testing.assert_close(got, want)
