"""The vector environment that an algorithm rolls out in: N lanes, each with its own task."""

from __future__ import annotations

import functools
import math
from abc import abstractmethod
from collections.abc import Callable, Hashable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from gymnasium import spaces
from gymnasium.error import ResetNeeded
from gymnasium.utils import seeding
from gymnasium.vector import AutoresetMode, VectorEnv
from gymnasium.vector.utils import batch_space
from numpy.typing import ArrayLike, NDArray

from metarl.envs import checks
from metarl.envs.faults import SimulationFailure as SimulationFailure
from metarl.envs.faults import check_rows, users_code
from metarl.envs.knowledge import Knowledge
from metarl.envs.spaces import check_actions, check_batch, shown_lanes, shown_observations
from metarl.envs.task_contract import check_distribution
from metarl.envs.tasks import TaskDistribution, Tasks
from metarl.envs.watch import Watch

if TYPE_CHECKING:
    from metarl.envs.drawing import Drawing

Bools = NDArray[np.bool_]
Floats = NDArray[np.float64]
Lanes = NDArray[np.intp]


class TaskVectorEnv(Knowledge, VectorEnv):
    """N lanes of one environment, each with its own task, reset by mask and never by themselves.

    A lane that has terminated or was truncated is finished. Until its next reset it is frozen: it
    is not stepped, its reward is 0, and its observation and flags are repeated. A lane that was
    never reset counts as truncated. Returned arrays are fresh: no later call writes to them.

    A subclass passes its spaces, distribution and horizon to this constructor and defines
    `_reset_lanes`, `_advance` and `_observe`; this class keeps tasks, seeds, step counts and flags.

    Args:
        num_envs: Number of lanes N.
        task_distribution: Whose tasks these are. Until `set_tasks`, lane i has the validation
            task i (modulo their number).
        horizon: Steps after which a lane is truncated.
        observation_space: Of one lane, a Box [o]. Batches that `_observe` returns of another one
            are shown flat, and so is the space: see `metarl.envs.spaces`.
        action_space: Of one lane: Box[−1, 1] [a], to which actions are clipped, or Discrete,
            MultiDiscrete [d] or MultiBinary [d], from 0.
    """

    metadata: dict[str, Any] = {"autoreset_mode": AutoresetMode.DISABLED, "render_modes": []}  # noqa: RUF012
    presets: ClassVar[Mapping[str, Mapping[str, Any]]] = {}
    """Named sets of constructor keywords that reproduce published variants."""
    position_columns: tuple[int, int] | None = None
    """Observation columns that are a position (x, y), where there are such."""
    picture_fps: float | None = None
    """Pictures a second, where an environment draws itself; else None."""
    _step_timeout: float | None = None  # seconds after which a call of `reset` or `step` failed
    success: Floats | None = None
    """Of each lane's episode so far, 1 where it has succeeded; None where nothing tells."""

    def __init__(
        self,
        num_envs: int,
        task_distribution: TaskDistribution,
        horizon: int,
        observation_space: spaces.Space[Any],
        action_space: spaces.Space[Any],
    ) -> None:
        self.num_envs = checks.integer("num_envs", num_envs, 1)
        self.horizon = checks.integer("horizon", horizon, 1)
        self._own_observations = observation_space
        self.single_observation_space = shown_observations(observation_space, type(self).__name__)
        check_actions(action_space, type(self).__name__)
        self.single_action_space = action_space
        self.observation_space = batch_space(self.single_observation_space, num_envs)
        self.action_space = batch_space(action_space, num_envs)
        self.task_distribution = task_distribution
        self._name = type(self).__name__  # in messages

        self._steps = np.zeros(num_envs, dtype=np.int64)
        self._terminated = np.zeros(num_envs, dtype=bool)
        # A lane starts as truncated: it is frozen until its first reset.
        self._truncated = np.ones(num_envs, dtype=bool)
        self._was_reset = False
        self._generators: list[np.random.Generator | None] = [None] * num_envs
        self._seeds: list[int | None] = [None] * num_envs

    def with_lanes(self, num_envs: int) -> TaskVectorEnv | None:
        """The same on other lanes, using what this one has built; None where that is nothing."""
        return None

    def costs(self, num_envs: int) -> str | None:
        """What so many lanes will take, in a sentence, if that is worth telling beforehand."""
        return None

    @functools.cached_property
    def _watch(self) -> Watch:
        return Watch(self, self._step_timeout)

    # Tasks

    @property
    def task_distribution(self) -> TaskDistribution:
        """The distribution whose tasks the lanes take. Setting it puts its validation tasks in."""
        return self._task_distribution

    @task_distribution.setter
    def task_distribution(self, distribution: TaskDistribution) -> None:
        check_distribution(distribution)
        self._task_distribution = distribution
        tasks = distribution.split("validation")
        self._tasks = distribution.check(tasks[np.arange(self.num_envs) % len(tasks)])
        self._next_tasks = self._tasks.copy()

    def set_tasks(self, tasks: ArrayLike) -> None:
        """Give every lane a task, effective at the lane's next reset (its first one included).

        Args:
            tasks: [N, d].

        Raises:
            ValueError: a wrong shape, or a task that the distribution refuses.
        """
        checked = self._task_distribution.check(tasks)
        if len(checked) != self.num_envs:
            raise ValueError(
                f"set_tasks was given {len(checked)} tasks: "
                f"it must be one for each of the {self.num_envs} lanes."
            )
        self._next_tasks = checked
        if not self._was_reset:
            self._tasks = checked.copy()

    @property
    def tasks(self) -> Tasks:
        """The tasks in force, [N, d], a copy."""
        return self._tasks.copy()

    def task_caption(self, task: Tasks) -> str:
        """The task [d] in the few words that fit into a picture."""
        return self._task_distribution.in_words(task)

    # Episodes

    @property
    def finished(self) -> Bools:
        """Lanes that wait for a reset, [N], a fresh array."""
        return self._terminated | self._truncated

    def reset(
        self,
        *,
        seed: int | Sequence[int] | NDArray[np.integer] | None = None,
        options: Mapping[str, Any] | None = None,
    ) -> tuple[Floats, dict[str, Any]]:
        """Start new episodes, of all lanes or of those under a mask, with their newest tasks.

        Args:
            seed: One integer s: lane i is seeded with s + i. A sequence [N]: each lane's own seed,
                read only where the lane is reset. None: each lane's generator goes on.
            options: "reset_mask", bool [N]: the lanes to reset; the others keep their state.
                "task": a row [d], which every lane has from its next reset on.

        Returns:
            The observations of all lanes, float64 [N, o] or images [N, h, w, c]; an empty info.

        Raises:
            ValueError: unknown options; a mask, seeds or tasks of a wrong shape or kind.
        """
        mask, task = checks.reset_options(options, self.num_envs)
        if task is not None:
            self.set_tasks(np.tile(self._task_distribution.row(task), (self.num_envs, 1)))
        lanes = np.flatnonzero(mask)
        self._seed_lanes(seed, lanes)
        self._tasks[lanes] = self._next_tasks[lanes]
        self._steps[lanes] = 0
        self._terminated[lanes] = False
        self._truncated[lanes] = False
        self._was_reset = True
        if len(lanes):
            self._call("reset", self._reset_lanes, lanes)
        return self._rows_of_all(), {}

    def step(self, actions: ArrayLike) -> tuple[Floats, Floats, Bools, Bools, dict[str, Any]]:
        """Step every lane that is not finished.

        Args:
            actions: float [N, a], clipped to [−1, 1] here; or integers [N], or [N, d].

        Returns:
            observation as `reset`, reward float64 [N], terminated bool [N], truncated bool [N] (the
            horizon is reached, terminated or not), and an info with `success`, if known.

        Raises:
            ResetNeeded: before the first reset.
            ValueError: actions of a wrong shape, or that are none of the options.
            SimulationFailure: a simulation diverged or the environment's code failed.
        """
        if not self._was_reset:
            raise ResetNeeded("step was called before reset: reset the environment first.")
        actions = np.asarray(actions)
        check_batch(self.single_action_space, actions, self.num_envs)
        finished = self.finished
        live = ~finished if finished.any() else None
        reward, terminated = self._call("step", self._advance, actions, live)
        check_rows(self, "_advance", "reward", reward, (self.num_envs,))
        if live is None:
            self._steps += 1
        else:
            self._steps += live
            reward = np.where(live, reward, 0.0)
        if not math.isfinite(reward.sum()):
            lane = int(np.flatnonzero(~np.isfinite(reward))[0])
            raise self.failure(lane, f"the reward became {reward[lane]} (check the actions)")
        if terminated is not None:
            self._terminated |= terminated if live is None else terminated & live
        self._truncated |= self._steps >= self.horizon
        info = {} if self.success is None else {"success": self.success.copy()}
        return self._rows_of_all(), reward, self._terminated.copy(), self._truncated.copy(), info

    def _call(self, what: str, method: Callable[..., Any], *args: Any) -> Any:
        """What a subclass's method returns; where a user's own code raises, that is a failure."""
        self._watch.begin(what)
        try:
            with users_code():
                return method(*args)
        finally:
            self._watch.end()

    def _rows_of_all(self) -> Floats:
        """The observations of all lanes, [N, o]."""
        with users_code():
            observation = self._observe()
        return shown_lanes(self, self._own_observations, observation)

    def failure(self, lane: int, what: str) -> SimulationFailure:
        """The error for a lane that failed, with its task and its step."""
        return SimulationFailure(
            f"{self._name} failed in lane {lane} (task: {self._task_in_words(lane)}) "
            f"at step {self._steps[lane]}: {what}."
        )

    def _task_in_words(self, lane: int) -> str:
        columns = self._task_distribution.columns
        entries = zip(columns, self._tasks[lane], strict=True)
        return ", ".join(f"{column} {value:.6g}" for column, value in entries)

    def under_way(self, what: str) -> tuple[Hashable, str]:
        """What changes while a call of `what` gets on; where it is, in words."""
        return None, f"{self._name}.{what}, of {self.num_envs} lanes at once,"

    def give_up(self, seconds: float) -> None:
        """Let the call that is under way fail; here nothing can."""

    # Pictures

    @property
    def render_fps(self) -> float | None:
        """Steps a second of the world that is simulated; None where it has no clock."""
        return None

    def render_states(self, lanes: slice) -> Floats | None:
        """What a picture of these lanes is drawn from, [n, q]; None if there are no pictures."""
        return None

    def motion_caption(self, states: Floats, task: Tasks) -> str:
        """How a lane with this task moves, from its states up to now [t + 1, q]; "": not told."""
        return ""

    def renderer(self, width: int, height: int) -> Drawing:
        """Draws states of `render_states`, in pictures of that many pixels.

        Raises:
            NotImplementedError: `render_states` returns None.
            RendererMissing: this machine cannot draw off screen.
        """
        raise NotImplementedError(f"{self._name} has no pictures")

    # What a subclass defines

    @abstractmethod
    def _reset_lanes(self, lanes: Lanes) -> None:
        """Put these lanes (sorted, at least one) into the initial state of their tasks."""

    @abstractmethod
    def _advance(self, actions: NDArray[Any], live: Bools | None) -> tuple[Floats, Bools | None]:
        """Step the lanes in `live` [N] (None: all) and leave the state of the others.

        The horizon is not its business; a lane that ends for another reason of the kind is marked
        in `_truncated`.

        Returns:
            A fresh reward [N] and whether the lane's task is over [N] (None: it never is); the
            entries of lanes outside `live` are ignored.
        """

    @abstractmethod
    def _observe(self) -> Floats:
        """The observations of all lanes, a fresh [N, o]."""

    # Seeds and masks

    def use_generator(self, lane: int, generator: np.random.Generator) -> None:
        """Let this lane draw from a generator of the caller's, until it is seeded again."""
        self._generators[lane] = generator

    def _generator(self, lane: int) -> np.random.Generator:
        """The lane's own random stream, as Gymnasium makes it from the same seed."""
        generator = self._generators[lane]
        if generator is None:
            generator, _ = seeding.np_random(self._seeds[lane])  # None: the system's entropy
            self._generators[lane] = generator
        return generator

    def _seed_lanes(
        self, seed: int | Sequence[int] | NDArray[np.integer] | None, lanes: Lanes
    ) -> None:
        """Restart the streams of these lanes; they are built when first drawn from."""
        if seed is None:
            return
        if isinstance(seed, int | np.integer):
            seed = range(int(seed), int(seed) + self.num_envs)
        if len(seed) != self.num_envs:
            raise ValueError(
                f"reset was given {len(seed)} seeds: "
                f"it must be one integer, or one for each of the {self.num_envs} lanes."
            )
        for lane in lanes.tolist():
            self._seeds[lane] = checks.integer(f"The seed of lane {lane}", seed[lane], 0)
            self._generators[lane] = None
