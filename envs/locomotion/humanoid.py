"""The humanoid with a direction as its task."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, Literal

import numpy as np

from metarl.envs.locomotion.directions import Directed, along, direction_tasks
from metarl.envs.locomotion.mujoco_vector import squared_norm
from metarl.envs.vector import Bools, Floats

_RESET_NOISE = 0.01


class HumanoidDir(Directed):
    """Walk as a humanoid, fast, in a direction φ that is not observed.

    r = 1.25·v·(cos φ, sin φ) + 5 − 0.1·‖u‖² − min(5e-7·‖f‖², 10) with the velocity v of the
    centre of mass on the ground, the torques u in their own units (±0.4) and the external forces f
    on all bodies; the 5 is not paid in the step that ends the episode, where the torso's height
    leaves (1, 2) m. At φ = 0 this is Gymnasium's Humanoid-v5, whose model, frame skip
    (dt = 0.015 s), initial states and 348 observed numbers these are.

    Presets: `varibad` (Zintgraf et al. 2020) and `pearl` (Rakelly et al. 2019), any direction;
    both pay the 5 in the last step, too, and observe the entries of the immovable world besides.

    Args:
        num_envs: Number of lanes N.
        directions: Any angle; forward_backward, 0 and π; or plus_minus_one, 1 and −1 rad. Of the
            finite ones both are trained and evaluated on.
        horizon: Steps of 0.015 s in an episode.
        num_threads: Physics threads, 0 for all cores.

    Raises:
        ValueError: a parameter out of its range.
    """

    model_file, frame_skip, contact_forces = "humanoid.xml", 5, True
    presets: ClassVar[Mapping[str, Mapping[str, Any]]] = {
        "varibad": {"directions": "any"},
        "pearl": {"directions": "any"},
    }

    def __init__(
        self,
        num_envs: int,
        *,
        directions: Literal["any", "forward_backward", "plus_minus_one"] = "any",
        horizon: int = 200,
        num_threads: int = 0,
    ) -> None:
        super().__init__(num_envs, direction_tasks(directions), horizon, num_threads)

    def _bind(self) -> list[Floats]:
        self._centres = self._batch.bind("xipos")
        self._mass = self._model.body_mass.copy()
        n = len(self._qpos)
        of_bodies = [self._batch.bind("cinert"), self._batch.bind("cvel")]
        return [
            self._qpos[:, 2:],
            self._qvel,
            *(field.reshape(n, -1)[:, field.shape[2] :] for field in of_bodies),
            self._batch.bind("qfrc_actuator")[:, 6:],
            self._forces.reshape(n, -1)[:, 6:],
        ]

    def _place(self) -> Floats:
        """The centre of mass, [N, 2], summed body by body, as NumPy sums Gymnasium's."""
        return np.einsum("b,nbj->nj", self._mass, self._centres)[:, :2] / self._mass.sum()

    def _initial_state(self, generator: np.random.Generator) -> tuple[Floats, Floats]:
        nq, nv = self._qpos.shape[1], self._qvel.shape[1]
        qpos = self._init_qpos + generator.uniform(-_RESET_NOISE, _RESET_NOISE, size=nq)
        return qpos, generator.uniform(-_RESET_NOISE, _RESET_NOISE, size=nv)

    def _healthy(self) -> Bools:
        z = self._qpos[:, 2]
        return (z > 1.0) & (z < 2.0)

    def _reward(self, velocity: Floats, actions: Floats) -> Floats:
        forces = self._forces.reshape(len(self._forces), -1)
        contacts = np.minimum(5e-7 * squared_norm(forces), 10.0)
        gain = 1.25 * along(velocity, self._tasks[:, 0]) + 5.0 * self._healthy()
        return gain - (0.1 * squared_norm(self._ctrl) + contacts)
