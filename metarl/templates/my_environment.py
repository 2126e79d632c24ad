"""An environment of your own: a cart on a rail, to be stopped at a place that it is not told."""

import gymnasium
import numpy as np
from gymnasium import spaces

from metarl.envs import UniformInterval


class Places(UniformInterval):
    """The tasks: where to stop, in m; with the fixed sets of tasks that are never trained on."""

    def __init__(self) -> None:
        super().__init__(-1.0, 1.0, column="place", unit="m")


class MyEnvironment(gymnasium.Env):
    """A cart that is pushed along a rail.

    The parameters of the constructor are fields of the config: env.strength 2.0.

    Args:
        strength: Acceleration at full push, m/s².
    """

    task_distribution = Places()
    horizon = 50  # steps of an episode
    observation_space = spaces.Box(-np.inf, np.inf, (2,))  # position, velocity: never the task
    action_space = spaces.Box(-1.0, 1.0, (1,))  # the push

    def __init__(self, strength: float = 4.0) -> None:
        self.strength = strength

    def set_task(self, task: np.ndarray) -> None:
        """The task of the episodes from the next reset on."""
        self.place = float(task[0])

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)  # self.np_random is what chance there is must come from
        self.state, self.steps = np.zeros(2), 0
        return self.state.astype(np.float32), {}

    def step(self, action):
        position, velocity = self.state
        velocity = 0.9 * velocity + 0.05 * self.strength * float(action[0])
        self.state = np.array([position + 0.05 * velocity, velocity])
        self.steps += 1
        reward = -abs(self.state[0] - self.place)
        truncated = self.steps == self.horizon
        return self.state.astype(np.float32), reward, False, truncated, {}
