"""Bodies whose masses, inertias, friction and damping are the task, each lane's its own."""

from __future__ import annotations

import mujoco
import numpy as np
from numpy.typing import ArrayLike

from metarl.envs import checks
from metarl.envs.locomotion.models import load_model
from metarl.envs.locomotion.mujoco_vector import MujocoTaskVectorEnv
from metarl.envs.tasks import NUM_HELD_OUT, NUM_VALIDATION, TaskDistribution, Tasks
from metarl.envs.vector import Lanes

_BASES = {"body_mass": 1.5, "body_inertia": 1.5, "geom_friction": 1.5, "dof_damping": 1.3}
"""The model's fields, and of what each is multiplied by a power."""
_WORDS = {
    "body_mass": "mass",
    "body_inertia": "inertia",
    "geom_friction": "friction",
    "dof_damping": "damping",
}
_AXES = {"body_inertia": ("_x", "_y", "_z"), "geom_friction": ("_slide", "_spin", "_roll")}
_BEYOND = 4.0 / 3.0  # the limit of tasks that are out of range, in that of the others


class BodyParameters(TaskDistribution):
    """Factors of a model's masses, inertias, friction and damping, drawn independently.

    Every factor is 1.5^u, of damping 1.3^u, with u ~ U[−limit, limit]: one for the mass and three
    for the principal inertias of each body, three for the friction of each geom (sliding,
    spinning, rolling; of two geoms in contact the larger one counts), the floor's too, and one for
    the damping of each joint that has any. These are the distributions of the environments with
    random parameters of Rothfuss et al. (2019) and Zintgraf et al. (2020), without the entries
    that are 0 in the model, which no factor changes.

    Validation and held-out tasks are 20 and 40 fixed draws; out of range, u is drawn from limits a
    third wider.

    Args:
        model: Whose parameters are 1 as a factor.
        log_scale_limit: Limit of u.

    Raises:
        ValueError: a limit that is not finite and above 0.
    """

    def __init__(self, model: mujoco.MjModel, log_scale_limit: float = 3.0) -> None:
        self.limit = checks.number("log_scale_limit", log_scale_limit, above=0.0)
        where = {field: np.argwhere(getattr(model, field)).tolist() for field in _BASES}
        self.columns = tuple(
            f"{_WORDS[field]}_{_owner(model, field, index)}{_axis(field, *axes)}"
            for field, entries in where.items()
            for index, *axes in entries
        )
        self.units = ("",) * len(self.columns)
        sizes = [len(entries) for entries in where.values()]
        self._base = np.repeat(list(_BASES.values()), sizes)
        ends = np.cumsum(sizes)
        self.slices = {
            field: slice(end - size, end)
            for field, size, end in zip(where, sizes, ends, strict=True)
        }
        """Columns of each of the model's fields."""

    def sample(self, rng: np.random.Generator, n: int) -> Tasks:
        return self._powers(rng.uniform(-self.limit, self.limit, size=(n, self.dim)))

    def validation(self) -> Tasks:
        return self._fixed(1, NUM_VALIDATION)

    def held_out(self) -> Tasks:
        return self._fixed(2, NUM_HELD_OUT)

    def out_of_range(self) -> Tasks:
        return self._fixed(3, NUM_HELD_OUT, _BEYOND)

    def check(self, tasks: ArrayLike) -> Tasks:
        """As for every distribution; a factor that is not above 0 is refused too."""
        checked = super().check(tasks)
        if not (checked > 0.0).all():
            row, column = np.argwhere(checked <= 0.0)[0]
            raise ValueError(
                f"Task {row} has the factor {checked[row, column]:g} as its "
                f"{self.columns[column]}: it must be above 0."
            )
        return checked

    def _fixed(self, seed: int, n: int, scale: float = 1.0) -> Tasks:
        """n draws from a generator whose stream no version of NumPy changes, [n, d]."""
        limit = scale * self.limit
        return self._powers(np.random.RandomState(seed).uniform(-limit, limit, (n, self.dim)))

    def _powers(self, exponents: Tasks) -> Tasks:
        factors: Tasks = self._base**exponents
        return factors


class RandomParameters(MujocoTaskVectorEnv):
    """An environment whose tasks are `BodyParameters`, in force from a lane's next reset.

    What MuJoCo derives from masses and inertias follows them (`mj_setConst`).
    """

    def __init__(
        self,
        num_envs: int,
        *,
        log_scale_limit: float = 3.0,
        horizon: int = 200,
        num_threads: int = 0,
    ) -> None:
        """Models whose parameters are all their own.

        Args:
            num_envs: Number of lanes N.
            log_scale_limit: Factors are 1.5^u, of damping 1.3^u, with |u| up to this.
            horizon: Steps in an episode.
            num_threads: Physics threads, 0 for all cores.

        Raises:
            ValueError: a parameter out of its range.
        """
        self._factors = BodyParameters(load_model(self.model_file), log_scale_limit)
        super().__init__(num_envs, self._factors, horizon, num_threads)
        self._fields = {field: self._batch.expand(field) for field in self._factors.slices}
        self._bodies = np.ones_like(self._tasks)  # the factors in force

    def task_caption(self, task: Tasks) -> str:
        """The geometric means of the factors of masses, of friction and of damping."""
        parts = {_WORDS[field]: task[part] for field, part in self._factors.slices.items()}
        means = {word: np.exp(np.log(part).mean()) for word, part in parts.items()}
        return ", ".join(f"{word} ×{means[word]:.2f}" for word in ("mass", "friction", "damping"))

    def _task_in_words(self, lane: int) -> str:
        return self.task_caption(self._tasks[lane])  # all factors would fill the screen

    def _reset_lanes(self, lanes: Lanes) -> None:
        """Give the lanes the bodies of their tasks, where they have others, then reset them."""
        changed = lanes[(self._bodies[lanes] != self._tasks[lanes]).any(axis=1)]
        if len(changed):
            self._bodies[changed] = self._tasks[changed]
            for field, values in self._fields.items():
                shared = getattr(self._model, field)
                rows = np.repeat(shared.reshape(1, -1), len(changed), axis=0)
                rows[:, np.flatnonzero(shared)] *= self._tasks[changed, self._factors.slices[field]]
                values[changed] = rows.reshape(-1, *shared.shape)
            self._batch.set_const(changed)
        super()._reset_lanes(lanes)


def _owner(model: mujoco.MjModel, field: str, index: int) -> str:
    """The name of the body, geom or joint that an entry of a field belongs to."""
    if field == "dof_damping":
        return str(model.joint(model.dof_jntid[index]).name)
    named = model.geom(index) if field == "geom_friction" else model.body(index)
    return str(named.name)


def _axis(field: str, *axes: int) -> str:
    return "".join(_AXES[field][axis] for axis in axes)
