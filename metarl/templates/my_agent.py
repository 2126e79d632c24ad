"""An agent of your own: it tries one action an episode, and goes on around the best one."""

import numpy as np

AROUND = 0.3  # how far from the best action the next one lies


class MyAgent:
    """Begins with a random action, and keeps what earned most. See metarl.types.Agent.

    A task is played by several lanes at once, and each of them is an agent with a memory of its
    own. With adaptation_axis "gradient_step" the lanes of a task would learn together.
    """

    adaptation_axis = "episode"
    mode = "stochastic"  # set from outside; this agent acts alike in both modes
    privileged = False  # is not told the task
    step_sizes = ()

    def __init__(self, observation_space, action_space, seed):
        self.size = action_space.shape  # a Box of [-1, 1] to the agent, whatever the environment's
        self.seed = seed

    def begin(self, num_tasks, lanes, tasks=None):
        """New tasks [M], B lanes each: forget everything."""
        self.rng = np.random.default_rng(self.seed)
        self.action = self.best = self.rng.uniform(-1, 1, (num_tasks, lanes, *self.size))
        self.earned = np.full((num_tasks, lanes), -np.inf)  # by the best action
        self.earning = np.zeros((num_tasks, lanes))  # in the episode that is played

    def act(self, observation, active):
        """Actions [M, B, a] for observations [M, B, o]."""
        return self.action

    def observe(self, action, reward, terminated, truncated, next_observation):
        """What the last action brought: rewards [M, B] and so on."""
        self.earning = self.earning + reward

    def adapt(self):
        """Every lane has played an episode: learn from it."""
        better = self.earning > self.earned
        self.best = np.where(better[..., None], self.action, self.best)
        self.earned = np.maximum(self.earning, self.earned)
        self.earning = np.zeros_like(self.earning)
        step = self.rng.normal(0.0, AROUND, self.best.shape)
        self.action = np.clip(self.best + step, -1, 1)
