"""Meta-World's benchmarks of meta-learning: a Sawyer arm, 50 kinds of tasks, goals that are hidden.

Yu et al. 2019; its third version, Meta-World+ of McLean et al. 2025. An optional part: the package
`metaworld` is installed beside this one, without its dependencies, since it pins another MuJoCo.
"""

from __future__ import annotations

import importlib
import os
import pickle
from collections.abc import Sequence
from typing import Any, Literal

import gymnasium
import numpy as np
from gymnasium import spaces
from numpy.typing import ArrayLike, NDArray

from metarl.envs import checks
from metarl.envs.faults import BrokenContract
from metarl.envs.importing import unknown
from metarl.envs.tasks import NUM_VALIDATION, NUMBER, TaskDistribution, Tasks
from metarl.envs.vector import Floats

BENCHMARKS = ("ML10", "ML25", "ML45")
NUM_GOALS = 50  # of a class in training, as in the package, and in the test of ML1
_NUM_TEST = 50  # tasks
_FIRST_TEST, _FIRST_VALIDATION, _FIRST_FURTHER = NUM_GOALS, 2 * NUM_GOALS, 3 * NUM_GOALS
_MOST_GOALS = 1_000_000
_STEPS = 500  # that the package's environments allow
_GOALS: dict[tuple[str, int], Floats] = {}
"""The random numbers of each goal, in this process: where it is, and the object, and so on."""


def metaworld() -> Any:
    """The package `metaworld`, made to run on this MuJoCo.

    Its one incompatibility: it assigns 11 numbers to the whole row of a weld in `model.eq_data`,
    which has 12 since MuJoCo 4; the last of them is none of a weld's.

    Raises:
        BrokenContract: it is not installed; one sentence that says how.
    """
    try:
        package = importlib.import_module("metaworld")
    except ModuleNotFoundError as error:
        if error.name != "metaworld":
            raise
        raise BrokenContract(
            "Meta-World is not installed: `pip install --no-deps metaworld==3.1.1`, without its "
            "dependencies, which ask for another MuJoCo."
        ) from error
    base: Any = importlib.import_module("metaworld.sawyer_xyz_env").SawyerMocapBase
    base.reset_mocap_welds = _reset_mocap_welds
    return package


def _reset_mocap_welds(env: Any) -> None:
    """Weld the hand to the mocap body: anchor, relative position and rotation, torque scale."""
    from mujoco import mjtEq

    welds = np.flatnonzero(env.model.eq_type == mjtEq.mjEQ_WELD)
    env.model.eq_data[welds, :11] = [0.0, 0.0, 0.0, 0.0, 0.0, 0.0, -1.0, 0.0, 0.0, 0.0, 5.0]


