"""The encoder of images, in both of its ways, and the policy upon it."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from gymnasium import spaces

from metarl.maths.params import Params, flatten, unflatten
from metarl.networks.images import ImageEncoder, ImagePolicy, feedforward_policy
from metarl.networks.latent import latent_policy
from metarl.networks.mlp import MLPPolicy

F64 = torch.float64


def drawn(policy: ImagePolicy | ImageEncoder, tasks: int, seed: int = 0) -> Params:
    """Random stacked parameters, float64."""
    g = torch.Generator().manual_seed(seed)
    params = policy.init(np.random.default_rng(seed))
    return {n: torch.randn(tasks, *p.shape, generator=g, dtype=F64) / 3 for n, p in params.items()}


def images(tasks: int, rows: int, shape: tuple[int, int, int]) -> torch.Tensor:
    """Random flat images uint8 ``[M, N, x]``."""
    g = torch.Generator().manual_seed(1)
    return torch.randint(256, (tasks, rows, int(np.prod(shape))), generator=g).to(torch.uint8)


@pytest.mark.parametrize("shape", [(16, 16, 3), (7, 9, 1), (2, 13, 8), (3, 3, 3), (1, 1, 1)])
def test_the_shared_filters_and_a_tasks_own_give_the_same_features(
    shape: tuple[int, int, int],
) -> None:
    encoder = ImageEncoder(shape)
    params, x = drawn(encoder, 2), images(2, 5, shape)
    features = encoder.stacked(params, x)
    assert features.shape == (2, 5, encoder.feature_dim)
    for m in range(2):
        alone = encoder.shared({n: p[m] for n, p in params.items()}, x[m])
        torch.testing.assert_close(alone, features[m], rtol=1e-12, atol=1e-12)
    assert float(features.std()) > 0.01


def test_maps_are_halved_until_they_are_small() -> None:
    assert ImageEncoder((16, 16, 3)).sides == [(16, 16), (8, 8), (4, 4)]
    assert ImageEncoder((4, 84, 84)).sides[-2:] == [(6, 6), (3, 3)]
    assert ImageEncoder((3, 3, 3)).sides == [(3, 3), (2, 2)]
    assert ImageEncoder.of(spaces.Box(0, 1, (16, 16, 3))) is None


def test_channels_that_come_first_are_the_same_image() -> None:
    last, first = ImageEncoder((9, 11, 3)), ImageEncoder((3, 9, 11))
    x = images(1, 4, (9, 11, 3))
    moved = x.view(1, 4, 9, 11, 3).movedim(-1, 2).flatten(2)
    params = drawn(last, 1)
    assert torch.equal(first.stacked(params, moved), last.stacked(params, x))


def test_pixels_are_divided_by_255_and_features_know_where_they_are() -> None:
    encoder = ImageEncoder((16, 16, 1))
    params = {n: p[0] for n, p in drawn(encoder, 1).items()}
    params |= {n: torch.zeros_like(p) for n, p in params.items() if n.endswith("bias")}
    white = torch.full((1, 256), 255, dtype=torch.uint8)
    ones = encoder.shared(params, torch.ones(1, 256, dtype=F64) * 255.0)
    assert torch.equal(encoder.shared(params, white), ones)
    dark = encoder.shared(params, torch.full((1, 256), 51, dtype=torch.uint8))
    torch.testing.assert_close(dark, 0.2 * ones)  # without biases it is linear in the brightness
    dots = torch.zeros(2, 16, 16, dtype=torch.uint8)
    dots[0, 4, 4], dots[1, 4, 8] = 255, 255
    here, there = encoder.shared(params, dots.flatten(1))
    assert not torch.allclose(here, there, atol=1e-3)
    assert torch.allclose(here.sort().values, there.sort().values, atol=1e-9)  # but for the place


def test_a_policy_of_images_has_the_derivatives_of_its_loss() -> None:
    """Gradient and Hessian products against differences, through the filters of each task."""
    policy = feedforward_policy((25, 5, (2, 3)), ImageEncoder((5, 5, 1)), hidden_sizes=(4,))
    assert isinstance(policy, ImagePolicy)
    params, v, x = drawn(policy, 2), drawn(policy, 2, seed=5), images(2, 6, (5, 5, 1))
    actions = torch.randint(0, 2, (2, 6, 2), generator=torch.Generator().manual_seed(2))
    weights = torch.full((2, 6), 1 / 6, dtype=F64)

    def loss_at(theta: Params) -> torch.Tensor:
        return -(weights * policy(theta, x).log_prob(actions)).sum(1)

    found = policy.through(params, x).differentiate(
        lambda d: -(weights * d.log_prob(actions)).sum(1), second_order=True
    )
    h, direction = 1e-6, flatten(v)

    def at(step: float) -> Params:
        return unflatten(flatten(params) + step * direction, params)

    slope = (loss_at(at(h)) - loss_at(at(-h))).sum() / (2 * h)
    torch.testing.assert_close(flatten(found.gradient) @ direction, slope, rtol=1e-6, atol=1e-9)

    def gradient(step: float) -> torch.Tensor:
        moved = policy.through(at(step), x)
        return flatten(
            moved.differentiate(lambda d: -(weights * d.log_prob(actions)).sum(1)).gradient
        )

    assert found.hessian_product is not None
    bent = (gradient(h) - gradient(-h)) / (2 * h)
    torch.testing.assert_close(flatten(found.hessian_product(v)), bent, rtol=1e-5, atol=1e-7)
    assert float(bent.norm()) > 1e-2


def test_what_is_no_image_has_the_perceptron_that_it_had() -> None:
    assert feedforward_policy((3, 2, False), None, hidden_sizes=(4,)) == MLPPolicy(
        3, 2, hidden_sizes=(4,)
    )


def test_a_latent_refuses_images() -> None:
    with pytest.raises(ValueError, match="beside numbers and not beside images"):
        latent_policy((25, 5, True), ImageEncoder((5, 5, 1)))
