"""HalfCheetah with a target velocity, a direction or a body of its own as its task."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, Literal

import mujoco
import numpy as np
from numpy.typing import NDArray

from metarl.envs import checks
from metarl.envs.locomotion.mujoco_vector import MujocoTaskVectorEnv, squared_norm
from metarl.envs.locomotion.random_parameters import RandomParameters
from metarl.envs.tasks import FiniteTasks, Tasks, UniformInterval
from metarl.envs.vector import Bools, Floats, Lanes

CONTROL_COST = 0.05
_RESET_NOISE = 0.1
_UPRIGHT = 0.7  # rad; beyond it a gait is a crawl with the head on the floor
_PUBLISHED = {"velocity_low": 0.0, "velocity_high": 3.0, "horizon": 200, "observe_position": True}


class _HalfCheetah(MujocoTaskVectorEnv):
    """Gymnasium's HalfCheetah-v5: its model, frame skip (dt = 0.05 s) and initial states."""

    model_file, frame_skip = "half_cheetah.xml", 5
    measures: ClassVar[Mapping[str, str]] = {
        "pitched": f"share of an episode's second half with the torso beyond ±{_UPRIGHT} rad",
        "sway": "standard deviation of the speed over an episode's second half, m/s",
    }
    _observe_position = False

    def __init__(self, num_envs: int, *args: Any) -> None:
        super().__init__(num_envs, *args)
        # Of each lane: steps counted, those pitched, Σ v, Σ v².
        self._gait = np.zeros((4, self.num_envs))

    def episode_measures(self) -> Mapping[str, Floats]:
        steps, pitched, speed, square = self._gait
        mean, mean_square, share = (x / np.maximum(steps, 1) for x in (speed, square, pitched))
        return {"pitched": share, "sway": np.sqrt(np.maximum(mean_square - mean**2, 0.0))}

    def _reset_lanes(self, lanes: Lanes) -> None:
        super()._reset_lanes(lanes)
        self._gait[:, lanes] = 0.0

    def _advance(self, actions: NDArray[Any], live: Bools | None) -> tuple[Floats, Bools | None]:
        before = self._place().copy()
        advanced = super()._advance(actions, live)
        counted = self._steps >= self.horizon // 2
        if live is not None:
            counted &= live
        speed = (self._place() - before) / self._dt
        pitch = np.abs((self._qpos[:, 2] + np.pi) % (2.0 * np.pi) - np.pi)
        self._gait += counted * [np.ones(self.num_envs), pitch > _UPRIGHT, speed, speed**2]
        return advanced

    def _bind(self) -> list[Floats]:
        seen = super()._bind()
        return [*seen, self._position()] if self._observe_position else seen

    def _position(self) -> Floats:
        """The torso's (x, y, z) [N, 3].

        As of the last physics step but one, as `get_body_com` of Gym's and Gymnasium's environments
        returns it: the torso's own position, whatever that name says.
        """
        return self._batch.bind("xpos")[:, self._model.body("torso").id]

    def _initial_state(self, generator: np.random.Generator) -> tuple[Floats, Floats]:
        nq, nv = self._qpos.shape[1], self._qvel.shape[1]
        qpos = self._init_qpos + generator.uniform(-_RESET_NOISE, _RESET_NOISE, size=nq)
        return qpos, _RESET_NOISE * generator.standard_normal(nv)


def _control_cost(actions: Floats) -> Floats:
    """0.05·‖a‖² of the clipped actions [N, a], [N]."""
    return CONTROL_COST * np.einsum("na,na->n", actions, actions)


