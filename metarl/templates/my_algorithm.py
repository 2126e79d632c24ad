"""An algorithm of your own: MAML in which the tasks that went worst count most."""

import dataclasses

import torch
from pydantic import Field

from metarl.algorithms.maml import MAML
from metarl.algorithms.settings.gradient import SurrogateSettings


class MyAlgorithmSettings(SurrogateSettings):
    """MAML's settings and one more; each is a field of the config: algorithm.worst 2.0."""

    worst: float = Field(1.0, ge=0, description="how much more bad tasks count; 0: as in MAML")


class MyAlgorithm(MAML):
    """MAML whose meta-objective weighs task m with the softmax of −worst·R_m over the tasks.

    R_m is the task's return after adaptation, in standard deviations from the mean of the tasks.
    An algorithm need not be a kind of MAML: see metarl.types.Algorithm for all that it must have.
    """

    config_class = MyAlgorithmSettings

    def terms(self, batch):
        """What the adapted policies are judged by: their advantages, scaled task by task."""
        returns = batch.returns[-1]  # [M]
        scores = (returns - returns.mean()) / (returns.std() + 1e-8)
        weights = len(returns) * torch.softmax(-self.config.worst * scores, dim=0)
        weighted = [
            dataclasses.replace(samples, advantages=samples.advantages * weights[:, None])
            for samples in batch.data  # after 0, 1, … steps: advantages [M, samples of a task]
        ]
        return super().terms(dataclasses.replace(batch, data=weighted))
