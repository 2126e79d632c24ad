"""What an environment knows: of the best that can be earned, of an episode; by itself, nothing."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, ClassVar

import numpy as np
from numpy.typing import ArrayLike, NDArray

from metarl.envs.faults import (
    SimulationFailure,
    check_rows,
    defined,
    numbers,
    users_code,
    value_in_words,
)

_TAKEN = {"return", "success"}  # names of what is measured of every episode


class Knowledge:
    """The part of :class:`metarl.envs.vector.TaskVectorEnv` that evaluations draw beside agents."""

    measures: ClassVar[Mapping[str, str]] = {}
    """What there is to know of an episode beside its return: by name, what it is in words."""

    def episode_measures(self) -> Mapping[str, NDArray[np.float64]]:
        """The measures of each lane's episode so far, or of its last one: name ↦ [N]."""
        return {}

    def optimal_returns(self, tasks: ArrayLike) -> NDArray[np.float64] | None:
        """Return of the best policy that knows the task, [n] for tasks [n, d]; None if unknown."""
        return None

    def bayes_optimal_returns(self, tasks: ArrayLike, episodes: int) -> NDArray[np.float64] | None:
        """Return of the best agent that must find the tasks [n, d] out, or a lower bound of it.

        In each episode of a trial of K, [K, n]; None if unknown.
        """
        return None

    def reference_agents(self, episodes: int) -> Mapping[str, Callable[[int], Any]]:
        """Agents that adapt within a trial of K episodes: name ↦ evaluation seed ↦ agent.

        An agent is a :class:`metarl.types.Agent` whose adaptation axis is "episode". Those that a
        statistician would try stand here: they are measured beside every agent with a memory.
        """
        return {}


def known_returns(
    env: Knowledge, method: str, shape: tuple[int, ...], *args: Any
) -> NDArray[np.float64] | None:
    """What `optimal_returns` or `bayes_optimal_returns` says, float64 of this shape, or None.

    Raises:
        SimulationFailure: it failed, or returned something else; one sentence with its place.
    """
    with users_code():
        returns = getattr(env, method)(*args)
    return None if returns is None else _finite(env, method, "returns", returns, shape)


def measured(env: Knowledge, lanes: int) -> dict[str, NDArray[np.float64]]:
    """What `episode_measures` says: name ↦ float64 [N].

    Raises:
        SimulationFailure: as :func:`known_returns`.
    """
    named = _named(env, "episode_measures")
    for name in _TAKEN & named.keys():
        raise SimulationFailure(
            f"{defined(env, 'episode_measures')} returned {name!r}: every evaluation has that."
        )
    return {
        name: _finite(env, "episode_measures", repr(name), values, (lanes,))
        for name, values in named.items()
    }


def named_agents(env: Knowledge, episodes: int) -> Mapping[str, Callable[[int], Any]]:
    """What `reference_agents` says.

    Raises:
        SimulationFailure: as :func:`known_returns`.
    """
    return _named(env, "reference_agents", episodes)


def _named(env: Knowledge, method: str, *args: Any) -> Mapping[str, Any]:
    with users_code():
        named = getattr(env, method)(*args)
    if not isinstance(named, Mapping):
        raise SimulationFailure(
            f"{defined(env, method)} returned {value_in_words(named)}: it must be a dict."
        )
    return named


def _finite(
    env: Knowledge, method: str, what: str, value: Any, shape: tuple[int, ...]
) -> NDArray[np.float64]:
    array = numbers(value)
    check_rows(env, method, what, value if array is None else array, shape)
    if array is None or not np.isfinite(array).all():
        raise SimulationFailure(
            f"{defined(env, method)} returned {value_in_words(value)} as {what}: its entries must "
            "be finite numbers."
        )
    return array.astype(np.float64)
