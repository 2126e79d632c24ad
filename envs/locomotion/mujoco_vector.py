"""MuJoCo environments stepped by `mujoco.batch.Batch`: native threads, bit-exact physics.

The physics is that of Gymnasium's MuJoCo environments to the last bit: the same model file, the
same reset, `mj_forward` after the initial state is written, `frame_skip` calls to `mj_step`.
"""

from __future__ import annotations

from abc import abstractmethod
from typing import TYPE_CHECKING, Any, ClassVar

import mujoco
import numpy as np
from gymnasium import spaces
from mujoco.batch import Batch, SimulationError
from numpy.typing import NDArray

from metarl.envs import checks
from metarl.envs.cores import num_cores
from metarl.envs.locomotion.models import load_model, silence
from metarl.envs.tasks import TaskDistribution, Tasks
from metarl.envs.vector import Bools, Floats, Lanes, TaskVectorEnv

if TYPE_CHECKING:
    from metarl.envs.rendering import Renderer

_RECENT_S = 0.5  # over which a caption's speed is the mean


class MujocoTaskVectorEnv(TaskVectorEnv):
    """N simulations of one of Gymnasium's MuJoCo models, each with its own task.

    A subclass names its model, and says how a lane starts (`_initial_state`), what a step is
    worth (`_reward`) and, where a lane can fall, whether it stands (`_healthy`). What it says of
    `_bind` and `_place` makes it another robot. What it needs of its own for these it sets before
    it calls this constructor.

    Args:
        num_envs: Number of lanes N.
        task_distribution: Whose tasks these are.
        horizon: Steps after which a lane is truncated.
        num_threads: Physics threads, 0 for all cores.
    """

    model_file: ClassVar[str]
    """A file among Gymnasium's MuJoCo models."""
    frame_skip: int
    """Physics steps a step."""
    current_stage: mujoco.mjtStage = mujoco.mjtStage.mjSTAGE_NONE
    """Up to which stage derived fields are computed of the state that a step leaves."""
    contact_forces: ClassVar[bool] = False
    """Whether `_forces` are computed, the external forces on each body, [N, bodies, 6]."""

    def __init__(
        self,
        num_envs: int,
        task_distribution: TaskDistribution,
        horizon: int,
        num_threads: int = 0,
    ) -> None:
        num_envs = checks.integer("num_envs", num_envs, 1)
        num_threads = checks.integer("num_threads", num_threads, 0, checks.MOST_THREADS)
        model = load_model(self.model_file, self.contact_forces)
        self._model = model
        self._dt = model.opt.timestep * self.frame_skip
        self._batch = Batch(model, num_envs, min(num_threads or num_cores(), num_envs))
        # Live views of the simulations' state rows.
        self._qpos, self._qvel = self._batch.bind("qpos"), self._batch.bind("qvel")
        self._ctrl = self._batch.bind("ctrl")
        self._warnings = self._batch.warning
        self._init_qpos = model.qpos0.copy()
        if self.contact_forces:
            self._cfrc_ext = self._batch.bind("cfrc_ext")
            self._forces = np.zeros((num_envs, model.nbody, 6))
        self._observed = self._bind()

        size = self._observe().shape[1]
        super().__init__(
            num_envs,
            task_distribution,
            horizon,
            spaces.Box(-np.inf, np.inf, (size,), np.float64),
            spaces.Box(-1.0, 1.0, (model.nu,), np.float32),
        )
        # Affine from [−1, 1] to the actuators' box.
        low, high = model.actuator_ctrlrange.T
        self._ctrl_center, self._ctrl_half = (high + low) / 2.0, (high - low) / 2.0

    @property
    def render_fps(self) -> float:
        return float(1.0 / self._dt)

    def render_states(self, lanes: slice) -> Floats:
        """qpos of these lanes, [n, nq]; its first entry is x."""
        return self._qpos[lanes].copy()

    def motion_caption(self, states: Floats, task: Tasks) -> str:
        """The speed along x."""
        return speed_caption(float(recent_velocity(states[:, 0], self.render_fps)))

    def renderer(self, width: int, height: int) -> Renderer:
        from metarl.envs.rendering import Renderer

        return Renderer(self._model, width, height)

    # What a subclass defines

    def _bind(self) -> list[Floats]:
        """The parts of an observation, live arrays [N, ·]; here qpos[1:] (qpos[0] is x) and qvel.

        What else the subclass reads of the batch it binds here, too.
        """
        return [self._qpos[:, 1:], self._qvel]

    def _place(self) -> Floats:
        """What the velocity is the change of, [N] or [N, 2]; here x."""
        return self._qpos[:, 0]

    @abstractmethod
    def _initial_state(self, generator: np.random.Generator) -> tuple[Floats, Floats]:
        """qpos [nq] and qvel [nv] of a new episode, drawn in the order of Gymnasium's own."""

    @abstractmethod
    def _reward(self, velocity: Floats, actions: Floats) -> Floats:
        """Reward of the step, [N], from the velocity and the clipped actions float64 [N, a].

        The velocity is that of `_place`, over the step, in m/s.
        """

    def _healthy(self) -> Bools:
        """Lanes that have not fallen, which ends an episode, [N]; here all of them."""
        return np.ones(len(self._qpos), dtype=bool)

    # The simulations

    def _reset_lanes(self, lanes: Lanes) -> None:
        with silence():
            self._batch.reset(lanes, stage=mujoco.mjtStage.mjSTAGE_NONE)
            for lane in lanes:
                self._qpos[lane], self._qvel[lane] = self._initial_state(self._generator(lane))
            self._batch.forward(lanes)
        if self.contact_forces:  # as Gymnasium's, which computes none at a reset
            self._forces[lanes] = 0.0

    def _advance(self, actions: NDArray[Any], live: Bools | None) -> tuple[Floats, Bools | None]:
        clipped = np.clip(actions, -1.0, 1.0).astype(np.float64, copy=False)
        self._ctrl[:] = self._ctrl_center + self._ctrl_half * clipped
        before = self._place().copy()
        try:
            with silence():
                self._batch.step(live, self.frame_skip, self.current_stage)
        except SimulationError as error:
            lane = int(error.ids[0])
            raise self.failure(lane, f"MuJoCo: {self._batch.error(lane)}") from error
        # On a diverged state MuJoCo counts a warning and goes on from the initial one.
        if self._warnings.any():
            lane, kind = np.argwhere(self._warnings[:, :, 1])[0]
            warning = mujoco.mjtWarning(int(kind)).name.removeprefix("mjWARN_")
            raise self.failure(int(lane), f"the simulation diverged (MuJoCo's warning {warning})")
        if self.contact_forces:
            self._forces[:] = self._cfrc_ext  # of a lane that was not stepped, as they were
        reward = self._reward((self._place() - before) / self._dt, clipped)
        return reward, ~self._healthy()

    def _observe(self) -> Floats:
        return np.concatenate(self._observed, axis=1)


def recent_velocity(places: Floats, fps: float) -> Floats:
    """Mean velocity of the last half second, [·], from places at all times up to now [t + 1, ·]."""
    last = len(places) - 1
    since = max(0, last - max(1, round(_RECENT_S * fps)))
    mean: Floats = (places[last] - places[since]) * fps / max(1, last - since)
    return mean


def speed_caption(speed: float) -> str:
    """A speed, in m/s, in the words of a caption."""
    return f"actual speed {speed:.2f} m/s".replace("-", "−")


def squared_norm(rows: Floats) -> Floats:
    """‖x‖² of each row [N, ·], [N], summed in the order of `np.sum(np.square(x))` of one row."""
    return np.square(rows).sum(axis=1)
