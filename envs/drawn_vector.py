"""Lanes whose pictures a user's environment draws itself, by Gymnasium's render mode rgb_array."""

from __future__ import annotations

import inspect
from typing import TypeGuard

import numpy as np
from numpy.typing import NDArray

from metarl.envs.constructor import constructor_fields, takes_any
from metarl.envs.process_vector import ProcessVectorEnv
from metarl.envs.vector import TaskVectorEnv


class DrawnVectorEnv(ProcessVectorEnv):
    """N lanes of the environment of another one, built with `render_mode="rgb_array"`.

    They are instances of their own, on workers of their own.

    Args:
        env: The other one, which stays as it is.
        num_envs: Number of lanes N.

    Raises:
        ValueError: the environment cannot be built in this mode.
    """

    def __init__(self, env: ProcessVectorEnv, num_envs: int) -> None:
        params = env._params | {"render_mode": "rgb_array"}
        super().__init__(env._maker, num_envs, params, pool=type(env._pool)(), **env._options())

    @property
    def name(self) -> str:
        """The environment's class."""
        return self._name

    def picture(self, lane: int) -> NDArray[np.uint8]:
        """What one lane looks like now, uint8 [height, width, 3].

        Raises:
            SimulationFailure: the environment's `render` raised or returned something else.
        """
        picture: NDArray[np.uint8] = self._call("render", self._draw, lane)
        return picture

    def _draw(self, lane: int) -> NDArray[np.uint8]:
        mask = np.arange(self.num_envs) == lane
        ((_, (pictures,)),) = self._exchange(mask, "render")
        picture: NDArray[np.uint8] = pictures[0]
        return picture


def draws_itself(env: TaskVectorEnv) -> TypeGuard[ProcessVectorEnv]:
    """Whether an environment says that it draws pictures, and can be asked for them."""
    if not isinstance(env, ProcessVectorEnv) or env.picture_fps is None:
        return False
    return "render_mode" in constructor_fields(env._maker) or takes_any(env._maker)


def what_pictures_need(env: TaskVectorEnv) -> str:
    """Why an environment cannot be shown, in a sentence that says what would be right."""
    if not isinstance(env, ProcessVectorEnv):
        return (
            f"{type(env).__name__} cannot be shown: --video needs the methods render_states and "
            "renderer, as metarl.envs.locomotion.mujoco_vector.MujocoTaskVectorEnv has them, or "
            "position_columns."
        )
    maker = env._maker
    if env.picture_fps is None:
        lacks = "its metadata lists no such mode"
    else:
        kind = "constructor" if inspect.isclass(maker) else "function"
        lacks = f"its {kind} {maker.__name__} takes no render_mode"
    return (
        f"{env._name} cannot be shown: --video needs the render mode rgb_array, in "
        'metadata["render_modes"] and as a value of a constructor\'s parameter render_mode, '
        f"or position_columns; {lacks}."
    )
