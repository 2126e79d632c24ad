"""Any Gymnasium environment as lanes on worker processes, each stepping its slice of them.

A worker is a fresh interpreter that runs `metarl.envs.process_worker` and imports the environment's
class, nothing else: not the parent's program, so not PyTorch either. A class that only the parent's
program or notebook has is sent by value. A worker is not a fork, since the parent has threads. Each
lane is an environment of its own with seeds and tasks from the parent, so results do not depend on
the number of workers. Vector environments of several numbers of lanes share workers and instances,
see `ProcessVectorEnv.with_lanes`.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Hashable, Mapping, Sequence
from typing import Any, Literal

import cloudpickle
import gymnasium
import numpy as np
from gymnasium import spaces
from numpy.typing import NDArray

from metarl.envs import checks
from metarl.envs.contract import ANY_SUCCESS, Success
from metarl.envs.cores import num_cores
from metarl.envs.memory import costs_in_words
from metarl.envs.process_pool import Pool, Worker
from metarl.envs.process_worker import Call, Description, Failed, Start
from metarl.envs.spaces import OwnActions, is_image, shown_actions, shown_observations
from metarl.envs.tasks import TaskDistribution
from metarl.envs.vector import Bools, Floats, Lanes, SimulationFailure, TaskVectorEnv
from metarl.errors import message_of, one_line, warn

_MEASURED = 5  # instances a process, to tell what the others will take


class ProcessVectorEnv(TaskVectorEnv):
    """N lanes of a gymnasium.Env with a method `set_task(task)`, on W worker processes.

    `set_task` gives the task vector [d], effective at the next reset. Actions are clipped to
    [−1, 1] and scaled affinely to the environment's box; observations are flattened to float64
    but for images, see `metarl.envs.spaces`.

    Args:
        maker: The environment's class, or a function that makes it.
        num_envs: Number of lanes N.
        params: Keywords for it.
        num_workers: Number of processes W, 0 for all cores.
        task_distribution: By default the environment's attribute of that name.
        pool: Workers that another one has started, see `with_lanes`.
        step_timeout: Seconds after which a call that has not returned has failed; None for never.
        success: What counts as one.

    Raises:
        ValueError: the environment cannot be imported or built, has spaces of another kind, no
            horizon (an attribute `horizon`, or its TimeLimit's) or no task distribution.
    """

    def __init__(  # noqa: PLR0913  # what a config says of it
        self,
        maker: Callable[..., gymnasium.Env],
        num_envs: int,
        params: Mapping[str, Any] | None = None,
        *,
        num_workers: int = 0,
        task_distribution: TaskDistribution | None = None,
        pool: Pool | None = None,
        step_timeout: float | None = None,
        success: Success = ANY_SUCCESS,
    ) -> None:
        num_envs = checks.integer("num_envs", num_envs, 1)
        num_workers = checks.integer("num_workers", num_workers, 0, checks.MOST_THREADS)
        # Set before anything can fail, since an unfinished environment is closed too.
        self._pool = Pool() if pool is None else pool
        if step_timeout is not None:
            step_timeout = checks.number("step_timeout", step_timeout, above=0.0)
        self._maker, self._params, self._success = maker, dict(params or {}), success
        self._num_workers, self._step_timeout = num_workers, step_timeout
        self._name = getattr(maker, "__name__", str(maker))
        self._awaited: tuple[Worker, Lanes] | None = None
        count = min(num_workers or num_cores(), num_envs)
        self._slices = np.array_split(np.arange(num_envs), count)
        try:
            self._pool.employ(count)
            description = self._start(self._slices)[0]
            horizon, distribution = _required(description, task_distribution)
            name, own = description.name, description.observation_space
            observation_space = _float64(shown_observations(own, name))
            action_space = shown_actions(description.action_space, name)
            self._own_actions = OwnActions(description.action_space)
            super().__init__(num_envs, distribution, horizon, observation_space, action_space)
        except BaseException:
            self.close()
            raise
        self._name = name
        self.position_columns = description.position_columns
        self.picture_fps = description.picture_fps
        low, high = observation_space.low, observation_space.high
        self._observation = np.zeros((num_envs, *low.shape), low.dtype)
        self._bounded = low.ndim == 1 and bool(np.isfinite([low, high]).any())  # images are held
        self._low, self._high = low - 1e-5 * (1 + abs(low)), high + 1e-5 * (1 + abs(high))

    def with_lanes(self, num_envs: int) -> ProcessVectorEnv:
        """The same environment with another number of lanes, on these workers and instances.

        They build only what is missing, so there are as many instances as the largest one has
        lanes. One of them plays at a time, from a reset of all its lanes; to close one closes all.
        """
        pool = self._pool if self._pool.workers else None
        return ProcessVectorEnv(self._maker, num_envs, self._params, pool=pool, **self._options())

    def _options(self) -> dict[str, Any]:
        """What another one on other lanes is made with as well."""
        return {
            "num_workers": self._num_workers,
            "task_distribution": self.task_distribution,
            "step_timeout": self._step_timeout,
            "success": self._success,
        }

    def close_extras(self) -> None:
        """End the workers."""
        self._pool.close()

    @property
    def _workers(self) -> list[Worker]:
        """Those that have lanes of this one."""
        return self._pool.workers[: len(self._slices)]

    def costs(self, num_envs: int) -> str:
        workers = min(self._num_workers or num_cores(), num_envs)
        few = np.array_split(np.arange(min(num_envs, _MEASURED * workers)), workers)
        self._pool.employ(workers)
        return costs_in_words(self._maker.__name__, num_envs, [d.memory for d in self._start(few)])

    def _start(self, slices: Sequence[Lanes]) -> list[Description]:
        """Have every worker build its lanes; their descriptions of the environment."""
        maker, params = self._maker, self._params
        workers = self._pool.workers[: len(slices)]
        try:
            builder = cloudpickle.dumps((maker, params))
        except Exception as error:
            raise ValueError(
                f"{maker.__name__} cannot be sent to worker processes, with the parameters "
                f"{one_line(repr(params))}: {message_of(error)}."
            ) from error
        for worker, lanes in zip(workers, slices, strict=True):
            worker.send(Start(builder, len(lanes), os.getpid(), self._success.key))
        self._watch.begin("__init__", limited=False)  # the imports are not the environment's fault
        try:
            pairs = zip(workers, slices, strict=True)
            replies = [self._receive(worker, own) for worker, own in pairs]
        finally:
            self._watch.end()
        for worker, reply in zip(workers, replies, strict=True):
            if not isinstance(reply, Description):
                reason = reply.message if isinstance(reply, Failed) else worker.death()
                raise ValueError(f"{maker.__name__} cannot be built: {reason}.")
        return replies

    def _reset_lanes(self, lanes: Lanes) -> None:
        mask = np.zeros(self.num_envs, dtype=bool)
        mask[lanes] = True
        seeds = np.array(self._seeds, dtype=object)
        for lane in lanes:  # a seed restarts the lane's stream once; without a new one it goes on
            self._seeds[lane] = None
        for chosen, (observation,) in self._exchange(mask, "reset", self._tasks, seeds):
            self._observation[chosen] = observation
        if self.success is not None:
            self.success[lanes] = 0.0
        self._look_outside()

    def _advance(self, actions: NDArray[Any], live: Bools | None) -> tuple[Floats, Bools | None]:
        reward, terminated = np.zeros(self.num_envs), np.zeros(self.num_envs, dtype=bool)
        mask = np.ones(self.num_envs, dtype=bool) if live is None else live
        for chosen, reply in self._exchange(mask, "step", self._own_actions.of(actions)):
            self._observation[chosen], reward[chosen], terminated[chosen], truncated, told = reply
            self._truncated[chosen] |= truncated
            self._note_success(chosen, told)
        self._look_outside()
        return reward, terminated

    def _note_success(self, lanes: Lanes, told: Floats) -> None:
        """What a step's info said of the success of these lanes [k], NaN where nothing."""
        if not np.isfinite(told).any():
            return
        if self.success is None:
            self.success = np.zeros(self.num_envs)
        before = self.success[lanes]
        if self._success.when == "any":
            told = np.fmax(before, told)
        self.success[lanes] = np.where(np.isfinite(told), told, before)

    def _look_outside(self) -> None:
        """Warn once of an observation that lies outside its space, but for rounding."""
        space: Any = self.single_observation_space
        if self._name in self._pool.said or not self._bounded:
            return
        outside = (self._observation < self._low) | (self._observation > self._high)
        if outside.any():
            lane, entry = np.argwhere(outside)[0]
            self._pool.said.add(self._name)
            warn(
                f"{self._name} gave the observation {self._observation[lane, entry]:.6g} "
                f"in entry {entry}, which its observation_space bounds by {space.low[entry]:.6g} "
                f"and {space.high[entry]:.6g}. It is used as it is."
            )

    def _observe(self) -> Floats:
        return self._observation.copy()

    def _exchange(
        self, mask: Bools, what: Literal["reset", "step", "render"], *columns: NDArray[Any]
    ) -> list[tuple[Lanes, Any]]:
        """Have each worker call its lanes under the mask, with columns [N]; lanes [k], reply each.

        Raises:
            SimulationFailure: the environment's code raised, or a worker died. The environment
                is closed then, as after any other interruption of the exchange.
        """
        if self.closed or not self._pool.workers:
            raise SimulationFailure(f"{self._name} is closed: make a new one.")
        if not self._pool.played_by(self._slices, begins=what == "reset" and bool(mask.all())):
            raise SimulationFailure(
                f"{self._name} with {self.num_envs} lanes shares its instances, and another one "
                "has played in them: reset all lanes first."
            )
        try:
            asked = []
            for worker, own in zip(self._workers, self._slices, strict=True):
                local = np.flatnonzero(mask[own])
                lanes = own[local]
                if len(lanes):
                    worker.send(Call(what, local.tolist(), [column[lanes] for column in columns]))
                    asked.append((worker, own, lanes))
            return [(lanes, self._reply(worker, own, lanes)) for worker, own, lanes in asked]
        except BaseException:
            self.close()
            raise

    def _reply(self, worker: Worker, own: Lanes, lanes: Lanes) -> Any:
        """The worker's reply for the lanes [k], of its own, that it was asked about."""
        reply = self._receive(worker, own)
        if isinstance(reply, Failed):
            failure = self.failure(int(own[reply.lane]), reply.message)
            failure.add_note(reply.traceback)
            raise failure
        if reply is None:
            lane = worker.place.lane
            if lane is not None:
                raise self.failure(int(own[lane]), worker.death())
            span = f"{lanes[0]}" if len(lanes) == 1 else f"{lanes[0]} to {lanes[-1]}"
            raise self.failure(int(lanes[0]), f"{worker.death()}, which stepped the lanes {span}")
        return reply

    def _receive(self, worker: Worker, own: Lanes) -> Any:
        """What this worker, with lanes of its own [k], replies."""
        self._awaited = (worker, own)
        return worker.receive()

    def under_way(self, what: str) -> tuple[Hashable, str]:
        """The lane at which the worker is whose reply is awaited."""
        if self._awaited is None:
            return None, f"{self._name}.{what}"
        worker, own = self._awaited
        lane, where = worker.place.lane, f"{self._name}.{what} in the worker process {worker.pid}"
        if lane is None or lane >= len(own):
            return worker.pid, f"{where}, of the lanes {own[0]} to {own[-1]},"
        task = "" if what == "__init__" else f" (task: {self._task_in_words(own[lane])})"
        return (worker.pid, worker.place.calls), f"{where}, lane {own[lane]}{task},"

    def give_up(self, seconds: float) -> None:
        """Kill the worker whose reply is awaited."""
        if self._awaited is not None:
            self._awaited[0].give_up(seconds)


def _required(
    description: Description, distribution: TaskDistribution | None
) -> tuple[int, TaskDistribution]:
    """The horizon and the task distribution, which every environment must have."""
    name = description.name
    distribution = distribution or description.task_distribution
    if isinstance(distribution, type):
        raise ValueError(
            f"{name}.task_distribution is the class {distribution.__name__}: make an instance of "
            f"it, {distribution.__name__}()."
        )
    if not isinstance(distribution, TaskDistribution):
        raise ValueError(
            f"{name} has no attribute task_distribution that is a TaskDistribution: "
            "give it one, or name the class of one as the environment's tasks."
        )
    if description.horizon is None:
        raise ValueError(
            f"{name} has no horizon: give it an attribute `horizon`, its steps in an episode, "
            "or put a gymnasium.wrappers.TimeLimit around it."
        )
    return checks.integer(f"{name}.horizon", description.horizon, 1), distribution


def _float64(space: spaces.Box) -> spaces.Box:
    """The space of the rows that workers send; images stay as they are."""
    if is_image(space):
        return space
    low, high = space.low.astype(np.float64), space.high.astype(np.float64)
    return spaces.Box(low, high, dtype=np.float64)
