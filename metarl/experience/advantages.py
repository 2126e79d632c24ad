"""From episodes to samples of a policy gradient: how much better than expected each action was."""

from __future__ import annotations

from dataclasses import dataclass

from metarl.maths.baseline import linear_baseline
from metarl.maths.returns import discounted_sum, generalized_advantages, normalize
from metarl.maths.samples import Samples, flat_samples
from metarl.types import Trajectory


@dataclass(frozen=True)
class AdvantageEstimator:
    """Generalised advantages over a linear baseline that is fitted to each task's own episodes.

    Attributes:
        discount: γ.
        gae_lambda: λ.
        normalize: To mean 0 and standard deviation 1 over a task's valid steps.
    """

    discount: float
    gae_lambda: float
    normalize: bool

    def samples(self, trajectory: Trajectory) -> Samples:
        """The trajectory's steps with their advantages, as flat rows."""
        valid = trajectory.valid
        returns = discounted_sum(trajectory.rewards, self.discount)
        values = linear_baseline(trajectory.observations, returns, valid)
        advantages = generalized_advantages(
            trajectory.rewards, values, valid, self.discount, self.gae_lambda
        )
        if self.normalize:
            advantages = normalize(advantages, valid, dims=(1, 2))  # lanes and time, not tasks
        return flat_samples(
            trajectory.observations, trajectory.actions, advantages, valid, trajectory.log_probs
        )
