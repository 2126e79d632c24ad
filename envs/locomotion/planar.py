"""Walker2d and Hopper, which can fall: the task is a target velocity or a body of its own."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import numpy as np

from metarl.envs import checks
from metarl.envs.locomotion.mujoco_vector import MujocoTaskVectorEnv, squared_norm
from metarl.envs.locomotion.random_parameters import RandomParameters
from metarl.envs.tasks import Tasks, UniformInterval
from metarl.envs.vector import Bools, Floats

_RESET_NOISE = 0.005


class _Planar(MujocoTaskVectorEnv):
    """What Gymnasium's Walker2d-v5 and Hopper-v5 share: dt = 0.008 s, initial states, observations.

    Velocities are observed clipped to ±10. An episode ends where the body falls, that is where the
    torso's height or its angle leaves a range.
    """

    frame_skip = 4

    def _observe(self) -> Floats:
        observation = super()._observe()
        velocities = observation[:, -self._qvel.shape[1] :]
        np.clip(velocities, -10.0, 10.0, out=velocities)
        return observation

    def _initial_state(self, generator: np.random.Generator) -> tuple[Floats, Floats]:
        nq, nv = self._qpos.shape[1], self._qvel.shape[1]
        qpos = self._init_qpos + generator.uniform(-_RESET_NOISE, _RESET_NOISE, size=nq)
        return qpos, generator.uniform(-_RESET_NOISE, _RESET_NOISE, size=nv)


class _Walker(_Planar):
    """Gymnasium's Walker2d-v5, which stands at a height in (0.8, 2) m and within ±1 rad."""

    model_file = "walker2d_v5.xml"

    def _healthy(self) -> Bools:
        z, angle = self._qpos[:, 1], self._qpos[:, 2]
        return (z > 0.8) & (z < 2.0) & (angle > -1.0) & (angle < 1.0)


class _Hopper(_Planar):
    """Gymnasium's Hopper-v5, which stands at a height above 0.7 m and within ±0.2 rad."""

    model_file = "hopper.xml"

    def _healthy(self) -> Bools:
        z, angle = self._qpos[:, 1], self._qpos[:, 2]
        rest = np.concatenate([self._qpos[:, 2:], self._qvel], axis=1)
        in_range = np.all((rest > -100.0) & (rest < 100.0), axis=1)
        return in_range & (z > 0.7) & (angle > -0.2) & (angle < 0.2)


class _Velocity(_Planar):
    """Tasks that are a target velocity."""

    def __init__(
        self,
        num_envs: int,
        *,
        velocity_low: float = 0.0,
        velocity_high: float = 3.0,
        healthy_reward: float = 5.0,
        horizon: int = 200,
        num_threads: int = 0,
    ) -> None:
        """Lanes with target velocities.

        Args:
            num_envs: Number of lanes N.
            velocity_low: Lowest target velocity, in m/s.
            velocity_high: Highest target velocity, in m/s.
            healthy_reward: Paid in every step but one in which the body falls. More than the
                largest error, or it is worth falling.
            horizon: Steps of 0.008 s in an episode.
            num_threads: Physics threads, 0 for all cores.

        Raises:
            ValueError: a parameter out of its range.
        """
        low, high = checks.interval("velocity_low", velocity_low, "velocity_high", velocity_high)
        self._healthy_reward = checks.number("healthy_reward", healthy_reward)
        super().__init__(num_envs, UniformInterval(low, high), horizon, num_threads)

    def task_caption(self, task: Tasks) -> str:
        return f"target speed {task[0]:.2f} m/s"

    def _reward(self, velocity: Floats, actions: Floats) -> Floats:
        bonus = self._healthy_reward * self._healthy()
        return bonus - np.abs(velocity - self._tasks[:, 0]) - 1e-3 * squared_norm(actions)


class _UnknownBody(RandomParameters, _Planar):
    """Tasks that are a body; the reward is Gymnasium's own."""

    def _reward(self, velocity: Floats, actions: Floats) -> Floats:
        return (velocity + self._healthy()) - 1e-3 * squared_norm(actions)


class WalkerVel(_Velocity, _Walker):
    """Walk at a velocity v* that is not observed: r = 5 − |v − v*| − 0.001·‖a‖², v = Δx/dt.

    Gymnasium's Walker2d-v5 but for the reward; the episode ends where the torso's height leaves
    (0.8, 2) m or its angle ±1 rad, and that step is not paid the 5. The preset `promp` is that of
    the code of Rothfuss et al. 2019, [0, 10] and 15 in place of the 5 (it takes 8 time steps in
    place of 4 and another friction of the feet, and pays the 15 in that step, too).
    """

    presets: ClassVar[Mapping[str, Mapping[str, Any]]] = {
        "promp": {"velocity_low": 0.0, "velocity_high": 10.0, "healthy_reward": 15.0}
    }


class WalkerParams(_UnknownBody, _Walker):
    """Walk with a body that is not known: r = v + 1 − 0.001·‖a‖², v = Δx/dt.

    The reward is that of Gymnasium's Walker2d-v5: the episode ends where the torso's height leaves
    (0.8, 2) m or its angle ±1 rad, and that step is not paid the 1. The task is what masses,
    inertias, friction and damping are multiplied by, see
    :class:`metarl.envs.locomotion.random_parameters.BodyParameters`. This is the task of Rothfuss
    et al. 2019, Rakelly et al. 2019 (PEARL) and Zintgraf et al. 2020 (VariBAD), the presets `pearl`
    and `varibad`; they have an older model, with time steps of 0.004 s in place of 0.002, another
    friction of the feet, pay the 1 in the last step, too, draw factors of parameters that are 0 as
    well, and leave what MuJoCo derives from masses and inertias as it was.
    """

    presets: ClassVar[Mapping[str, Mapping[str, Any]]] = {
        "pearl": {"log_scale_limit": 3.0},
        "varibad": {"log_scale_limit": 3.0},
    }


class HopperVel(_Velocity, _Hopper):
    """Hop at a velocity v* that is not observed: r = 5 − |v − v*| − 0.001·‖a‖², v = Δx/dt.

    Gymnasium's Hopper-v5 but for the reward; the episode ends where the torso's height falls to
    0.7 m or its angle leaves ±0.2 rad, and that step is not paid the 5.
    """


class HopperParams(_UnknownBody, _Hopper):
    """Hop with a body that is not known: r = v + 1 − 0.001·‖a‖², v = Δx/dt.

    The reward is that of Gymnasium's Hopper-v5: the episode ends where the torso's height falls to
    0.7 m or its angle leaves ±0.2 rad, and that step is not paid the 1. The task is what masses,
    inertias, friction and damping are multiplied by, see
    :class:`metarl.envs.locomotion.random_parameters.BodyParameters`. The preset `pearl` (Rakelly
    et al. 2019) is this with an older model, which draws factors of parameters that are 0, too.
    """

    presets: ClassVar[Mapping[str, Mapping[str, Any]]] = {"pearl": {"log_scale_limit": 3.0}}
