"""Memory cores: what everyone who uses one may rely on."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from metarl.maths.params import Params
from metarl.networks.memory_cores import MemoryCore, core_maker

STEPS, LANES, WIDTH, INPUTS = 11, 3, 8, 5
CORES: dict[str, Any] = {"lstm": {}, "gru": {}}


def core_of(name: Any, prefix: str = "core", **changes: Any) -> MemoryCore:
    return core_maker(name, **CORES[name] | changes)(INPUTS, WIDTH, prefix)


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
