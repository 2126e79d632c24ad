"""What an environment's methods must return, and what is said of one that returns something else.

Each answer of `reset` and `step` is checked where it leaves the user's code, so that the sentence
names the class and the line of the method that gave it.
"""

from __future__ import annotations

import inspect
import math
from collections.abc import Collection, Mapping
from typing import Any, Literal, NamedTuple

import gymnasium
import numpy as np
from gymnasium import spaces
from numpy.typing import NDArray

from metarl.envs.faults import (
    BrokenContract,
    defined,
    number,
    numbers,
    value_in_words,
    written_at,
)
from metarl.envs.spaces import Misfit, shown, shown_observations

_NAMES = ("observation", "reward", "terminated", "truncated", "info")


class Checked(gymnasium.Wrapper):
    """Between an environment and its wrappers, which would fail in their own words."""

    def reset(self, **kwargs: Any) -> tuple[Any, dict[str, Any]]:
        return check_reset(self.env, self.env.reset(**kwargs))

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        return check_step(self.env, self.env.step(action))


def checked(env: Any, maker: Any) -> gymnasium.Env:
    """An environment that was just made, if it has all that is asked of one.

    Raises:
        BrokenContract: it is none, or lacks `set_task`, a space, or the parameter `seed` of
            `reset`.
    """
    if not isinstance(env, gymnasium.Env):
        made = "" if isinstance(maker, type) else f": {maker.__name__}{written_at(maker)} returned"
        raise BrokenContract(f"it is no gymnasium.Env{made} {value_in_words(env)}")
    own = type(env.unwrapped)
    where = f"{own.__name__}{written_at(own)}"
    set_task = env.get_wrapper_attr("set_task") if env.has_wrapper_attr("set_task") else None
    if not callable(set_task):
        raise BrokenContract(f"{where} has no method set_task(task)")
    for space in ("observation_space", "action_space"):
        if not isinstance(getattr(env, space, None), spaces.Space):
            raise BrokenContract(f"{where} has no {space}, a space of gymnasium.spaces")
    try:
        shown_observations(env.observation_space, where)
    except ValueError as error:
        raise BrokenContract(str(error)) from None
    if not _takes(set_task, np.zeros(1)):
        raise BrokenContract(
            f"{defined(getattr(set_task, '__self__', env), 'set_task')} must take the task alone"
        )
    outer, inner = None, env
    while isinstance(inner, gymnasium.Wrapper):
        outer, inner = inner, inner.env
    for name in ("seed",) if outer is None else ("seed", "options"):
        if not _takes(inner.reset, **{name: None}):
            raise BrokenContract(
                f"{defined(inner, 'reset')} takes no {name}: define it as reset(self, *, "
                "seed=None, options=None), and begin it with super().reset(seed=seed)"
            )
    if outer is not None:
        outer.env = Checked(inner)
    return env


def _defined(env: gymnasium.Env, method: str) -> str:
    """A method where it is written: of the outermost of the user's wrappers, or the environment."""
    while isinstance(env, gymnasium.Wrapper) and type(env).__module__.startswith("gymnasium."):
        env = env.env
    return defined(env.unwrapped if isinstance(env, Checked) else env, method)


def _takes(method: Any, *args: Any, **kwargs: Any) -> bool:
    try:
        inspect.signature(method).bind(*args, **kwargs)
    except TypeError:
        return False
    return True


def check_reset(env: gymnasium.Env, answer: Any) -> tuple[Any, dict[str, Any]]:
    """The observation and the info of `reset`."""
    pair = isinstance(answer, tuple | list) and len(answer) == 2
    if pair and isinstance(answer[1], dict):
        return answer[0], answer[1]
    if pair and isinstance(answer, tuple):
        raise BrokenContract(
            f"{_defined(env, 'reset')} returned {value_in_words(answer[1])} as info: it must be a "
            "dict"
        )
    raise BrokenContract(
        f"{_defined(env, 'reset')} returned {value_in_words(answer)}: it must return two values, "
        "the observation and a dict, return observation, {}"
    )


