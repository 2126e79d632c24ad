"""Environments that draw from global generators give the same numbers for any W."""

from __future__ import annotations

import random
from collections.abc import Iterator

import numpy as np
import pytest
import torch

from metarl.envs import make
from metarl.envs.global_streams import GlobalStreams, redirect_random
from tests.envs.test_process_vector import trajectory


def test_the_same_numbers_for_any_number_of_workers() -> None:
    runs = []
    for workers, seed in ((1, 0), (2, 0), (2, 1)):
        env = make("tests.envs.used_envs:Gambler", 5, num_workers=workers)
        runs.append(trajectory(env, seed))
        env.close()
    one, two, other_seed = runs
    for a, b in zip(one, two, strict=True):
        np.testing.assert_array_equal(a, b)
    assert len(np.unique(one[0][:, 0])) == 5, "every lane draws its own numbers"
    assert not np.array_equal(one[0], other_seed[0])


@pytest.fixture
def redirected() -> Iterator[None]:
    """This process as a worker is; put back as it was."""
    functions = {name: getattr(random, name) for name in random.__all__}
    numpy, state = np.random.get_bit_generator(), torch.get_rng_state()
    redirect_random()
    yield
    for name, function in functions.items():
        setattr(random, name, function)
    np.random.set_bit_generator(numpy)
    torch.set_rng_state(state)


@pytest.mark.usefixtures("redirected")
def test_lanes_take_turns_without_disturbing_each_other() -> None:
    def draws() -> list[float]:
        return [random.random(), random.gauss(), np.random.rand(), float(torch.rand(()))]  # noqa: NPY002

    alone, first, second = GlobalStreams(), GlobalStreams(), GlobalStreams()
    with alone.at_work(7):
        expected = [draws()]
    for _ in range(2):
        with alone.at_work():
            expected.append(draws())
    got = []
    for turn in range(3):
        with first.at_work(7 if turn == 0 else None):
            got.append(draws())
        with second.at_work(8 if turn == 0 else None):
            random.seed(3)  # its own business, as are all draws
            np.random.seed(3)  # noqa: NPY002
            torch.manual_seed(3)
            draws()
    assert got == expected
    assert len(np.unique(got)) == 12
