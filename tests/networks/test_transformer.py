"""The Transformer against its equations, written out for one lane and one step at a time."""

from __future__ import annotations

import cmath
import math
from typing import Any

import numpy as np
import pytest
import torch

from metarl.maths.params import Params
from metarl.networks.transformer import Transformer

STEPS, LANES, INPUTS = 7, 2, 3


def transformer(**changes: Any) -> Transformer:
    return Transformer(INPUTS, 8, **{"layers": 2, "heads": 2} | changes)


def doubles(core: Transformer) -> Params:
    rng = np.random.default_rng(0)
    return {
        n: p.double() + 0.2 * torch.from_numpy(rng.normal(size=p.shape))
        for n, p in core.init(rng).items()
    }


def inputs() -> torch.Tensor:
    return torch.randn(STEPS, LANES, INPUTS, generator=torch.Generator().manual_seed(1)).double()


def norm(p: Params, name: str, x: torch.Tensor) -> torch.Tensor:
    centred = x - x.mean()
    scaled = centred / (centred.square().mean() + 1e-5).sqrt()
    return scaled * p[f"{name}.weight"] + p[f"{name}.bias"]


def slow_forward(core: Transformer, p: Params, x: torch.Tensor) -> torch.Tensor:
    """Hidden states ``[S, N, H]``; a distance turns the product of two pairs, seen as complex."""
    p = {name.removeprefix("core."): value for name, value in p.items()}
    d = core.width // core.heads

    def affine(name: str, y: torch.Tensor) -> torch.Tensor:
        return y @ p[f"{name}.weight"] + p[f"{name}.bias"]

    def score(q: torch.Tensor, k: torch.Tensor, distance: int) -> torch.Tensor:
        total = torch.zeros((), dtype=torch.float64)
        for i in range(d // 2):
            turn = cmath.exp(1j * distance * 10_000.0 ** (-2 * i / d))
            a, b = torch.complex(q[i], q[i + d // 2]), torch.complex(k[i], k[i + d // 2])
            total = total + (a * turn * b.conj()).real
        return total / math.sqrt(d)

    lanes = []
    for n in range(x.shape[1]):
        rows = [affine("embed", row) for row in x[:, n]]
        for layer in range(core.layers):
            name = f"layer{layer}"
            qkv = [affine(f"{name}.attention", norm(p, f"{name}.attention_norm", r)) for r in rows]
            for s, row in enumerate(rows):
                heads = []
                for head in range(core.heads):
                    cut = slice(head * d, (head + 1) * d)
                    q = qkv[s][: core.width][cut]
                    first = 0 if core.context is None else max(0, s - core.context + 1)
                    seen = range(first, s + 1)
                    keys = [qkv[t][core.width : 2 * core.width][cut] for t in seen]
                    scores = [score(q, k, s - t) for t, k in zip(seen, keys, strict=True)]
                    weights = torch.softmax(torch.stack(scores), 0)
                    values = torch.stack([qkv[t][2 * core.width :][cut] for t in seen])
                    heads.append(weights @ values)
                y = row + affine(f"{name}.attention_out", torch.cat(heads))
                inner = torch.relu(affine(f"{name}.mlp", norm(p, f"{name}.mlp_norm", y)))
                rows[s] = y + affine(f"{name}.mlp_out", inner)
        lanes.append(torch.stack([norm(p, "norm", row) for row in rows]))
    return torch.stack(lanes, 1)


@pytest.mark.parametrize("context", [None, 1, 3, 50])
def test_hidden_states_and_gradients_are_those_of_the_equations(context: int | None) -> None:
    core, x = transformer(context=context), inputs()
    params = {n: p.requires_grad_() for n, p in doubles(core).items()}
    hidden, _ = core.sequence(params, x, core.initial(LANES, x))
    slow = slow_forward(core, params, x)
    torch.testing.assert_close(hidden, slow, rtol=1e-10, atol=1e-10)
    found, expected = (
        torch.autograd.grad((h * torch.arange(8.0)).square().sum(), list(params.values()))
        for h in (hidden, slow)
    )
    for name, a, b in zip(params, found, expected, strict=True):
        assert b.norm() > 1e-3 or context == 1, name
        torch.testing.assert_close(a, b, rtol=1e-9, atol=1e-9)


def test_gradients_are_finite_differences() -> None:
    core, x = transformer(layers=1, context=3), inputs()[:4, :1].requires_grad_()
    params = doubles(core)
    names = list(params)

    def hidden(rows: torch.Tensor, *values: torch.Tensor) -> torch.Tensor:
        p = dict(zip(names, values, strict=True))
        return core.sequence(p, rows, core.initial(1, rows))[0]

    leaves = [p.requires_grad_() for p in params.values()]
    assert torch.autograd.gradcheck(hidden, (x, *leaves), fast_mode=True)


def test_the_cache_is_bounded_by_the_window() -> None:
    """8 · layers · H bytes a slot in float32, and no more slots than the window."""
    core = transformer(context=20)
    params = core.init(np.random.default_rng(0))
    prepared, x = core.prepare(params), inputs().float()
    memory = core.initial(LANES, x)
    sizes = []
    for s in range(60):
        _, memory = core.step(prepared, x[s % STEPS], memory)
        sizes.append(memory[0].nbytes // LANES)
    assert sizes[0] == 16 * 8 * 2 * 8
    assert sizes[16] == sizes[-1] == 20 * 8 * 2 * 8
    _, (cache, position) = core.sequence(params, x.repeat(9, 1, 1), core.initial(LANES, x))
    assert cache.shape[3] == 20
    assert position.tolist() == [9 * STEPS] * LANES


def test_initial_parameters() -> None:
    core = transformer(layers=4)
    params = core.init(np.random.default_rng(0))
    for layer in range(4):
        for part in ("attention_out", "mlp_out"):
            weight = params[f"core.layer{layer}.{part}.weight"]
            torch.testing.assert_close(weight.T @ weight, torch.eye(8) / 8.0, rtol=0, atol=1e-6)
    assert params["core.embed.bias"].norm() > 0.1