def check_step(env: gymnasium.Env, answer: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
    """The observation, reward, terminated, truncated and info of `step`."""
    if not (isinstance(answer, tuple | list) and len(answer) == 5):
        old = isinstance(answer, tuple | list) and len(answer) == 4
        was = "4 values, as in the days of Gym" if old else value_in_words(answer)
        raise BrokenContract(
            f"{_defined(env, 'step')} returned {was}: it must return 5 values, {', '.join(_NAMES)}"
        )
    observation, reward, terminated, truncated, info = answer
    if not isinstance(info, dict):
        raise BrokenContract(_wrong(env, "info", info, "a dict"))
    return (
        observation,
        _reward(env, reward),
        _flag(env, "terminated", terminated),
        _flag(env, "truncated", truncated),
        info,
    )


class Success(NamedTuple):
    """What counts as a successful episode: a key of a step's info, true at any step or the last."""

    key: str = "success"
    when: Literal["any", "last"] = "any"

    def __str__(self) -> str:
        step = "at any step" if self.when == "any" else "at the last step"
        return f"info[{self.key!r}] {step} of an episode"


ANY_SUCCESS = Success()


def check_success(env: gymnasium.Env, key: str, info: dict[str, Any]) -> float:
    """What the info of a step says of success, NaN where it says nothing."""
    if key not in info:
        return math.nan
    success = number(info[key])
    if success is None:
        given = value_in_words(info[key])
        raise BrokenContract(
            f"{_defined(env, 'step')} returned {given} as info[{key!r}]: it must be true or false"
        )
    return float(success)


def observation_row(env: gymnasium.Env, method: str, observation: Any) -> NDArray[Any]:
    """The observation as agents are shown it: a row of numbers, or an image."""
    space = env.observation_space
    try:
        row = shown(space, observation)
    except Misfit as misfit:
        advice = ""
        if isinstance(space, spaces.Box) and isinstance(observation, dict | tuple):
            advice = "; or declare the Dict or Tuple that they are of"
        raise BrokenContract(
            f"{_defined(env, method)} returned {misfit}, as its observation_space is{advice}"
        ) from None
    if row.dtype != np.uint8 and not np.isfinite(row).all():
        entry = int(np.flatnonzero(~np.isfinite(row))[0])
        raise BrokenContract(
            f"{_defined(env, method)} returned {row[entry]} in entry {entry} of the "
            "observation: its numbers must be finite"
        )
    return row


def check_picture(env: gymnasium.Env, picture: Any) -> NDArray[np.uint8]:
    """What `render` returned, uint8 [height, width, 3]."""
    if not isinstance(picture, np.ndarray) or picture.dtype != np.uint8 or picture.ndim != 3:
        given = value_in_words(picture)
        if isinstance(picture, np.ndarray):
            given = f"an array of shape {list(picture.shape)} and type {picture.dtype}"
    elif picture.shape[2] == 3 and picture.size:
        return picture
    else:
        given = f"an array of shape {list(picture.shape)}"
    raise BrokenContract(
        f"{_defined(env, 'render')} returned {given} as its picture: it must be an array of shape "
        '[height, width, 3] and type uint8 where render_mode is "rgb_array"'
    )


def picture_fps(env: gymnasium.Env) -> float | None:
    """Pictures a second, as `metadata` has it, 20 where it says nothing; None where it has none."""
    metadata = env.metadata if isinstance(env.metadata, Mapping) else {}
    modes = metadata.get("render_modes")
    if not isinstance(modes, Collection) or "rgb_array" not in modes:
        return None
    fps = numbers(metadata.get("render_fps"))
    if fps is None or fps.shape != () or fps.dtype.kind == "b" or not 0.1 <= fps <= 1000.0:
        return 20.0
    return float(fps)


def _reward(env: gymnasium.Env, reward: Any) -> float:
    """A finite number; an array of one is one."""
    if type(reward) is not float:
        value = number(reward)
        if value is None:
            raise BrokenContract(_wrong(env, "reward", reward, "a number"))
        reward = float(value)
    if not math.isfinite(reward):
        raise BrokenContract(_wrong(env, "reward", reward, "a finite number"))
    return reward


def _flag(env: gymnasium.Env, name: str, value: Any) -> bool:
    """True or false; 1 and 0, and an array of one, are good as well."""
    if type(value) is bool:
        return value
    flag = number(value)
    if flag not in (0, 1):
        raise BrokenContract(_wrong(env, name, value, "true or false"))
    return bool(flag)


def _wrong(env: gymnasium.Env, name: str, value: Any, must: str) -> str:
    order = ", ".join(_NAMES)
    given = f"{value}" if isinstance(value, float) else value_in_words(value)
    return (
        f"{_defined(env, 'step')} returned {given} as {name}: it must be {must}; the values in "
        f"order are {order}"
    )
