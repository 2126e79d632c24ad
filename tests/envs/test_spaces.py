"""Every kind of space: as agents are shown it, and as the environment takes it back."""

from __future__ import annotations

import re
from typing import Any

import numpy as np
import pytest
from gymnasium import spaces
from gymnasium.spaces.utils import flatten, flatten_space
from gymnasium.vector.utils import batch_space, iterate

from metarl.envs.process_vector import ProcessVectorEnv
from metarl.envs.spaces import (
    Misfit,
    OwnActions,
    check_actions,
    is_image,
    shown,
    shown_actions,
    shown_observations,
)
from metarl.envs.vector import SimulationFailure
from tests.envs.local_pool import LocalPool
from tests.spaces_envs import ACTIONS, OBSERVATIONS, REFUSED, Spaced, SpacedLanes

IMAGES = ("image", "channels_first")


@pytest.mark.parametrize("kind", OBSERVATIONS)
def test_observations_are_what_gymnasium_flattens_them_to(kind: str) -> None:
    """One by one and in batches; images stay images."""
    space = OBSERVATIONS[kind]
    space.seed(3)
    flat = shown_observations(space, "It")
    assert is_image(flat) == (kind in IMAGES)
    if not is_image(flat):
        theirs = flatten_space(space)
        assert isinstance(theirs, spaces.Box)
        np.testing.assert_array_equal([flat.low, flat.high], [theirs.low, theirs.high])
    for _ in range(5):
        one = space.sample()
        row = shown(space, one)
        np.testing.assert_array_equal(row, one if kind in IMAGES else flatten(space, one))
        assert row.shape == flat.shape
        assert row.dtype == (np.uint8 if kind in IMAGES else np.float64)
    batched = batch_space(space, 3)
    batched.seed(4)
    batch = batched.sample()
    rows = shown(space, batch, (3,))
    for row, one in zip(rows, iterate(batched, batch), strict=True):
        np.testing.assert_array_equal(row, shown(space, one))


def test_an_image_is_three_axes_of_bytes() -> None:
    assert is_image(spaces.Box(0, 255, (8, 8, 3), np.uint8))
    assert not is_image(spaces.Box(0, 255, (8, 8), np.uint8))
    assert not is_image(spaces.Box(0, 254, (8, 8, 3), np.uint8))
    assert not is_image(spaces.Box(0.0, 255.0, (8, 8, 3)))


@pytest.mark.parametrize(
    ("kind", "value", "sentence"),
    [
        ("discrete", 3, "the int 3 as the observation: it must be of Discrete(4, start=-1)"),
        ("discrete", 0.5, "the float 0.5 as the observation: it must be of Discrete(4, start=-1)"),
        (
            "multi_discrete",
            [[1, 0], [4, 5]],
            "an array of shape [2, 2] as the observation: it must be of Multi",
        ),
        ("tuple", ([0, 0],), "a tuple of 1 as the observation: it must be a tuple of 2"),
        ("tuple", ([0, 2], [1.0]), "as the observation[0]: it must be of MultiDiscrete([2 2])"),
        ("dict", {"where": (0, [[1], [1]])}, "it must be a dict with the keys 'buttons', 'camera'"),
        ("image", np.full((7, 6, 3), 256), "it must be an array of whole numbers from 0 to 255"),
        ("image", np.zeros((7, 6, 3)), "it must be an array of whole numbers from 0 to 255"),
        ("image", np.zeros((7, 6), np.uint8), "an array of numbers of shape [7, 6, 3]"),
    ],
)
def test_what_is_not_of_its_space_is_named(kind: str, value: Any, sentence: str) -> None:
    with pytest.raises(Misfit) as caught:
        shown(OBSERVATIONS[kind], value)
    assert sentence in str(caught.value)


@pytest.mark.parametrize("kind", REFUSED)
def test_what_cannot_be_shown_is_refused(kind: str) -> None:
    with pytest.raises(ValueError, match=re.escape(REFUSED[kind][1])) as caught:
        SpacedLanes(2, refused=kind)
    assert str(caught.value).startswith("SpacedLanes has ")


def test_batched_environments_declare_actions_as_they_are_shown() -> None:
    for space in ACTIONS.values():
        check_actions(shown_actions(space, "It"), "It")
        with pytest.raises(ValueError, match=r"^It has actions of the space .* in _advance$"):
            check_actions(space, "It")
    check_actions(spaces.Box(-1.0, 1.0, (2,), np.float64), "It")


def test_choices_are_counted_from_their_own_start() -> None:
    own = OwnActions(ACTIONS["multi_discrete"])
    taken = own.of(np.array([[0, 0, 0, 0], [1, 2, 0, 3]]))
    assert taken.tolist() == [[[1, 0], [7, -2]], [[2, 2], [7, 1]]]
    with pytest.raises(ValueError, match="Action 3 of lane 1: it must be from 0 to 2"):
        own.of(np.array([[0, 0, 0, 0], [1, 3, 0, 3]]))
    with pytest.raises(ValueError, match="Actions are float64: they must be integers"):
        own.of(np.zeros((1, 4)))


def test_a_box_of_any_bounds_is_scaled_and_one_of_whole_numbers_rounded() -> None:
    ends = OwnActions(ACTIONS["box"]).of(np.array([[-1.0, -2.0, 0.0, 1.0]]))
    assert ends.tolist() == [[[0.0, -3.0], [3.0, 14.0]]]
    whole = OwnActions(ACTIONS["whole_box"]).of(np.array([[0.99, -0.95], [0.5, -0.05]]))
    assert whole.tolist() == [[10, 0], [8, 5]]  # 9.95, 0.25; 7.5 and 4.75
    assert whole.dtype == np.int64


@pytest.mark.parametrize("actions", ACTIONS)
def test_random_actions_are_of_the_environments_space(actions: str) -> None:
    """The environment asserts it of every action that it takes."""
    env = ProcessVectorEnv(Spaced, 3, {"actions": actions}, pool=LocalPool(), num_workers=2)
    env.reset(seed=1)
    env.action_space.seed(2)
    while not env.finished.all():
        env.step(env.action_space.sample())


@pytest.mark.parametrize("kind", OBSERVATIONS)
def test_workers_and_batches_give_rows_of_the_space_that_is_shown(kind: str) -> None:
    params = {"observations": kind}
    for env in (
        ProcessVectorEnv(Spaced, 3, params, pool=LocalPool(), num_workers=2),
        SpacedLanes(3, kind),
    ):
        observation, _ = env.reset(seed=1)
        assert observation in env.observation_space
        observation, *_ = env.step(np.zeros(3, dtype=np.int64))
        assert observation in env.observation_space


def test_a_batch_that_is_not_of_its_space_names_the_method() -> None:
    env = SpacedLanes(3, "discrete")
    env._observe = lambda: np.full(3, 7)  # type: ignore[method-assign]
    with pytest.raises(SimulationFailure, match=r"SpacedLanes._observe \(.*Discrete\(4, start=-1"):
        env.reset(seed=0)
