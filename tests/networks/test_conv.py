"""The convolutional network: against torch's own operations, and its derivatives."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from metarl.maths.params import Params, stack
from metarl.networks.conv import BLOCKS, ConvNetwork, Patches
from metarl.types import Norm, Pooling

SMALL = ConvNetwork((2, 19, 16), classes=3, filters=4)


def drawn(network: ConvNetwork, num_tasks: int) -> tuple[Params, Tensor]:
    """Random stacked parameters, and seven images a task, float64."""
    rng = np.random.default_rng(0)
    shapes = {n: p.shape for n, p in network.init(rng).items()}
    params = {n: torch.from_numpy(rng.normal(0.2, 0.5, (num_tasks, *s))) for n, s in shapes.items()}
    return params, torch.from_numpy(rng.random((num_tasks, 7, 2 * 19 * 16)))


def reference(network: ConvNetwork, params: Params, images: Tensor) -> Tensor:
    """Logits ``[N, n]`` of one task's images by torch's own operations."""
    x = images.view(-1, *network.image_shape)
    rows = network.statistics_rows or len(images)
    for i in range(BLOCKS):
        weight = params[f"block{i}.weight"].unflatten(0, (3, 3, -1)).permute(3, 2, 0, 1)
        x = F.conv2d(x, weight, stride=2 if network.pooling == "stride" else 1, padding=1)
        if network.norm == "batch":
            known = x[:rows].movedim(1, -1).flatten(0, 2)  # [., F]
            mean, var = known.mean(0), known.var(0, correction=0)
            x = ((x.movedim(1, -1) - mean) / (var + 1e-3).sqrt()).movedim(-1, 1)
            x = x * params[f"block{i}.scale"].view(-1, 1, 1)
        x = (x + params[f"block{i}.shift"].view(-1, 1, 1)).relu()
        x = F.max_pool2d(x, 2) if network.pooling == "max" else x
    # torch flattens channels first, the network last
    features = x.mean((2, 3)) if network.pooling == "stride" else x.movedim(1, -1).flatten(1)
    return features @ params["head.weight"] + params["head.bias"]


@pytest.mark.parametrize("pooling", ["stride", "max"])
@pytest.mark.parametrize(("norm", "rows"), [("batch", None), ("batch", 3), ("none", None)])
def test_every_task_is_a_network_of_its_own(pooling: Pooling, norm: Norm, rows: int | None) -> None:
    network = replace(SMALL, pooling=pooling, norm=norm, statistics_rows=rows)
    params, images = drawn(network, 2)
    logits = network(params, images).logits
    for m in range(2):
        expected = reference(network, {n: p[m] for n, p in params.items()}, images[m])
        torch.testing.assert_close(logits[m], expected, rtol=1e-10, atol=1e-10)


def test_shared_parameters_need_not_be_stacked() -> None:
    network = replace(SMALL, classes=None, pooling="max")
    params, images = drawn(network, 2)
    shared = {n: p[0] for n, p in params.items()}
    features = network.embed(shared, images)
    assert features.shape == (2, 7, network.feature_dim)
    torch.testing.assert_close(features, network.embed(stack(shared, 2), images))
    assert set(network.init(np.random.default_rng(0))) == set(shared)


def test_only_what_is_transductive_looks_at_the_other_images() -> None:
    params, images = drawn(SMALL, 1)
    others = images.clone()
    others[:, -1] = 0.0
    seen = [SMALL(params, x).logits[:, :-1] for x in (images, others)]
    assert float((seen[0] - seen[1]).abs().max()) > 1e-3
    by_support = replace(SMALL, statistics_rows=3)
    torch.testing.assert_close(*(by_support(params, x).logits[:, :-1] for x in (images, others)))


def test_the_fisher_product_is_the_hessian_of_the_kl() -> None:
    params, images = drawn(SMALL, 2)
    g = torch.Generator().manual_seed(0)
    v = {n: torch.randn(p.shape, generator=g, dtype=p.dtype) for n, p in params.items()}
    weights = torch.rand(2, 7, generator=g, dtype=torch.float64)
    taken = SMALL.through(params, images)
    leaves = [p.clone().requires_grad_() for p in params.values()]
    new = SMALL(dict(zip(params, leaves, strict=True)), images)
    kl = (weights * taken.distribution.kl(new)).sum()
    gradient = torch.autograd.grad(kl, leaves, create_graph=True)
    expected = torch.autograd.grad(gradient, leaves, list(v.values()))
    found = taken.fisher_product(weights, v)
    for (name, product), other in zip(found.items(), expected, strict=True):
        scale = float(expected[0].abs().max())
        torch.testing.assert_close(product, other, rtol=1e-9, atol=1e-10 * scale, msg=name)


@pytest.mark.parametrize("stride", [1, 2])
def test_the_patches_have_derivatives_of_every_order(stride: int) -> None:
    x = torch.rand(1, 1, 4, 3, 2, dtype=torch.float64, requires_grad=True)

    def convolve(x: Tensor) -> Tensor:
        return Patches.apply(x, stride).square()  # type: ignore[no-untyped-call]

    assert torch.autograd.gradcheck(convolve, x)
    assert torch.autograd.gradgradcheck(convolve, x)
