"""A worker process of ProcessVectorEnv: it steps its slice of the lanes, one request at a time.

Requests and replies are pickles on the standard input and output. The process ends when its input
does, hence with its parent.
"""

from __future__ import annotations

import contextlib
import os
import pickle
import signal
import sys
import threading
import time
import traceback
from collections.abc import Callable
from typing import Any, BinaryIO, NamedTuple

import cloudpickle
import gymnasium
import numpy as np
from gymnasium import spaces
from metarl.envs.tasks import TaskDistribution, Tasks
from metarl.envs.vector import Bools, Floats
from numpy.typing import NDArray


class Start(NamedTuple):
    """The first request: build `num_lanes` environments.

    The builder is their class and its parameters, pickled: what fails in it is a failure of theirs.
    """

    builder: bytes
    num_lanes: int
    parent: int


class Reset(NamedTuple):
    """Reset these lanes of the slice; the reply is their observations, [k, o]."""

    lanes: list[int]
    tasks: Tasks
    seeds: list[int | None]


class Step(NamedTuple):
    """Step these lanes of the slice; the reply is a `Stepped`."""

    lanes: list[int]
    actions: np.ndarray


class Description(NamedTuple):
    """The reply to `Start`: what the environment says about itself."""

    observation_space: spaces.Space
    action_space: spaces.Space
    horizon: int | None
    task_distribution: TaskDistribution | None
    position_columns: tuple[int, int] | None


class Stepped(NamedTuple):
    """The reply to `Step`, for the k lanes that were stepped."""

    observation: Floats
    reward: Floats
    terminated: Bools
    truncated: Bools


class Failed(NamedTuple):
    """The reply to any request during which the environment's own code raised."""

    lane: int
    message: str
    traceback: str


class _LaneError(Exception):
    """Carries the lane in which the environment's code raised; the cause is what it raised."""

    def __init__(self, lane: int) -> None:
        super().__init__(lane)
        self.lane = lane


def main() -> None:
    """Serve requests until the input ends."""
    # The parent decides what an interrupt means: it finishes its iteration and closes the input.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    replies = os.fdopen(os.dup(sys.stdout.fileno()), "wb")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())  # what environments print is no reply
    envs: list[gymnasium.Env] = []
    try:
        _answer(envs, replies)
    finally:
        for env in envs:
            with contextlib.suppress(Exception):  # nobody is left who could mind
                env.close()


def _answer(envs: list[gymnasium.Env], replies: BinaryIO) -> None:
    """Answer requests, the first of which builds `envs`, until there are none."""
    while (request := _receive(sys.stdin.buffer)) is not None:
        reply: Any
        try:
            reply = _serve(envs, request)
        except _LaneError as error:
            cause = error.__cause__
            assert cause is not None
            reply = _failed(error.lane, cause)
        try:
            # By value where the environment's own class was, such as that of its tasks.
            dumps = cloudpickle.dumps if isinstance(reply, Description) else pickle.dumps
            message = dumps(reply, protocol=pickle.HIGHEST_PROTOCOL)
        except Exception as error:  # a user's task distribution may refuse to be pickled
            message = pickle.dumps(_failed(0, error))
        replies.write(message)
        replies.flush()


def _receive(requests: BinaryIO) -> Any:
    """The next request, None when there will be none."""
    try:
        return pickle.load(requests)
    except EOFError:
        return None


def _serve(envs: list[gymnasium.Env], request: Start | Reset | Step) -> Any:
    """The reply to a request.

    Raises:
        _LaneError: the environment's code raised, for whatever reason.
    """
    if isinstance(request, Start):
        _end_with(request.parent)
        env_class, params = _guard(0, pickle.loads, request.builder)
        for lane in range(request.num_lanes):
            envs.append(_guard(lane, env_class, **params))
        return _describe_env(envs[0])
    if isinstance(request, Reset):
        observations = []
        for lane, task, seed in zip(request.lanes, request.tasks, request.seeds, strict=True):
            observations.append(_guard(lane, _reset, envs[lane], task, seed))
        return np.stack(observations)
    rows = []
    for lane, action in zip(request.lanes, request.actions, strict=True):
        rows.append(_guard(lane, _step, envs[lane], action))
    observation, reward, terminated, truncated = zip(*rows, strict=True)
    return Stepped(
        np.stack(observation), np.array(reward), np.array(terminated), np.array(truncated)
    )


def _reset(env: gymnasium.Env, task: NDArray[np.float64], seed: int | None) -> Floats:
    env.get_wrapper_attr("set_task")(task)
    observation, _ = env.reset(seed=seed)
    return _flat(env, observation)


def _step(env: gymnasium.Env, action: Any) -> tuple[Floats, float, bool, bool]:
    observation, reward, terminated, truncated, _ = env.step(action)
    return _flat(env, observation), float(reward), bool(terminated), bool(truncated)


def _flat(env: gymnasium.Env, observation: Any) -> Floats:
    """The observation as one row of numbers, as many as its space has."""
    row = np.asarray(observation, dtype=np.float64).reshape(-1)
    size = int(np.prod(env.observation_space.shape or ()))
    if row.size != size:
        raise ValueError(f"an observation has {row.size} numbers where its space has {size}")
    return row


def _guard(lane: int, call: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
    """Call the environment's code; what it raises is its lane's error."""
    try:
        return call(*args, **kwargs)
    except Exception as error:
        raise _LaneError(lane) from error


def _describe_env(env: gymnasium.Env) -> Description:
    """Spaces, horizon and tasks, from attributes of the environment or of one that it wraps."""

    def attribute(name: str) -> Any:
        return env.get_wrapper_attr(name) if env.has_wrapper_attr(name) else None

    horizon = attribute("horizon")
    if horizon is None and env.spec is not None:
        horizon = env.spec.max_episode_steps
    return Description(
        env.observation_space,
        env.action_space,
        horizon,
        attribute("task_distribution"),
        attribute("position_columns"),
    )


def _failed(lane: int, error: BaseException) -> Failed:
    """The error in one line, with the place in the code that raised it, and its traceback."""
    text = f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
    frames = traceback.extract_tb(error.__traceback__)
    where = f" ({frames[-1].filename}:{frames[-1].lineno})" if frames else ""
    return Failed(lane, text + where, "".join(traceback.format_exception(error)))


def _end_with(parent: int) -> None:
    """End this process when its parent is gone, even in the middle of a step that hangs."""
    if os.name != "posix":
        return

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(1.0)
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()
