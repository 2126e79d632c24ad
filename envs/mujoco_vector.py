"""MuJoCo environments stepped by `mujoco.batch.Batch`: native threads, bit-exact physics.

The physics is that of Gymnasium's MuJoCo environments to the last bit: the same model file, the
same reset, `mj_forward` after the initial state is written, `frame_skip` calls to `mj_step`.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import gymnasium
import mujoco
import numpy as np
from gymnasium import spaces
from mujoco.batch import Batch, SimulationError
from numpy.typing import NDArray

from metarl.envs import checks
from metarl.envs.cores import num_cores
from metarl.envs.tasks import TaskDistribution
from metarl.envs.vector import Bools, Floats, Lanes, TaskVectorEnv

if TYPE_CHECKING:
    from metarl.envs.rendering import Renderer


class MujocoTaskVectorEnv(TaskVectorEnv):
    """N simulations of one of Gymnasium's MuJoCo models, each with its own task.

    A subclass names its model, and says how a lane starts (`_initial_state`) and what a step is
    worth (`_reward`). Observations are qpos[1:] and qvel, which Gymnasium's environments observe
    too; qpos[0] is x.

    Args:
        num_envs: Number of lanes N.
        task_distribution: Whose tasks these are.
        horizon: Steps after which a lane is truncated.
        observe_body: Name of a body whose position (x, y, z) is observed too, as of the last
            physics step but one, as `get_body_com` of Gym's and Gymnasium's environments returns
            it: that body's own, whatever the name says. (rllab's is the centre of mass of the
            body and all that hangs on it.)
        num_threads: Physics threads, 0 for all cores.
    """

    model_file: ClassVar[str]
    """A file among Gymnasium's MuJoCo models."""
    frame_skip: ClassVar[int]
    """Physics steps a step."""
    speed_column = 0  # x

    def __init__(
        self,
        num_envs: int,
        task_distribution: TaskDistribution,
        horizon: int,
        observe_body: str | None = None,
        num_threads: int = 0,
    ) -> None:
        num_envs = checks.integer("num_envs", num_envs, 1)
        num_threads = checks.integer("num_threads", num_threads, 0, checks.MOST_THREADS)
        models = Path(gymnasium.__file__).parent / "envs" / "mujoco" / "assets"
        with silence():
            model = mujoco.MjModel.from_xml_path(str(models / self.model_file))
        self._model = model
        self._dt = model.opt.timestep * self.frame_skip
        self._batch = Batch(model, num_envs, min(num_threads or num_cores(), num_envs))
        # Live views of the simulations' state rows.
        self._qpos, self._qvel = self._batch.bind("qpos"), self._batch.bind("qvel")
        self._ctrl = self._batch.bind("ctrl")
        self._observed = [self._qpos[:, 1:], self._qvel]
        if observe_body is not None:
            self._observed.append(self._batch.bind("xpos")[:, model.body(observe_body).id])
        self._warnings = self._batch.warning
        self._init_qpos = model.qpos0.copy()

        size = sum(part.shape[1] for part in self._observed)
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

    def renderer(self, width: int, height: int) -> Renderer:
        from metarl.envs.rendering import Renderer

        return Renderer(self._model, width, height)

    @abstractmethod
    def _initial_state(self, generator: np.random.Generator) -> tuple[Floats, Floats]:
        """qpos [nq] and qvel [nv] of a new episode, drawn in the order of Gymnasium's own."""

    @abstractmethod
    def _reward(self, x_velocity: Floats, actions: Floats) -> Floats:
        """Reward of the step, [N], from Δx/dt [N] and the clipped actions float64 [N, a]."""

    def _reset_lanes(self, lanes: Lanes) -> None:
        with silence():
            self._batch.reset(lanes, stage=mujoco.mjtStage.mjSTAGE_NONE)
            for lane in lanes:
                self._qpos[lane], self._qvel[lane] = self._initial_state(self._generator(lane))
            self._batch.forward(lanes)

    def _advance(self, actions: NDArray[Any], live: Bools | None) -> tuple[Floats, Bools | None]:
        clipped = np.clip(actions, -1.0, 1.0).astype(np.float64, copy=False)
        self._ctrl[:] = self._ctrl_center + self._ctrl_half * clipped
        x_before = self._qpos[:, 0].copy()
        try:
            with silence():
                self._batch.step(live, nstep=self.frame_skip)
        except SimulationError as error:
            lane = int(error.ids[0])
            raise self.failure(lane, f"MuJoCo: {self._batch.error(lane)}") from error
        # On a diverged state MuJoCo counts a warning and goes on from the initial one.
        if self._warnings.any():
            lane, kind = np.argwhere(self._warnings[:, :, 1])[0]
            warning = mujoco.mjtWarning(int(kind)).name.removeprefix("mjWARN_")
            raise self.failure(int(lane), f"the simulation diverged (MuJoCo's warning {warning})")
        return self._reward((self._qpos[:, 0] - x_before) / self._dt, clipped), None

    def _observe(self) -> Floats:
        return np.concatenate(self._observed, axis=1)


@contextmanager
def silence() -> Iterator[None]:
    """Keep MuJoCo's warnings off the console and out of MUJOCO_LOG.TXT in the working folder.

    Gymnasium's model files draw one each (`settotalmass` is deprecated). Warnings about a
    simulation lose nothing: their counters are checked after every step.
    """
    before, quiet = mujoco.MjLogConfig.get(), mujoco.MjLogConfig.get()
    quiet.logto_console = quiet.logto_file = False
    quiet.set()
    try:
        yield
    finally:
        before.set()
