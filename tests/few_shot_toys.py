"""Few-shot tasks of a user's own, and an algorithm that learns next to nothing from them."""

from __future__ import annotations

from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any, ClassVar

import numpy as np
from gymnasium import spaces
from pydantic import BaseModel

from metarl.envs import Examples, SupervisedTasks, UniformInterval
from metarl.experience.few_shot import FewShotSource
from metarl.random import Key


class Slopes(SupervisedTasks):
    """Lines through the origin; the task is the slope.

    Args:
        shots: Points of a support set.
    """

    measure = "error"
    input_space = spaces.Box(-1.0, 1.0, (1,))
    target_space: Any = spaces.Box(-np.inf, np.inf, (1,))

    def __init__(self, shots: int = 3) -> None:
        self.shots = shots
        self.task_distribution = UniformInterval(-1.0, 1.0, "slope", "")

    def draw(
        self, tasks: np.ndarray, rngs: Sequence[np.random.Generator], queries: int
    ) -> tuple[Examples, Examples]:
        x = np.stack([rng.uniform(-1.0, 1.0, (self.shots + queries, 1)) for rng in rngs])
        y, k = tasks[:, None] * x, self.shots
        return Examples(x[:, :k], y[:, :k]), Examples(x[:, k:], y[:, k:])


class MeanSettings(BaseModel):
    """Predicts the mean."""

    tasks: int = 4


class Mean:
    """It has seen so many targets, and predicts their mean."""

    config_class: ClassVar[type[BaseModel]] = MeanSettings
    learns_from: ClassVar = "examples"

    def __init__(self, config: Any, inputs: Any, targets: Any, seed: int, device: str) -> None:
        self.config, self.spaces = config, (inputs, targets)
        self.state = {"mean": 0.0}

    def collect(self, source: FewShotSource, key: Key) -> Any:
        sets = source.examples(source.sample_tasks(self.config.tasks, key), 2, key)
        steps = sum(samples.weights.numel() for samples in sets)
        return SimpleNamespace(sets=sets, env_steps=steps, metrics={})

    def update(self, batch: Any) -> dict[str, float]:
        self.state = {"mean": float(batch.sets.query.actions.double().mean())}
        return dict(self.state)

    def state_dict(self) -> dict[str, float]:
        return self.state

    def load_state_dict(self, state: dict[str, float]) -> None:
        self.state = dict(state)

    def agent(self, mode: str, key: Key) -> Any:
        raise NotImplementedError
