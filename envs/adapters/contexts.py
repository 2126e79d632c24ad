"""Environments of CARL, whose tasks are contexts: dictionaries that are applied at a reset."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from gymnasium import spaces
from numpy.typing import NDArray

from metarl.envs.adapters.foreign import ForeignEnv
from metarl.envs.faults import BrokenContract
from metarl.envs.importing import unknown
from metarl.envs.tasks import TaskDistribution


def from_contexts(make_env: Callable[[], Any], tasks: TaskDistribution, horizon: int) -> ContextEnv:
    """A CARL environment as one of ours, its contexts drawn from a distribution of tasks.

    The columns of the distribution name features of the context; all others have CARL's defaults.
    The context is left out of the observation, where CARL puts it, since it is what an agent must
    find out.

    Args:
        make_env: Makes one, without arguments.
        tasks: Whose columns are features, such as `UniformInterval(0.5, 1.5, column="l")`.
        horizon: Steps of an episode.

    Raises:
        BrokenContract: there is no such feature.
    """
    return ContextEnv(make_env(), tasks, horizon)


class ContextEnv(ForeignEnv):
    """See :func:`from_contexts`."""

    def __init__(self, env: Any, tasks: TaskDistribution, horizon: int) -> None:
        super().__init__(env, horizon)
        self.task_distribution = tasks
        name = type(env).__name__
        if not callable(features := getattr(env, "get_context_features", None)):
            inner = env
            while (inner := getattr(inner, "env", None)) is not None:
                if hasattr(inner, "get_context_features"):
                    raise BrokenContract(
                        f"{name} is a wrapper around {type(inner).__name__}: give from_contexts "
                        "CARL's environment bare, and put the wrapper around what it returns"
                    )
            raise BrokenContract(f"{name} has no method get_context_features, as CARL's have")
        self._features: dict[str, Any] = features()
        for column in tasks.columns:
            if column not in self._features:
                known = f"{name} has"
                raise BrokenContract(unknown("context feature", column, self._features, known))
        space: spaces.Space[Any] = env.base_observation_space
        self.observation_space = space

    def _put(self, task: NDArray[np.float64]) -> None:
        context = {
            column: int(value) if "Integer" in type(self._features[column]).__name__ else value
            for column, value in zip(self.task_distribution.columns, task.tolist(), strict=True)
        }
        env = self._env
        env.contexts = {0: context}  # which fills in the defaults
        chosen = env.context_selector
        chosen.contexts, chosen.context_ids, chosen.contexts_keys = env.contexts, [0], [0]
        chosen.context_id = None  # or the next reset would take the context for the one in force

    def _observed(self, observation: Any) -> Any:
        return observation["obs"]
