"""Which spaces an environment may have, and how agents are shown them.

An observation is shown as one row of numbers, laid out as `gymnasium.spaces.utils.flatten` does it:
Discrete and MultiDiscrete become one-hot, the parts of a Dict and of a Tuple follow each other.
Images keep their shape and their uint8. Actions are shown in [−1, 1], or as choices from 0.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
from gymnasium import spaces
from gymnasium.spaces.utils import flatdim, flatten_space
from numpy.typing import NDArray

from metarl.envs.faults import SimulationFailure, check_rows, defined, numbers, value_in_words
from metarl.errors import one_line

MOST_NUMBERS = 10_000_000
"""In one observation; a one-hot Discrete has as many as values."""

ShownActions = spaces.Box | spaces.Discrete | spaces.MultiDiscrete | spaces.MultiBinary


class Misfit(ValueError):
    """A value that is not of its space: which part, what it is in words, and what it must be."""

    def __init__(self, part: str, value: Any, must: str) -> None:
        array = numbers(value) if isinstance(value, list) else None
        self.part, self.given, self.must = part, value_in_words(value), must
        if array is not None:
            self.given = value_in_words(array)
        super().__init__(f"{self.given} as {part}: it must be {must}")


def is_image(space: spaces.Space) -> bool:
    """Whether its elements are images: a Box of three axes and uint8, from 0 to 255."""
    if not isinstance(space, spaces.Box) or len(space.shape) != 3 or space.dtype != np.uint8:
        return False
    return bool((space.low == 0).all() and (space.high == 255).all())


def shown_observations(space: spaces.Space, name: str) -> spaces.Box:
    """As what agents are shown observations of a space: a flat Box, or images.

    Args:
        space: An environment's own.
        name: That environment's, for a refusal.

    Raises:
        ValueError: there is no way to show them.
    """
    if isinstance(space, spaces.Box) and (is_image(space) or _is_flat(space)):
        return space
    refused = _refused(space)
    if refused is not None:
        raise ValueError(
            f"{name} has observations of the space {_words(space)}: Box, Discrete, MultiDiscrete, "
            f"MultiBinary, and Dict and Tuple of them are supported, and {_words(refused)} is not, "
            "so write a gymnasium.ObservationWrapper that makes numbers of it"
        )
    if (size := flatdim(space)) > MOST_NUMBERS:
        raise ValueError(
            f"{name} has observations of {size} numbers, as which {_words(space)} is shown, a "
            f"one-hot for each Discrete: at most {MOST_NUMBERS} are supported, so make fewer of "
            "them yourself"
        )
    flat = flatten_space(space)
    assert isinstance(flat, spaces.Box)
    return spaces.Box(flat.low.astype(np.float64), flat.high.astype(np.float64), dtype=np.float64)


def shown(
    space: spaces.Space, value: Any, lead: tuple[int, ...] = (), part: str = "the observation"
) -> NDArray[Any]:
    """An element of an environment's space as agents are shown it.

    Args:
        space: The environment's own.
        value: One element, or a batch of them: arrays with these axes before their own.
        lead: These axes.
        part: What it is, for a refusal.

    Returns:
        A fresh float64 [*lead, o], or uint8 [*lead, height, width, channels].

    Raises:
        Misfit: the value is not of the space, but for the bounds of a Box.
    """
    if is_image(space):
        pixels = _array(space, value, lead, part)
        if pixels.dtype != np.uint8:
            whole = pixels.dtype.kind in "iu" and ((pixels >= 0) & (pixels <= 255)).all()
            if not whole:
                raise Misfit(part, value, "an array of whole numbers from 0 to 255")
        return pixels.astype(np.uint8)
    if isinstance(space, spaces.Dict):
        if not isinstance(value, Mapping) or value.keys() != space.spaces.keys():
            keys = ", ".join(map(repr, space.spaces))
            raise Misfit(part, value, f"a dict with the keys {keys}")
        named = [(name, one, value[name]) for name, one in space.spaces.items()]
        rows = [_flat(one, own, lead, f"{part}[{name!r}]") for name, one, own in named]
        return np.concatenate(rows, axis=-1)
    if isinstance(space, spaces.Tuple):
        if not isinstance(value, tuple | list) or len(value) != len(space.spaces):
            raise Misfit(part, value, f"a tuple of {len(space.spaces)}")
        pairs = enumerate(zip(space.spaces, value, strict=True))
        rows = [_flat(one, own, lead, f"{part}[{i}]") for i, (one, own) in pairs]
        return np.concatenate(rows, axis=-1)
    if isinstance(space, spaces.Discrete | spaces.MultiDiscrete):
        return _one_hot(space, _array(space, value, lead, part), lead, part)
    return _array(space, value, lead, part).reshape(*lead, -1).astype(np.float64)


def shown_lanes(env: Any, space: spaces.Space, observation: Any) -> NDArray[Any]:
    """What `_observe` of a vector environment returned, as agents are shown it, [N, ...].

    Raises:
        SimulationFailure: it is not of the space; names the method, its file and its line.
    """
    if _is_flat(space):
        check_rows(env, "_observe", "observations", observation, (env.num_envs, *space.shape))  # type: ignore[misc]
        of_lanes: NDArray[Any] = observation
        return of_lanes
    try:
        return shown(space, observation, (env.num_envs,), "the observations")
    except Misfit as misfit:
        raise SimulationFailure(f"{defined(env, '_observe')} returned {misfit}.") from None


def shown_actions(space: spaces.Space, name: str) -> ShownActions:
    """As what agents are shown actions of a space: flat, in [−1, 1] or choices that begin at 0.

    Args:
        space: An environment's own.
        name: That environment's, for a refusal.

    Raises:
        ValueError: there is no way to show them.
    """
    if isinstance(space, spaces.Box) and space.is_bounded():
        return spaces.Box(-1.0, 1.0, (math.prod(space.shape),), np.float32)
    if isinstance(space, spaces.Discrete):
        return spaces.Discrete(space.n)
    if isinstance(space, spaces.MultiDiscrete):
        return spaces.MultiDiscrete(space.nvec.reshape(-1))
    if isinstance(space, spaces.MultiBinary):
        return spaces.MultiBinary(math.prod(space.shape))
    raise ValueError(
        f"{name} has actions of the space {_words(space)}: only a bounded Box, Discrete, "
        "MultiDiscrete or MultiBinary is supported"
    )


def check_actions(space: spaces.Space, name: str) -> None:
    """Refuse actions of another form than that in which agents are shown them.

    Raises:
        ValueError: says which is.
    """
    agents: Any = shown_actions(space, name)
    if isinstance(space, spaces.Box):  # of any type
        same = space.shape == agents.shape
        same = same and bool((space.low == agents.low).all() and (space.high == agents.high).all())
    else:
        same = space == agents
    if not same:
        raise ValueError(
            f"{name} has actions of the space {_words(space)}: a TaskVectorEnv must declare them "
            f"as agents are shown them, {_words(agents)}, and make them its own in _advance"
        )


class OwnActions:
    """Actions as agents are shown them, turned into an environment's own.

    Args:
        space: The environment's, one that `shown_actions` shows.
    """

    def __init__(self, space: Any) -> None:
        self._space = space
        if isinstance(space, spaces.Box):
            low, high = (bound.reshape(-1).astype(np.float64) for bound in (space.low, space.high))
            self._center, self._half = (high + low) / 2.0, (high - low) / 2.0
            return
        self._options, self._start = choices(space)

    def of(self, actions: NDArray[Any]) -> NDArray[Any]:
        """The environment's, [N, ...], for [N, a] or integers [N, d] or [N].

        Raises:
            ValueError: they are no integers, or none of the options.
        """
        space = self._space
        if not isinstance(space, spaces.Box):
            return self._choices(actions)
        scaled = self._center + self._half * np.clip(actions, -1.0, 1.0)
        if np.issubdtype(space.dtype, np.integer):
            scaled = np.rint(scaled)
        shaped = scaled.reshape(-1, *space.shape).astype(space.dtype)
        return np.clip(shaped, space.low, space.high)  # rounding may have left the box

    def _choices(self, actions: NDArray[Any]) -> NDArray[Any]:
        check_choices(actions, self._options)
        space, rows = self._space, actions.reshape(len(actions), -1)
        own: NDArray[Any] = (rows + self._start).reshape(-1, *(space.shape or ()))
        return own.astype(space.dtype, copy=False)


def check_batch(space: spaces.Space[Any], actions: NDArray[Any], lanes: int) -> None:
    """Refuse actions [N, ...] that are not of the space, as far as they cannot be clipped to it.

    Raises:
        ValueError: they have another shape, or are none of the options.
    """
    shape = (lanes, *(space.shape or ()))
    if actions.shape != shape:
        raise ValueError(f"Actions have the shape {list(actions.shape)}: it must be {list(shape)}.")
    if isinstance(space, spaces.Discrete | spaces.MultiDiscrete | spaces.MultiBinary):
        check_choices(actions, choices(space)[0])


def check_choices(actions: NDArray[Any], options: NDArray[Any]) -> None:
    """Refuse actions [N] or [N, d] that are none of the options, as many as each choice [d] has.

    Raises:
        ValueError: they are no integers, or names the first that is no option.
    """
    if not np.issubdtype(actions.dtype, np.integer):
        raise ValueError(f"Actions are {actions.dtype}: they must be integers.")
    rows = actions.reshape(len(actions), -1)
    wrong = (rows < 0) | (rows >= options)
    if wrong.any():
        lane, choice = np.argwhere(wrong)[0]
        raise ValueError(
            f"Action {rows[lane, choice]} of lane {lane}: "
            f"it must be from 0 to {options[choice] - 1}."
        )


def choices(
    space: spaces.Discrete | spaces.MultiDiscrete | spaces.MultiBinary,
) -> tuple[NDArray[Any], NDArray[Any]]:
    """Number and first value of the options of each of its d choices, [d]."""
    if isinstance(space, spaces.Discrete):
        return np.array([space.n]), np.array([space.start])
    if isinstance(space, spaces.MultiBinary):
        d = math.prod(space.shape)
        return np.full(d, 2), np.zeros(d, dtype=np.int64)
    return space.nvec.reshape(-1), space.start.reshape(-1)


def _words(space: spaces.Space) -> str:
    """A space in one line."""
    return one_line(str(space))


def _is_flat(space: spaces.Space) -> bool:
    """Whether its elements are rows of floats as they are."""
    return isinstance(space, spaces.Box) and len(space.shape) == 1 and space.dtype.kind == "f"


def _refused(space: spaces.Space) -> spaces.Space | None:
    """The part of an observation space that cannot be flattened, if there is one."""
    if isinstance(space, spaces.Dict | spaces.Tuple):
        parts = space.spaces.values() if isinstance(space, spaces.Dict) else space.spaces
        refused = [part for one in parts if (part := _refused(one)) is not None]
        return next(iter(refused), None) if parts else space
    known = spaces.Box | spaces.Discrete | spaces.MultiDiscrete | spaces.MultiBinary
    return None if isinstance(space, known) else space


def _flat(space: spaces.Space, value: Any, lead: tuple[int, ...], part: str) -> NDArray[np.float64]:
    """A part of an observation as a row, an image as well."""
    return shown(space, value, lead, part).reshape(*lead, -1).astype(np.float64, copy=False)


def _array(space: spaces.Space, value: Any, lead: tuple[int, ...], part: str) -> NDArray[Any]:
    """A value as an array of numbers of its space's shape."""
    values, shape = numbers(value), (*lead, *(space.shape or ()))
    if values is None or values.shape != shape:
        raise Misfit(part, value, f"an array of numbers of shape {list(shape)}")
    return values


def _one_hot(
    space: spaces.Discrete | spaces.MultiDiscrete,
    values: NDArray[Any],
    lead: tuple[int, ...],
    part: str,
) -> NDArray[np.float64]:
    """[*lead, Σ options]: 1 at the value of each choice, 0 elsewhere."""
    options, start = choices(space)
    chosen = values.reshape(*lead, -1) - start
    if values.dtype.kind not in "biu" or ((chosen < 0) | (chosen >= options)).any():
        raise Misfit(part, values if lead else values.tolist(), f"of {_words(space)}")
    rows = [chosen[..., i, None] == np.arange(n) for i, n in enumerate(options)]
    return np.concatenate(rows, axis=-1).astype(np.float64)
