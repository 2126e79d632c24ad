"""The limit: the simulator alone, stepping the very actions of a rollout again.

What contacts there are decides what a step of the physics costs, so the limit is measured on the
recorded actions, from the same initial states, with the same lanes and threads, and nothing else.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from metarl.envs import TaskVectorEnv
from metarl.envs.locomotion.models import silence
from metarl.envs.locomotion.mujoco_vector import MujocoTaskVectorEnv
from metarl.experience.rollout import RolloutWorker
from metarl.experience.threads import one_torch_thread
from metarl.random import Key
from metarl.types import Actor, Trajectory, Trial


@dataclass(frozen=True)
class Recording:
    """One rollout, and all it takes to play it again.

    Attributes:
        trajectory: What was collected ``[M, B, T, ·]``.
        tasks: ``[M, d]``.
        key: Of the resets.
        episodes: E, of a trial; with more than one, all of them last to the horizon.
    """

    trajectory: Trajectory
    tasks: NDArray[np.float64]
    key: Key
    episodes: int = 1

    def reset(self, env: TaskVectorEnv, episode: int = 0) -> None:
        """Put an environment of M·B lanes where an episode began."""
        num_tasks, lanes = self.trajectory.valid.shape[:2]
        key = self.key.at(self.key.adaptation_step + episode)
        env.set_tasks(np.repeat(self.tasks, lanes, axis=0))
        env.reset(seed=key.reset_seeds(num_tasks, lanes))

    def actions(self) -> NDArray[np.floating]:
        """The raw actions by time ``[T, M·B, a]``."""
        by_lane = self.trajectory.actions.flatten(0, 1)  # [M·B, T, a]
        return by_lane.transpose(0, 1).contiguous().numpy()

    def valid(self) -> NDArray[np.bool_]:
        """Which lanes were live ``[T, M·B]``."""
        return self.trajectory.valid.flatten(0, 1).T.contiguous().numpy()


class Recorder(RolloutWorker):
    """A rollout worker that keeps what it collects, in ``recordings``."""

    def __init__(self, make_env: Callable[[int], TaskVectorEnv]) -> None:
        super().__init__(make_env)
        self.recordings: list[Recording] = []

    def collect(
        self, actor: Actor, tasks: np.ndarray, lanes: int, key: Key, episodes: int = 1
    ) -> Trial:
        """As the rollout worker does."""
        trajectory = super().collect(actor, tasks, lanes, key, episodes)
        self.recordings.append(Recording(trajectory, tasks, key, episodes))
        return trajectory


def replay(env: TaskVectorEnv, recording: Recording) -> float:
    """Seconds that the simulator alone takes for a recording's env steps; resets do not count.

    That is MuJoCo's batch behind the environment, without its observations and rewards. Where the
    environment has no such batch (navigation), it is the environment's own steps.
    """
    actions, valid = recording.actions(), recording.valid()
    if recording.episodes > 1 and not valid.all():
        raise ValueError("only trials whose episodes all last to the horizon can be replayed")
    seconds = 0.0
    for episode in range(recording.episodes):
        recording.reset(env, episode)
        steps = slice(episode * env.horizon, (episode + 1) * env.horizon)
        if isinstance(env, MujocoTaskVectorEnv):
            seconds += batch_seconds(env, actions[steps], valid[steps])
        else:
            seconds += env_seconds(env, actions[steps])
    return seconds


def batch_seconds(
    env: MujocoTaskVectorEnv, actions: NDArray[np.floating], valid: NDArray[np.bool_] | None = None
) -> float:
    """Seconds of the bare ``Batch`` for actions ``[T, N, a]``, from the state as it is.

    Args:
        env: Whose batch; it was reset, and must be again before it is used otherwise.
        actions: Clipped here, as the environment does.
        valid: The live lanes ``[T, N]``; None: all of them.
    """
    # The benchmark's business is to go below the environment.
    batch, substeps = env._batch, env.frame_skip
    clipped = actions.clip(-1.0, 1.0).astype(np.float64)
    controls = env._ctrl_center + env._ctrl_half * clipped
    live = [None] * len(actions) if valid is None or valid.all() else list(valid)
    control = batch.bind("ctrl")
    with silence(), one_torch_thread():
        start = time.perf_counter()
        for t in range(len(controls)):
            control[:] = controls[t]
            batch.step(live[t], nstep=substeps)
        return time.perf_counter() - start


def env_seconds(env: TaskVectorEnv, actions: NDArray[np.floating]) -> float:
    """Seconds of the environment's own steps for actions ``[T, N, a]``, from the state as it is."""
    copies = [a.copy() for a in actions]  # an environment may clip in place
    with one_torch_thread():
        start = time.perf_counter()
        for action in copies:
            env.step(action)
        return time.perf_counter() - start
