"""Faulty environments that step all their lanes at once: what is said of each."""

from __future__ import annotations

import re
import sys
from typing import Any

import numpy as np
import pytest

from metarl.envs import SimulationFailure
from tests.toy_envs import Line

LANES = 3


class Raises(Line):
    def _advance(self, actions: Any, live: Any) -> Any:
        return actions @ np.ones(7), None


class Exits(Line):
    def _reset_lanes(self, lanes: Any) -> None:
        sys.exit(1)


class Column(Line):
    def _advance(self, actions: Any, live: Any) -> Any:
        return np.zeros((LANES, 1)), None


class Flat(Line):
    def _observe(self) -> Any:
        return np.zeros(LANES)


class Lost(Line):
    def _observe(self) -> Any:
        return self.nowhere  # type: ignore[attr-defined]


SAID = {
    Raises: "The environment failed: ValueError: matmul: ",
    Exits: "The environment failed: it called sys.exit(1) (HERE).",
    Column: "Column._advance (HERE) returned an array of shape [3, 1] as reward: it must be an ar"
    "ray of shape [3].",
    Flat: "Flat._observe (HERE) returned an array of shape [3] as observations: it must be an a"
    "rray of shape [3, 2].",
    Lost: "The environment failed: AttributeError: 'Lost' object has no attribute "
    "'nowhere' (HERE).",
}


def play(env: Line) -> None:
    env.reset(seed=0)
    env.step(np.zeros((LANES, 1)))


@pytest.mark.parametrize("env_class", SAID)
def test_a_failure_names_the_method_and_its_line(env_class: Any) -> None:
    env = env_class(LANES)
    with pytest.raises(SimulationFailure) as caught:
        play(env)
    message = re.sub(r"tests/envs/test_batched_contract\.py, line \d+", "HERE", str(caught.value))
    assert message.startswith(SAID[env_class])
    assert message.endswith((" (HERE).", "]."))


def test_what_a_caller_does_wrong_stays_the_callers() -> None:
    env = Line(LANES)
    env.reset(seed=0)
    with pytest.raises(ValueError, match="Actions have the shape"):
        env.step(np.zeros(LANES))
