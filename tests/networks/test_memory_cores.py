"""Memory cores: what everyone who uses one may rely on."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from metarl.maths.params import Params
from metarl.networks.memory_cores import MemoryCore, copied, core_maker

STEPS, LANES, WIDTH, INPUTS = 11, 3, 8, 5
CORES: dict[str, dict[str, Any]] = {
    "lstm": {"name": "lstm"},
    "gru": {"name": "gru"},
    "transformer": {"name": "transformer", "heads": 2},
    "window": {"name": "transformer", "heads": 2, "context": 4},
    "window_of_one_layer": {"name": "transformer", "layers": 1, "heads": 1, "context": 3},
}


def core_of(name: str, prefix: str = "core") -> MemoryCore:
    return core_maker(**CORES[name])(INPUTS, WIDTH, prefix)


def doubles(core: MemoryCore, seed: int = 0) -> Params:
    """Parameters in float64, away from the zeros of the initial biases."""
    rng = np.random.default_rng(seed)
    params = core.init(rng)
    return {
        n: p.double() + 0.2 * torch.from_numpy(rng.normal(size=p.shape)) for n, p in params.items()
    }


def inputs(seed: int = 1, steps: int = STEPS) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(steps, LANES, INPUTS, generator=generator, dtype=torch.float64)


@pytest.mark.parametrize("name", CORES)
def test_steps_are_the_sequence_also_where_lanes_pause(name: str) -> None:
    """A lane that pauses goes on as if nothing had been, and its neighbours do not notice."""
    core, x = core_of(name), inputs()
    params = doubles(core)
    whole, _ = core.sequence(params, x, core.initial(LANES, x))
    prepared, memory = core.prepare(params), core.initial(LANES, x)
    at = torch.zeros(LANES, dtype=torch.long)
    pauses = torch.rand(4 * STEPS, LANES, generator=torch.Generator().manual_seed(2)) < 0.4
    for pause in pauses:
        active = ~pause & (at < STEPS)
        rows = x[at.clamp(max=STEPS - 1), torch.arange(LANES)]
        shown = torch.where(active.unsqueeze(-1), rows, torch.full_like(rows, 9.0))
        hidden, after = core.step(prepared, shown, memory)
        memory = core.held(active, after, memory)
        for n in active.nonzero().flatten().tolist():
            torch.testing.assert_close(hidden[n], whole[at[n], n], rtol=1e-10, atol=1e-10)
        at += active
    assert (at == STEPS).all()


@pytest.mark.parametrize("name", CORES)
def test_a_prefix_is_all_that_tells_two_cores_apart(name: str) -> None:
    one, other = core_of(name), core_of(name, "encoder.memory")
    x, params, others = inputs(), doubles(one), doubles(other)
    assert not params.keys() & others.keys()
    assert {n.removeprefix("encoder.memory.") for n in others} == {
        n.removeprefix("core.") for n in params
    }
    found = [core.sequence(params | others, x, core.initial(LANES, x))[0] for core in (one, other)]
    assert torch.equal(*found)


@pytest.mark.parametrize("name", CORES)
def test_a_sequence_goes_on_where_steps_or_another_sequence_ended(name: str) -> None:
    """Also where the lanes are at steps of their own, and gradients cross from one to the other."""
    core, x = core_of(name), inputs()
    params = {n: p.requires_grad_() for n, p in doubles(core).items()}
    whole, _ = core.sequence(params, x, core.initial(LANES, x))
    first, memory = core.sequence(params, x[:6], core.initial(LANES, x))
    second, _ = core.sequence(params, x[6:], memory)
    torch.testing.assert_close(torch.cat([first, second]), whole, rtol=1e-10, atol=1e-10)
    joined, at_once = (
        torch.autograd.grad(h[-1].sum(), list(params.values()), retain_graph=True)
        for h in (second, whole)
    )
    for a, b in zip(joined, at_once, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-9, atol=1e-10)

    # Lane n has seen n + 2 steps by the time that a sequence takes over.
    prepared, memory = core.prepare(params), core.initial(LANES, x)
    behind = torch.arange(LANES) + 2
    for s in range(LANES + 1):
        _, after = core.step(prepared, x[s], memory)
        memory = core.held(s < behind, after, memory)
    rows = torch.stack([x[2 + n : 9 + n, n] for n in range(LANES)], dim=1)
    hidden, _ = core.sequence(params, rows, memory)
    expected = torch.stack([whole[2 + n : 9 + n, n] for n in range(LANES)], dim=1)
    torch.testing.assert_close(hidden, expected, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("name", CORES)
def test_a_copy_is_what_steps_write_nothing_to(name: str) -> None:
    core, x = core_of(name), inputs()
    prepared, memory = core.prepare(doubles(core)), core.initial(LANES, x)
    for s in range(5):
        _, memory = core.step(prepared, x[s], memory)
    kept = copied(memory)
    found = []
    for _ in range(2):
        memory = copied(kept)
        for s in range(5, STEPS):
            hidden, memory = core.step(prepared, x[s], memory)
        found.append(hidden)
    assert torch.equal(*found)
