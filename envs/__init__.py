"""Environments with distributions of tasks, batched natively where that is possible.

Importing this package registers them with Gymnasium, such as `metarl/PointNavigation-v0`. It needs
no PyTorch, and MuJoCo only when one of its environments is made.
"""

from metarl.envs.constructor import (
    REQUIRED,
    ConstructorField,
    constructor_fields,
    is_batched,
    takes_any,
)
from metarl.envs.registry import env_maker, is_few_shot, make, make_tasks
from metarl.envs.single import TaskEnv, register
from metarl.envs.supervised import Examples, SupervisedTasks
from metarl.envs.tasks import FiniteTasks, GoalRegion, TaskDistribution, UniformInterval
from metarl.envs.vector import SimulationFailure, TaskVectorEnv

__all__ = [
    "REQUIRED",
    "ConstructorField",
    "Examples",
    "FiniteTasks",
    "GoalRegion",
    "SimulationFailure",
    "SupervisedTasks",
    "TaskDistribution",
    "TaskEnv",
    "TaskVectorEnv",
    "UniformInterval",
    "constructor_fields",
    "env_maker",
    "is_batched",
    "is_few_shot",
    "make",
    "make_tasks",
    "register",
    "takes_any",
]

if __name__ == "envs":  # the directory, found on a search path
    raise ImportError("metarl's environments are imported as metarl.envs.", name="envs")

register()