class HalfCheetahVel(_HalfCheetah):
    """Run at a velocity v* that is not observed: r = −|v − v*| − 0.05·‖a‖², v = Δx/dt.

    Never terminates. There are many variants of this task; the presets are those of `maml_2017`
    (Finn et al. 2017: v* ∈ [0, 2], horizon 200, 20 observed numbers, that paper's own 40 test
    velocities, and as in rllab no frame skip, so that an episode lasts 2 s, and position and
    velocity of the whole body), `promp` (Rothfuss et al. 2019: [0, 3], horizon 100), `varibad`
    (Zintgraf et al. 2020) and `pearl` (Rakelly et al. 2019), which are the same: [0, 3], horizon
    200, 20 observed numbers.

    What still differs from rllab under `maml_2017`: initial states are Gymnasium's (positions
    uniform within ±0.1, where rllab's are normal with a deviation of 0.01), the velocity is that
    over the step and not at its end, and MuJoCo is today's.

    Args:
        num_envs: Number of lanes N.
        velocity_low: Lowest target velocity, in m/s.
        velocity_high: Highest target velocity, in m/s.
        horizon: Steps of an episode, each of `frame_skip` · 0.01 s.
        observe_position: Whether the position (x, y, z) follows the 17 observed numbers. It gives
            away the absolute x.
        frame_skip: Physics steps of 0.01 s a step.
        velocity_of: Whose velocity and position these are: the torso's, or the centre of mass of
            the whole body.
        held_out: The held-out velocities: midpoints of 40 equal cells, or maml_2017, that paper's
            own 40 velocities of [0, 2].
        num_threads: Physics threads, 0 for all cores.

    Raises:
        ValueError: a parameter out of its range.
    """

    presets: ClassVar[Mapping[str, Mapping[str, Any]]] = {
        "maml_2017": _PUBLISHED
        | {"velocity_high": 2.0, "held_out": "maml_2017"}
        | {"frame_skip": 1, "velocity_of": "whole_body"},
        "promp": {"velocity_low": 0.0, "velocity_high": 3.0, "horizon": 100},
        "varibad": _PUBLISHED,
        "pearl": _PUBLISHED,
    }
    earlier: ClassVar[Mapping[str, Any]] = {"frame_skip": 5, "velocity_of": "torso"}
    """What these were, whatever the preset, when they were no parameters and no record had them."""

    def __init__(  # noqa: PLR0913  # they are a config's fields
        self,
        num_envs: int,
        *,
        velocity_low: float = 0.0,
        velocity_high: float = 3.0,
        horizon: int = 200,
        observe_position: bool = False,
        frame_skip: int = 5,
        velocity_of: Literal["torso", "whole_body"] = "torso",
        held_out: Literal["midpoints", "maml_2017"] = "midpoints",
        num_threads: int = 0,
    ) -> None:
        self.frame_skip = checks.integer("frame_skip", frame_skip, 1)
        whole = checks.choice("velocity_of", velocity_of, ("torso", "whole_body")) == "whole_body"
        self._of_whole_body = whole
        # Centres of mass are then of the state that a step leaves, and no step behind.
        self.current_stage = mujoco.mjtStage.mjSTAGE_POS if whole else self.current_stage
        low, high = checks.interval("velocity_low", velocity_low, "velocity_high", velocity_high)
        velocities = None
        if checks.choice("held_out", held_out, ("midpoints", "maml_2017")) == "maml_2017":
            if (low, high) != (0.0, 2.0):
                raise ValueError(
                    f"held_out is 'maml_2017' with velocities of [{low:g}, {high:g}]: "
                    "those velocities belong to [0, 2]."
                )
            velocities = np.random.RandomState(1).uniform(0.0, 2.0, 40)
        self._observe_position = checks.switch("observe_position", observe_position)
        distribution = UniformInterval(low, high, held_out=velocities)
        super().__init__(num_envs, distribution, horizon, num_threads)

    def _bind(self) -> list[Floats]:
        if self._of_whole_body:
            self._centre = self._batch.bind("subtree_com")[:, self._model.body("torso").id]
        return super()._bind()

    def _position(self) -> Floats:
        return self._centre if self._of_whole_body else super()._position()

    def _place(self) -> Floats:
        return self._centre[:, 0] if self._of_whole_body else super()._place()

    def task_caption(self, task: Tasks) -> str:
        return f"target speed {task[0]:.2f} m/s"

    def _reward(self, velocity: Floats, actions: Floats) -> Floats:
        return -np.abs(velocity - self._tasks[:, 0]) - _control_cost(actions)


class HalfCheetahDir(_HalfCheetah):
    """Run forward or backward, d ∈ {−1, +1} not observed: r = d·v − 0.05·‖a‖², v = Δx/dt.

    Never terminates. Two tasks are all there are: they are trained on and evaluated on.

    Args:
        num_envs: Number of lanes N.
        horizon: Steps of 0.05 s in an episode.
        observe_position: Whether the torso's position (x, y, z) follows the 17 observed numbers.
            It gives away the absolute x.
        num_threads: Physics threads, 0 for all cores.

    Raises:
        ValueError: a parameter out of its range.
    """

    def __init__(
        self,
        num_envs: int,
        *,
        horizon: int = 200,
        observe_position: bool = False,
        num_threads: int = 0,
    ) -> None:
        directions = FiniteTasks([[-1.0], [1.0]], columns=("direction",), units=("",))
        self._observe_position = checks.switch("observe_position", observe_position)
        super().__init__(num_envs, directions, horizon, num_threads)

    def task_caption(self, task: Tasks) -> str:
        return "run forward" if task[0] > 0 else "run backward"

    def _reward(self, velocity: Floats, actions: Floats) -> Floats:
        return self._tasks[:, 0] * velocity - _control_cost(actions)


class HalfCheetahParams(RandomParameters, _HalfCheetah):
    """Run forward with a body that is not known: r = v − 0.1·‖a‖², v = Δx/dt.

    The reward is that of Gymnasium's HalfCheetah-v5; never terminates. The task is what masses,
    inertias, friction and damping are multiplied by, see
    :class:`metarl.envs.locomotion.random_parameters.BodyParameters`.
    """

    def _reward(self, velocity: Floats, actions: Floats) -> Floats:
        return velocity - 0.1 * squared_norm(actions)