class MetaWorldTasks(TaskDistribution):
    """Which class of environment, and which of its goals: two numbers that name, and measure not.

    Trained on are the goals 0 to 49 of the training classes, which are drawn equally often, as
    nearly as their number allows, and those from 150 on where more are asked for. Held out are ten
    other goals of each of the five test classes, or 50 other ones of a single class; validation
    tasks are other goals of the training classes.

    Args:
        train: Names of the classes that are trained on.
        test: Names of those that are held out; of a single class the same one.
        goals: Of each class in training.
    """

    columns = ("environment", "goal")
    units = (NUMBER, NUMBER)

    def __init__(self, train: Sequence[str], test: Sequence[str], goals: int = NUM_GOALS) -> None:
        self.names = tuple(dict.fromkeys([*train, *test]))
        self._train = [self.names.index(name) for name in train]
        self._test = [self.names.index(name) for name in test]
        self._goals = goals

    def sample(self, rng: np.random.Generator, n: int) -> Tasks:
        rounds = -(-n // len(self._train))
        environments = np.concatenate([rng.permutation(self._train) for _ in range(rounds)])[:n]
        goals = rng.integers(self._goals, size=n)
        goals[goals >= NUM_GOALS] += _FIRST_FURTHER - NUM_GOALS
        return np.stack([environments, goals], axis=1).astype(np.float64)

    def validation(self) -> Tasks:
        return _spread(self._train, _FIRST_VALIDATION, NUM_VALIDATION)

    def held_out(self) -> Tasks:
        return _spread(self._test, _FIRST_TEST, _NUM_TEST)

    def check(self, tasks: ArrayLike) -> Tasks:
        """As for every distribution; what names no class or goal is refused too."""
        checked = super().check(tasks)
        fits = (checked == np.floor(checked)) & (checked >= 0)
        fits &= checked < [len(self.names), 2**31]
        if not fits.all():
            row = int(np.argmin(fits.all(axis=1)))
            raise ValueError(
                f"Task {row} is {checked[row].tolist()}: its entries (environment, goal) must be "
                f"whole numbers, the first from 0 to {len(self.names) - 1}."
            )
        return checked


def _spread(environments: Sequence[int], first_goal: int, n: int) -> Tasks:
    """n tasks over these classes, evenly; the goals of each begin at the first one."""
    order = np.arange(n) * max(1, len(environments) // n) % len(environments)
    goals = first_goal + np.arange(n) // len(environments)
    return np.stack([np.array(environments)[order], goals], axis=1).astype(np.float64)


class MetaWorld(gymnasium.Env[Floats, NDArray[np.float32]]):
    """Meta-World: ML1 on one class of environment, or ML10, ML25, ML45 on many.

    A task is a class and a goal; where its goal and its objects are comes from the random numbers
    of that goal's own stream, from the class's distribution. The observation has 39 numbers: the
    hand, the gripper and the objects, now and a step before, and three zeros where the goal is
    hidden. Rewards are in [0, 10] by its second version; an episode never terminates, and succeeds
    by the package's own rule, `info["success"]`, at any step.

    What differs from the package: goals are of a fixed stream each, where it draws 50 anew from a
    benchmark's seed; validation tasks, which it has none of; an episode that is cut at `horizon`;
    more training goals than its 50, where `goals` asks for them.

    Args:
        benchmark: ML10, ML25, ML45, or the name of a class, such as reach-v3, for ML1 on it.
        horizon: Steps of an episode, at most 500, which is Meta-World+'s.
        reward_version: v2 is Meta-World+'s; v1 that of the first papers.
        goals: Of each class in training, at most a million. Fifty is the package's number, and so
            few that their first reward tells a memory which of them it is.
        render_mode: rgb_array or None.
    """

    metadata: dict[str, Any] = {"render_modes": ["rgb_array"], "render_fps": 80}  # noqa: RUF012
    observation_space = spaces.Box(-np.inf, np.inf, (39,), np.float64)
    action_space = spaces.Box(-1.0, 1.0, (4,), np.float32)  # the hand's motion, and the grip

    def __init__(
        self,
        benchmark: str = "reach-v3",
        horizon: int = _STEPS,
        reward_version: Literal["v1", "v2"] = "v2",
        goals: int = NUM_GOALS,
        render_mode: str | None = None,
    ) -> None:
        package = metaworld()
        self.horizon = checks.integer("horizon", horizon, 1, _STEPS)
        self._reward_version = checks.choice("reward_version", reward_version, ("v1", "v2"))
        self.render_mode = render_mode
        self._classes = package.ALL_V3_ENVIRONMENTS
        if benchmark in BENCHMARKS:
            split = getattr(package._env_dict, f"{benchmark}_V3")
            train, test = list(split["train"]), list(split["test"])
        elif benchmark in self._classes:
            train = test = [benchmark]
        else:
            known = [*BENCHMARKS, *self._classes]
            raise BrokenContract(unknown("benchmark", benchmark, known, "Meta-World has"))
        goals = checks.integer("goals", goals, 1, _MOST_GOALS)
        self.task_distribution = MetaWorldTasks(train, test, goals)
        self._env: Any = None  # of the class in force
        self._name = ""
        self.set_task(self.task_distribution.validation()[0])

    def set_task(self, task: ArrayLike) -> None:
        """Change class and goal, effective at the next reset."""
        environment, goal = self.task_distribution.row(task)
        self._next = self.task_distribution.names[int(environment)], int(goal)

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Floats, dict[str, Any]]:
        """Start an episode; `options={"task": row}` is as `set_task` before it."""
        super().reset(seed=seed)
        if (task := checks.task_option(options)) is not None:
            self.set_task(task)
        name, goal = self._next
        if name != self._name:
            self.close()
            self._env, self._name = self._made(name), name
        if (name, goal) not in _GOALS:
            _GOALS[name, goal] = _drawn(self._env, goal)
        drawn = {"env_cls": self._classes[name], "rand_vec": _GOALS[name, goal]}
        data = pickle.dumps(drawn | {"partially_observable": True})
        self._env.set_task(metaworld().Task(env_name=name, data=data))
        observation, info = self._env.reset()
        self._steps = 0
        return observation, info

    def step(self, action: NDArray[np.float32]) -> tuple[Floats, float, bool, bool, dict[str, Any]]:
        observation, reward, _, _, info = self._env.step(action)
        self._steps += 1
        return observation, float(reward), False, self._steps >= self.horizon, info

    def render(self) -> NDArray[np.uint8]:
        """The picture of the state in force, uint8 [480, 480, 3]."""
        picture: NDArray[np.uint8] = self._env.render()
        return np.ascontiguousarray(picture[::-1, ::-1])  # this camera hangs upside down

    def close(self) -> None:
        if self._env is not None:
            self._env.close()
            self._env, self._name = None, ""

    def _made(self, name: str) -> Any:
        """An environment of that class; its tasks hide the goal by default."""
        if self.render_mode is not None:
            from metarl.envs.rendering import backend

            os.environ.setdefault("MUJOCO_GL", backend())
        return self._classes[name](
            reward_function_version=self._reward_version,
            render_mode=self.render_mode,
            camera_name="corner2" if self.render_mode else None,
        )


def _drawn(env: Any, goal: int) -> Floats:
    """The random numbers of a class's goal, by its own rule (which may draw until they fit)."""
    env.seeded_rand_vec, env._freeze_rand_vec = True, False
    env.np_random = np.random.default_rng(goal)
    env.reset()
    return np.array(env._last_rand_vec, dtype=np.float64)
