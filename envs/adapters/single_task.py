"""Environments without tasks, of Gymnasium: the one thing that there is to do is the one task."""

from __future__ import annotations

from typing import Any

import gymnasium
from numpy.typing import NDArray

from metarl.envs import checks
from metarl.envs.adapters.foreign import ForeignEnv
from metarl.envs.tasks import FiniteTasks
from metarl.errors import message_of


class SingleTask(ForeignEnv):
    """Any environment that is registered with Gymnasium, such as Hopper-v5, as its one task."""

    task_distribution = FiniteTasks([[0.0]], ("task",), ("",))

    def __init__(
        self, id: str = "Pendulum-v1", horizon: int = 200, render_mode: str | None = None
    ) -> None:
        """One environment.

        Args:
            id: Under which it is registered.
            horizon: Steps of an episode.
            render_mode: As Gymnasium has it.

        Raises:
            ValueError: There is none of that id, or it cannot be made.
        """
        horizon = checks.integer("horizon", horizon, 1)
        try:
            env = gymnasium.make(
                id, max_episode_steps=horizon, render_mode=render_mode, disable_env_checker=True
            )
        except (gymnasium.error.Error, TypeError) as error:
            raise ValueError(f"id is {id!r}: {message_of(error).rstrip('.')}.") from error
        super().__init__(env, horizon)

    def _put(self, task: NDArray[Any]) -> None:
        """There is but one."""
