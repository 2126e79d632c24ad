"""Embeddings that tasks share: the network's own numbers, and whose statistics normalise them."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from metarl.networks.conv import ConvNetwork, Norm, Pooling
from metarl.networks.embedding import ConvEmbedding

NETWORK = ConvNetwork((2, 16, 16), filters=5)


def images(*shape: int) -> torch.Tensor:
    rng = torch.Generator().manual_seed(0)
    return torch.rand(*shape, 2 * 16 * 16, generator=rng)


@pytest.mark.parametrize("pooling", ["stride", "max"])
@pytest.mark.parametrize("norm", ["batch", "none"])
def test_one_convolution_a_block_gives_the_networks_features(pooling: Pooling, norm: Norm) -> None:
    """And gradients; all rows of all tasks are one batch."""
    network = ConvNetwork((2, 16, 16), filters=5, pooling=pooling, norm=norm)
    embedding = ConvEmbedding(network)
    params = {n: p.double() for n, p in network.init(np.random.default_rng(0)).items()}
    params = {n: (p + 0.1 * torch.randn_like(p)).requires_grad_() for n, p in params.items()}
    x = images(3, 4).double()
    running = {n: s.double() for n, s in embedding.initial_statistics().items()}
    found = embedding.embed(params, x, running, training=True)[0]
    expected = network.embed(params, x.view(1, 12, -1)).view(3, 4, -1)
    assert found.shape == (3, 4, embedding.feature_dim)
    assert torch.allclose(found, expected, rtol=1e-10, atol=1e-12)
    leaves = list(params.values())
    gradients = [torch.autograd.grad(f.sin().sum(), leaves) for f in (found, expected)]
    for mine, theirs in zip(*gradients, strict=True):
        assert torch.allclose(mine, theirs, rtol=1e-8, atol=1e-10)


def test_running_statistics_follow_the_inputs_and_let_no_row_depend_on_another() -> None:
    embedding = ConvEmbedding(NETWORK)
    params = embedding.init(np.random.default_rng(0))
    before = embedding.initial_statistics()
    x = images(2, 60)
    features, running = embedding.embed(params, x, before, training=True)
    assert all(torch.equal(s, t) for s, t in zip(before.values(), NETWORK_STATISTICS, strict=True))
    for _ in range(100):
        _, running = embedding.embed(params, x, running, training=True)
    evaluated, same = embedding.embed(params, x, running, training=False)
    assert all(torch.equal(running[n], same[n]) for n in running)
    # The running variances are unbiased ones, of 120 positions in the last block.
    assert torch.allclose(evaluated, features, rtol=0.02, atol=0.01)
    alone = embedding.embed(params, x[:1, 2:3], running, training=False)[0]
    assert torch.allclose(alone[0, 0], evaluated[0, 2], atol=1e-6)
    crowd = embedding.embed(params, x[:1, 2:4], running, training=True)[0]
    assert not torch.allclose(crowd[0, 0], evaluated[0, 2], atol=1e-2)


NETWORK_STATISTICS = [torch.zeros(5)] * 4 + [torch.ones(5)] * 4
