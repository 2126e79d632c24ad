"""The ant with a target velocity, a direction or a goal as its task."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, Literal

import numpy as np

from metarl.envs import checks
from metarl.envs.locomotion.directions import Directed, along, direction_tasks
from metarl.envs.locomotion.mujoco_vector import MujocoTaskVectorEnv, squared_norm
from metarl.envs.tasks import GoalRegion, Tasks, UniformInterval
from metarl.envs.vector import Bools, Floats

_RESET_NOISE = 0.1


class _Ant(MujocoTaskVectorEnv):
    """Gymnasium's Ant-v5: its model, frame skip (dt = 0.05 s), initial states and contact forces.

    It observes qpos without x and y, and qvel, 27 numbers, to which options add.
    """

    model_file, frame_skip, contact_forces = "ant.xml", 5, True
    _observe_position = False
    _observe_contacts = False

    def _bind(self) -> list[Floats]:
        self._torso = self._batch.bind("xpos")[:, 1, :2]
        hidden = 0 if self._observe_position else 2
        parts = [self._qpos[:, hidden:], self._qvel]
        if self._observe_contacts:
            parts.append(self._forces[:, 1:].reshape(len(self._forces), -1))
        return parts

    def _observe(self) -> Floats:
        observation = super()._observe()
        if self._observe_contacts:
            forces = observation[:, -self._observed[-1].shape[1] :]
            np.clip(forces, -1.0, 1.0, out=forces)
        return observation

    def _place(self) -> Floats:
        return self._torso

    def _initial_state(self, generator: np.random.Generator) -> tuple[Floats, Floats]:
        nq, nv = self._qpos.shape[1], self._qvel.shape[1]
        qpos = self._init_qpos + generator.uniform(-_RESET_NOISE, _RESET_NOISE, size=nq)
        return qpos, _RESET_NOISE * generator.standard_normal(nv)

    def _healthy(self) -> Bools:
        z = self._qpos[:, 2]
        return (z >= 0.2) & (z <= 1.0)

    def _contact_cost(self) -> Floats:
        """5e-4·‖clip(f, ±1)‖² of the external forces and torques f on all bodies, [N]."""
        forces = self._forces.reshape(len(self._forces), -1)
        return 5e-4 * squared_norm(np.clip(forces, -1.0, 1.0))


class AntVel(_Ant):
    """Walk on four legs at a velocity v* along x that is not observed.

    r = 1 − |v − v*| + 0.05 − 0.005·‖a‖² − 5e-4·‖clip(f, ±1)‖² with v = Δx/dt and the contact
    forces f, the reward of Finn, Abbeel & Levine 2017 (MAML); the episode ends where the torso's
    height leaves [0.2, 1] m. Their simulator is rllab's, whose ant has other gears, no frame skip
    and observes its absolute position: returns do not compare.

    Args:
        num_envs: Number of lanes N.
        velocity_low: Lowest target velocity, in m/s.
        velocity_high: Highest target velocity, in m/s.
        horizon: Steps of 0.05 s in an episode.
        observe_contacts: Whether the contact forces, clipped to ±1, follow what is observed.
        num_threads: Physics threads, 0 for all cores.

    Raises:
        ValueError: a parameter out of its range.
    """

    presets: ClassVar[Mapping[str, Mapping[str, Any]]] = {
        "maml_2017": {"velocity_low": 0.0, "velocity_high": 3.0, "observe_contacts": True}
    }

    def __init__(
        self,
        num_envs: int,
        *,
        velocity_low: float = 0.0,
        velocity_high: float = 3.0,
        horizon: int = 200,
        observe_contacts: bool = False,
        num_threads: int = 0,
    ) -> None:
        low, high = checks.interval("velocity_low", velocity_low, "velocity_high", velocity_high)
        self._observe_contacts = checks.switch("observe_contacts", observe_contacts)
        super().__init__(num_envs, UniformInterval(low, high), horizon, num_threads)

    def task_caption(self, task: Tasks) -> str:
        return f"target speed {task[0]:.2f} m/s"

    def _reward(self, velocity: Floats, actions: Floats) -> Floats:
        error = np.abs(velocity[:, 0] - self._tasks[:, 0])
        return 1.05 - error - 0.005 * squared_norm(actions) - self._contact_cost()


class AntDir(Directed, _Ant):
    """Walk on four legs, fast, in a direction φ that is not observed.

    r = v·(cos φ, sin φ) + 1 − 0.5·‖a‖² − 5e-4·‖clip(f, ±1)‖² with the torso's velocity v on the
    ground and the contact forces f; the 1 is not paid in the step that ends the episode, where the
    torso's height leaves [0.2, 1] m. At φ = 0 this is Gymnasium's Ant-v5.

    Presets: `varibad` (Zintgraf et al. 2020), whose code names two directions ±1 and takes them
    for angles in rad, so that they are 115° apart; `pearl` (Rakelly et al. 2019), 0 and π, whose
    MuJoCo 2.0 left f at 0. Both pay the 1 in the last step, too.

    Args:
        num_envs: Number of lanes N.
        directions: Any angle; forward_backward, 0 and π; or plus_minus_one, 1 and −1 rad. Of the
            finite ones both are trained and evaluated on.
        horizon: Steps of 0.05 s in an episode.
        observe_contacts: Whether the contact forces, clipped to ±1, follow what is observed.
        num_threads: Physics threads, 0 for all cores.

    Raises:
        ValueError: a parameter out of its range.
    """

    presets: ClassVar[Mapping[str, Mapping[str, Any]]] = {
        "varibad": {"directions": "plus_minus_one"},
        "pearl": {"directions": "forward_backward"},
    }

    def __init__(
        self,
        num_envs: int,
        *,
        directions: Literal["any", "forward_backward", "plus_minus_one"] = "any",
        horizon: int = 200,
        observe_contacts: bool = False,
        num_threads: int = 0,
    ) -> None:
        self._observe_contacts = checks.switch("observe_contacts", observe_contacts)
        super().__init__(num_envs, direction_tasks(directions), horizon, num_threads)

    def _reward(self, velocity: Floats, actions: Floats) -> Floats:
        gain = along(velocity, self._tasks[:, 0]) + self._healthy()
        return gain - (0.5 * squared_norm(actions) + self._contact_cost())


class AntGoal(_Ant):
    """Walk on four legs to a goal g, in a disc around the start, that is not observed.

    r = −‖x − g‖₁ − 0.1·‖a‖² − 5e-4·‖clip(f, ±1)‖² with the torso's place x on the ground and the
    contact forces f; never terminates. The ant's absolute position is observed.

    Presets: `varibad` (Zintgraf et al. 2020) and `pearl` (Rakelly et al. 2019), which are the
    same and observe the contact forces, too, those on the immovable world besides. The MuJoCo 2.0
    of `pearl` left them at 0.

    Args:
        num_envs: Number of lanes N.
        radius: The disc's radius, in m.
        horizon: Steps of 0.05 s in an episode.
        observe_contacts: Whether the contact forces, clipped to ±1, follow what is observed.
        num_threads: Physics threads, 0 for all cores.

    Raises:
        ValueError: a parameter out of its range.
    """

    presets: ClassVar[Mapping[str, Mapping[str, Any]]] = {
        "varibad": {"observe_contacts": True},
        "pearl": {"observe_contacts": True},
    }
    position_columns: tuple[int, int] | None = (0, 1)
    _observe_position = True

    def __init__(
        self,
        num_envs: int,
        *,
        radius: float = 3.0,
        horizon: int = 200,
        observe_contacts: bool = False,
        num_threads: int = 0,
    ) -> None:
        self._observe_contacts = checks.switch("observe_contacts", observe_contacts)
        super().__init__(num_envs, GoalRegion("disc", radius), horizon, num_threads)

    def task_caption(self, task: Tasks) -> str:
        return f"goal ({task[0]:.1f}, {task[1]:.1f}) m".replace("-", "−")

    def motion_caption(self, states: Floats, task: Tasks) -> str:
        """How far the goal is."""
        return f"{np.linalg.norm(states[-1, :2] - task):.1f} m from it"

    def _healthy(self) -> Bools:
        return np.ones(self.num_envs, dtype=bool)

    def _reward(self, velocity: Floats, actions: Floats) -> Floats:
        distance = np.abs(self._torso - self._tasks).sum(axis=1)
        return -distance - 0.1 * squared_norm(actions) - self._contact_cost()
