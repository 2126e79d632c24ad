"""A worker process of ProcessVectorEnv: it steps its slice of the lanes, one request at a time.

Requests and replies are pickles on the pipes that it was started with as standard input and output,
in whose places it has an empty input and its standard error. The process ends when its requests do,
hence with its parent.
"""

from __future__ import annotations

import contextlib
import io
import os
import pickle
import signal
import sys
import threading
import time
import traceback
from collections.abc import Callable
from functools import partial
from typing import IO, Any, Literal, NamedTuple

import cloudpickle
import gymnasium
import numpy as np
from gymnasium import spaces

from metarl.envs.contract import (
    check_picture,
    check_reset,
    check_step,
    check_success,
    checked,
    observation_row,
    picture_fps,
)
from metarl.envs.faults import in_words
from metarl.envs.global_streams import GlobalStreams, redirect_random
from metarl.envs.memory import Memory, resident_bytes
from metarl.envs.tasks import TaskDistribution, Tasks
from metarl.envs.watch import Place


class Start(NamedTuple):
    """The first request: have at least `num_lanes` environments, building those that are missing.

    The builder is what makes them and its parameters, pickled: what fails in it is a failure of
    theirs.
    """

    builder: bytes
    num_lanes: int
    parent: int
    success_key: str  # in the info of a step


class Call(NamedTuple):
    """Reset, step or draw these lanes of the slice, each with its own row of the columns.

    Columns are tasks [k, d] and seeds [k] for a reset, actions [k, ...] for a step. The reply is
    the pictures [k, height, width, 3], or the observations [k, o] (images [k, h, w, c]) and, of a
    step, rewards, terminated, truncated and success, each [k]; success is NaN where the step's info
    says nothing of it.
    """

    what: Literal["reset", "step", "render"]
    lanes: list[int]
    columns: list[np.ndarray]


class Description(NamedTuple):
    """The reply to `Start`: what the environment says about itself."""

    name: str
    observation_space: spaces.Space
    action_space: spaces.Space
    horizon: Any  # None where there is none
    task_distribution: TaskDistribution | None
    position_columns: tuple[int, int] | None
    picture_fps: float | None  # None where it draws none
    memory: Memory


class Failed(NamedTuple):
    """The reply to any request during which the environment's own code raised."""

    lane: int
    message: str
    traceback: str


def main(requests: IO[bytes], place: int | None = None) -> None:
    """Serve requests until they end; `place` is memory shared with the parent."""
    # The parent decides what an interrupt means: it finishes its iteration and closes the input.
    for name in ("SIGINT", "SIGTERM", "SIGUSR1", "SIGHUP"):
        if hasattr(signal, name):
            signal.signal(getattr(signal, name), signal.SIG_IGN)
    replies = os.fdopen(os.dup(sys.stdout.fileno()), "wb")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())  # what environments print is no reply
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")  # as it is for standard error
    redirect_random()
    lanes = _Slice(None if place is None else Place(place))
    try:
        while True:
            replies.write(lanes.answer(pickle.load(requests)))
            replies.flush()
    except EOFError:
        pass
    finally:
        for env in lanes.envs:
            with contextlib.suppress(Exception):  # nobody is left who could mind
                env.close()


