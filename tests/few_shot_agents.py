"""Agents of few-shot learning that need no training, and tasks small enough to check by hand."""

from __future__ import annotations

from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any, ClassVar

import numpy as np
import torch
from gymnasium import spaces
from pydantic import BaseModel
from torch import Tensor

from metarl.envs.few_shot_images import FewShotClassification
from metarl.envs.labelled_images import LabelledImages
from metarl.maths.distributions import Categorical, SquaredErrorGaussian
from metarl.maths.samples import Samples


class NearestMean:
    """Classes by the nearest mean of their support inputs; before it read them, all alike."""

    adaptation_axis: Any = "support_set"
    transductive = False
    step_sizes: Sequence[float] = ()

    def begin(self, support: Samples) -> None:
        self.support, self.read = support, False

    def adapt(self) -> None:
        self.read = True

    def predict(self, inputs: Tensor) -> Categorical:
        y = self.support.actions
        member = torch.nn.functional.one_hot(y).float()  # [M, S, ways]
        means = (member.mT @ self.support.observations) / member.sum(1).unsqueeze(2)
        distance = torch.cdist(inputs, means)  # [M, Q, ways]
        return Categorical(-10.0 * distance * self.read)


class Waves:
    """Least squares of a sinusoid, a part of the way there at every step."""

    adaptation_axis: Any = "gradient_step"
    transductive = False
    step_sizes: Sequence[float] = (0.5, 0.25)
    way = 0.5

    def begin(self, support: Samples) -> None:
        fit = torch.linalg.pinv(self._basis(support.observations)) @ support.actions
        self.fit, self.now = fit, torch.zeros_like(fit)

    def adapt(self) -> None:
        self.now = self.now + self.way * (self.fit - self.now)

    def predict(self, inputs: Tensor) -> SquaredErrorGaussian:
        return SquaredErrorGaussian(self._basis(inputs) @ self.now)

    def _basis(self, x: Tensor) -> Tensor:
        return torch.cat([x.sin(), x.cos()], dim=2)


class Settings(BaseModel):
    """Nothing to set but the tasks of an iteration."""

    tasks: int = 4


class Untrained:
    """An algorithm whose agent is as good before its training as after it."""

    config_class: ClassVar[type[BaseModel]] = Settings
    learns_from: ClassVar = "examples"

    def __init__(self, config: Any, inputs: Any, targets: Any, seed: int, device: Any) -> None:
        self.config, self.classes = config, isinstance(targets, spaces.Discrete)

    def collect(self, source: Any, key: Any) -> Any:
        sets = source.examples(source.sample_tasks(self.config.tasks, key), 2, key)
        return SimpleNamespace(sets=sets, env_steps=sets.query.weights.numel(), metrics={})

    def update(self, batch: Any) -> dict[str, float]:
        return {f"{'accuracy' if self.classes else 'error'}/step_1": 0.5}

    def state_dict(self) -> dict[str, float]:
        return {"nothing": 0.0}

    def load_state_dict(self, state: dict[str, float]) -> None:
        """Nothing to load."""

    def agent(self, mode: str, key: Any) -> Any:
        return NearestMean() if self.classes else Waves()


class Half(Untrained):
    """Another algorithm by name."""


class Squares(FewShotClassification):
    """Classes of images: a bright square at a place of its own, in noise."""

    def __init__(self, ways: int = 3, shots: int = 2, noise: int = 200) -> None:
        rng = np.random.default_rng(0)
        classes = {}
        for c in range(12):
            pixels = rng.integers(0, noise, (8, 1, 16, 16), dtype=np.uint8)
            pixels[:, :, 4 * (c // 4) : 4 * (c // 4) + 4, 4 * (c % 4) : 4 * (c % 4) + 4] = 255
            classes[f"square_{c:02}"] = pixels
        super().__init__(
            LabelledImages.of(classes), ways, shots, training=4, validation=4, held_out=4
        )
