"""Environments with one fault each, as users write them."""

# mypy: ignore-errors

from __future__ import annotations

import sys

import gymnasium
import numpy as np
from gymnasium import spaces
from gymnasium.wrappers import FlattenObservation, TimeLimit

from metarl.envs import UniformInterval


class Sound(gymnasium.Env):
    """Nothing is wrong with this one."""

    observation_space = spaces.Box(-1.0, 1.0, (2,), np.float32)
    action_space = spaces.Box(-1.0, 1.0, (1,), np.float32)
    task_distribution = UniformInterval(0.0, 1.0)
    horizon = 5
    info = {}  # noqa: RUF012

    def set_task(self, task):
        self.goal = float(task[0])

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        return self.look(), {}

    def look(self):
        return np.zeros(2, np.float32)

    def pay(self):
        return 0.5

    def step(self, action):
        return self.look(), self.pay(), False, False, self.info


class ResetAlone(Sound):
    def reset(self, *, seed=None, options=None):
        return self.look()


class ResetList(Sound):
    def reset(self, *, seed=None, options=None):
        return [0.0, 0.0]


class ResetNothing(Sound):
    def reset(self, *, seed=None, options=None):
        self.look()


class ResetNoSeed(Sound):
    def reset(self):
        return self.look(), {}


class ResetTextInfo(Sound):
    def reset(self, *, seed=None, options=None):
        return self.look(), "start"


class StepOfGym(Sound):
    def step(self, action):
        return self.look(), 0.0, False, {}


class StepNothing(Sound):
    def step(self, action):
        pass


class StepInfoForTruncated(Sound):
    def step(self, action):
        return self.look(), 0.0, False, {}, {}


class StepSwapped(Sound):
    def step(self, action):
        return 0.0, self.look(), False, False, {}


class StepNoneFlag(Sound):
    def step(self, action):
        return self.look(), 0.0, None, False, {}


class StepTextFlag(Sound):
    def step(self, action):
        return self.look(), 0.0, "False", False, {}


class StepNoInfo(Sound):
    info = None


class RewardText(Sound):
    def pay(self):
        return "1.0"


class RewardNothing(Sound):
    def pay(self):
        return None


class RewardVector(Sound):
    def pay(self):
        return np.zeros(3)


class RewardNan(Sound):
    def pay(self):
        return np.float32("nan")


class RewardComplex(Sound):
    def pay(self):
        return 1j


class LookNothing(Sound):
    def look(self):
        return None


class LookDict(Sound):
    def look(self):
        return {"x": np.zeros(1), "v": np.zeros(1)}


class LookTuple(Sound):
    def look(self):
        return np.zeros(1), np.zeros(2)


class LookText(Sound):
    def look(self):
        return np.array(["a", "b"])


class LookRagged(Sound):
    def look(self):
        return [[0.0], [0.0, 1.0]]


class LookLong(Sound):
    def look(self):
        return np.zeros(3)


class LookColumn(Sound):
    def look(self):
        return np.zeros((2, 1))


class LookNan(Sound):
    def look(self):
        return np.array([0.0, np.nan])


class LookGradient(Sound):
    def look(self):
        import torch

        return torch.zeros(2, requires_grad=True)


class SpaceDict(Sound):
    observation_space = spaces.Dict({"x": spaces.Box(-1, 1, (1,)), "v": spaces.Discrete(2)})

    def look(self):
        return {"x": np.zeros(1, np.float32), "v": 1}


class SpaceText(Sound):
    observation_space = spaces.Dict({"said": spaces.Text(3, charset="a")})


class SpaceMissing(Sound):
    observation_space = None


class ActionMissing(Sound):
    action_space = "Box"


class NoTask(Sound):
    set_task = None


class TaskTwo(Sound):
    def set_task(self, x, y):
        pass


class TaskRaises(Sound):
    def set_task(self, task):
        raise KeyError("mass")


class Exits(Sound):
    def step(self, action):
        sys.exit(3)


class Interrupts(Sound):
    def step(self, action):
        raise KeyboardInterrupt


class BuildsNot(Sound):
    def __init__(self):
        raise OSError("no such model: maze.xml")


class Needs(Sound):
    def __init__(self, size):
        pass


class LibraryFails(Sound):
    def step(self, action):
        return self.look(), np.linalg.inv(np.zeros((2, 2))).sum(), False, False, {}


class TasksAreAClass(Sound):
    task_distribution = UniformInterval


class Lenient(Sound):
    """Unusual, but what it means is plain."""

    def reset(self, *, seed=None, options=None):
        return [[0.0, 0.0][0], 0], {}

    def step(self, action):
        return self.look(), np.array([0.5]), np.array([False]), 0, {}


class Outside(Sound):
    def look(self):
        return np.array([0.0, 1.5])


def make_nothing():
    SpaceDict()


def make_text():
    return SpaceText()


def make_flat(limit: int = 3):
    """Flattened, and with a time limit.

    Args:
        limit: Of its steps.
    """
    return TimeLimit(FlattenObservation(SpaceDict()), limit)


def make_old():
    return FlattenObservation(StepOfGym())


def make_old_reset():
    return FlattenObservation(ResetNoSeed())


class Flat(FlattenObservation):
    """A wrapper as a class."""

    def __init__(self):
        super().__init__(SpaceDict())


class Rewarded(gymnasium.Wrapper):
    """A wrapper of the user's with a fault of its own."""

    def __init__(self):
        super().__init__(Sound())

    def step(self, action):
        return (*super().step(action)[:3], {})


class Maze(Sound):
    """As it is registered with Gymnasium, where its size is another one.

    Args:
        size: Of its side.
    """

    def __init__(self, size: int = 1, render_mode: str | None = None):
        self.size = size


gymnasium.register(
    "tests/Maze-v0", entry_point=Maze, kwargs={"size": 4}, max_episode_steps=2, order_enforce=True
)
