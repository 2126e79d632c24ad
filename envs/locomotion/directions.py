"""Directions on the ground as tasks, one angle each."""

from __future__ import annotations

import math

import numpy as np

from metarl.envs import checks
from metarl.envs.locomotion.mujoco_vector import MujocoTaskVectorEnv, recent_velocity, speed_caption
from metarl.envs.tasks import FiniteTasks, TaskDistribution, Tasks, UniformInterval
from metarl.envs.vector import Floats

DIRECTIONS = ("any", "forward_backward", "plus_minus_one")


class AnyDirection(UniformInterval):
    """An angle φ ~ U[0, 2π]; evaluation sets are midpoints of equal cells, as for any interval."""

    def __init__(self) -> None:
        super().__init__(0.0, 2.0 * math.pi, "angle", "rad")

    def out_of_range(self) -> Tasks:
        raise ValueError("Any direction is drawn in training: there is nothing out of range.")


class Directed(MujocoTaskVectorEnv):
    """An environment whose tasks are directions, for its captions."""

    def task_caption(self, task: Tasks) -> str:
        return f"direction {math.degrees(task[0]):.0f}°".replace("-", "−")

    def motion_caption(self, states: Floats, task: Tasks) -> str:
        """The speed in that direction."""
        velocity = recent_velocity(states[:, :2], self.render_fps)
        return speed_caption(float(along(velocity[None], task)[0]))


def direction_tasks(which: str) -> TaskDistribution:
    """Any angle, or a finite list: 0 and π; or the angles 1 and −1, in rad.

    Raises:
        ValueError: none of `DIRECTIONS`.
    """
    if checks.choice("directions", which, DIRECTIONS) == "any":
        return AnyDirection()
    angles = {"forward_backward": [0.0, math.pi], "plus_minus_one": [-1.0, 1.0]}[which]
    return FiniteTasks([[angle] for angle in angles], columns=("angle",), units=("rad",))


def along(velocity: Floats, angles: Floats) -> Floats:
    """Components of velocities [N, 2] along directions [N], [N]."""
    return velocity[:, 0] * np.cos(angles) + velocity[:, 1] * np.sin(angles)