class _Slice:
    """The worker's environments, and which of them is at work: what fails is its lane's failure."""

    def __init__(self, place: Place | None = None) -> None:
        self.envs: list[gymnasium.Env] = []
        self._streams: list[GlobalStreams] = []
        self._growth: float | None = None
        self._success_key = ""
        self._place = place
        self._lane = 0
        self._at_work: tuple[Any, str] = (None, "")  # whose method

    def answer(self, request: Start | Call) -> bytes:
        """The reply to a request, `Failed` where the environment's code raised, for any reason."""
        try:
            if isinstance(request, Start):
                # By value where the environment's own class was, such as that of its tasks.
                return cloudpickle.dumps(self._build(request), protocol=pickle.HIGHEST_PROTOCOL)
            return pickle.dumps(self._rows(request), protocol=pickle.HIGHEST_PROTOCOL)
        except BaseException as error:  # sys.exit in an environment is a failure of it, too
            return pickle.dumps(_failed(self._lane, error, *self._at_work))
        finally:
            if self._place is not None:
                self._place.at(-1)

    def _build(self, request: Start) -> Description:
        if not self.envs:
            _end_with(request.parent)
        self._success_key = request.success_key
        with GlobalStreams().at_work():  # what a module draws is the same in all processes
            maker, params = pickle.loads(request.builder)
        self._at_work = (maker, "__init__") if isinstance(maker, type) else (None, "")
        before: tuple[int, int] | None = None
        while len(self.envs) < request.num_lanes:
            if self.envs and before is None and (resident := resident_bytes()) is not None:
                before = len(self.envs), resident
            self._turn_to(len(self.envs))
            streams = GlobalStreams()
            with streams.at_work():
                self.envs.append(checked(maker(**params), maker))
            self._streams.append(streams)
        count, resident = len(self.envs), resident_bytes()
        if before is not None and resident is not None:
            self._growth = (resident - before[1]) / (count - before[0])
        return _describe_env(self.envs[0], Memory(count, resident, self._growth))

    def _rows(self, request: Call) -> list[np.ndarray]:
        step = partial(_step, self._success_key)
        calls: dict[str, Callable[..., tuple]] = {"reset": _reset, "step": step, "render": _render}
        call = calls[request.what]
        rows = []
        for lane, *own in zip(request.lanes, *request.columns, strict=True):
            self._turn_to(lane)
            self._at_work = (self.envs[lane].unwrapped, request.what)
            seed = own[1] if request.what == "reset" else None
            with self._streams[lane].at_work(seed):
                rows.append(call(self.envs[lane], *own))
        return [np.array(column) for column in zip(*rows, strict=True)]

    def _turn_to(self, lane: int) -> None:
        self._lane = lane
        if self._place is not None:
            self._place.at(lane)


def _reset(env: gymnasium.Env, task: Tasks, seed: int | None) -> tuple[np.ndarray]:
    env.get_wrapper_attr("set_task")(task)
    observation, _ = check_reset(env, env.reset(seed=seed))
    return (observation_row(env, "reset", observation),)


def _step(key: str, env: gymnasium.Env, action: Any) -> tuple[np.ndarray, float, bool, bool, float]:
    observation, reward, terminated, truncated, info = check_step(env, env.step(action))
    success = check_success(env, key, info)
    return observation_row(env, "step", observation), reward, terminated, truncated, success


def _render(env: gymnasium.Env) -> tuple[np.ndarray]:
    return (check_picture(env, env.render()),)


def _describe_env(env: gymnasium.Env, memory: Memory) -> Description:
    """Spaces, horizon and tasks, from attributes of the environment or of one that it wraps."""

    def attribute(name: str) -> Any:
        return env.get_wrapper_attr(name) if env.has_wrapper_attr(name) else None

    limits = [attribute("horizon"), None if env.spec is None else env.spec.max_episode_steps]
    wrapper: Any = env
    while isinstance(wrapper, gymnasium.Wrapper):
        if isinstance(wrapper, gymnasium.wrappers.TimeLimit):
            limits.append(wrapper._max_episode_steps)
        wrapper = wrapper.env
    given = [limit for limit in limits if limit is not None]
    whole = [limit for limit in given if isinstance(limit, int | np.integer)]
    horizon = min(whole) if given and len(whole) == len(given) else next(iter(given), None)
    return Description(
        type(env.unwrapped).__name__,
        env.observation_space,
        env.action_space,
        horizon,
        attribute("task_distribution"),
        attribute("position_columns"),
        picture_fps(env),
        memory,
    )


def _failed(lane: int, error: BaseException, owner: object, method: str) -> Failed:
    """The error in one line, with the place in the user's code, and its traceback."""
    words = in_words(error, owner, method)
    return Failed(lane, words, "".join(traceback.format_exception(error)))


def _end_with(parent: int) -> None:
    """End this process when its parent is gone, even in the middle of a step that hangs."""
    if os.name != "posix":
        return

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(1.0)
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()
