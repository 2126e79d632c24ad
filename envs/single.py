"""The same tasks as plain Gymnasium environments, one lane of the vector environment each."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import gymnasium
import numpy as np
from numpy.typing import ArrayLike, NDArray

from metarl.envs.registry import ENVIRONMENTS, make
from metarl.envs.tasks import Tasks
from metarl.envs.vector import Floats

if TYPE_CHECKING:
    from metarl.envs.drawing import Drawing

PICTURE_SIZE = (480, 270)  # pixels, width and height


class TaskEnv(gymnasium.Env[NDArray[np.float64], NDArray[np.float32]]):
    """One lane of a task vector environment, as a gymnasium.Env.

    It is truncated at the environment's own horizon, so no TimeLimit belongs around it.

    Args:
        name: The environment's name or import path, as for `metarl.envs.make`.
        task: The task vector [d]; by default the first validation task.
        render_mode: rgb_array for pictures from `render`, uint8 [270, 480, 3]; None for none.
        **kwargs: Passed to `metarl.envs.make`: a preset, parameters of the environment.

    Raises:
        ValueError: as `metarl.envs.make`, and for a task that does not fit, or a render mode of an
            environment that has no pictures.
    """

    metadata: dict[str, Any] = {"render_modes": ["rgb_array"], "render_fps": 20}  # noqa: RUF012

    def __init__(
        self,
        name: str,
        *,
        task: ArrayLike | None = None,
        render_mode: str | None = None,
        **kwargs: Any,
    ) -> None:
        kwargs.setdefault("num_threads", 1)
        if render_mode not in (None, "rgb_array"):
            raise ValueError(f"render_mode is {render_mode!r}: it must be 'rgb_array' or None.")
        self._vector = make(name, 1, **kwargs)
        self._renderer: Drawing | None = None
        fps = self._vector.render_fps
        if render_mode is not None and fps is None:
            raise ValueError(f"render_mode is 'rgb_array': {name} has no pictures.")
        self.render_mode = render_mode
        drawn = [] if fps is None else ["rgb_array"]
        self.metadata = {"render_modes": drawn, "render_fps": round(fps or 20)}
        self.observation_space = self._vector.single_observation_space
        self.action_space = self._vector.single_action_space
        self.task_distribution = self._vector.task_distribution
        self.horizon = self._vector.horizon
        self.position_columns = self._vector.position_columns
        if task is not None:
            self.set_task(task)

    @property
    def task(self) -> Tasks:
        """The task in force, [d]."""
        task: Tasks = self._vector.tasks[0]
        return task

    def set_task(self, task: ArrayLike) -> None:
        """Change the task [d] (a plain number where d = 1), effective at the next reset."""
        self._vector.set_tasks(self.task_distribution.row(task)[None])

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Floats, dict[str, Any]]:
        """Start an episode.

        Args:
            seed: Of the environment's random numbers; None: they go on.
            options: {"task": the task vector [d]}, as `set_task` before it.

        Raises:
            ValueError: unknown options, or a task that does not fit.
        """
        super().reset(seed=seed)
        self._vector.use_generator(0, self.np_random)
        observation, info = self._vector.reset(options=options)
        return observation[0], info

    def step(self, action: NDArray[np.float32]) -> tuple[Floats, float, bool, bool, dict[str, Any]]:
        observation, reward, terminated, truncated, info = self._vector.step(
            np.asarray(action)[None]
        )
        return observation[0], float(reward[0]), bool(terminated[0]), bool(truncated[0]), info

    def render(self) -> NDArray[np.uint8] | None:
        """The picture of the state in force, uint8 [270, 480, 3]; None without a render mode.

        Raises:
            RendererMissing: this machine cannot draw off screen.
        """
        state = self._vector.render_states(slice(0, 1))
        if self.render_mode is None or state is None:
            return None
        if self._renderer is None:
            self._renderer = self._vector.renderer(*PICTURE_SIZE)
        return self._renderer.draw(state[0])

    def close(self) -> None:
        if self._renderer is not None:
            self._renderer.close()
        self._vector.close()


def register() -> None:
    """Register ours with Gymnasium as `metarl/<class>-v0`; once is enough, more does no harm."""
    for name, path in ENVIRONMENTS.items():
        env_id = f"metarl/{path.partition(':')[2]}-v0"
        if env_id not in gymnasium.registry:
            gymnasium.register(
                env_id,
                entry_point="metarl.envs.single:TaskEnv",
                vector_entry_point="metarl.envs.registry:make",
                kwargs={"name": name},
            )
