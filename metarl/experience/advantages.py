"""From episodes to samples of a policy gradient: how much better than expected each action was."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from metarl.maths.baseline import linear_baseline
from metarl.maths.returns import discounted_sum, generalized_advantages, normalize, rounding
from metarl.maths.samples import Samples, flat_samples
from metarl.types import Trajectory

_LANES_AND_TIME = (1, 2)  # not tasks


@dataclass(frozen=True)
class AdvantageEstimator:
    """Generalised advantages over a linear baseline that is fitted to each task's own episodes.

    Attributes:
        discount: γ.
        gae_lambda: λ.
        normalize: To mean 0 and standard deviation 1 over a task's valid steps, whatever the scale
            of the rewards; to 0 where they are no more than error of the baseline's fit.
        observed: Numbers of an observation, which the baseline sees; None: all that a trajectory
            holds. What is drawn once an episode and stands behind them is as many numbers as there
            are episodes: a fit to it would take their returns for its own.
    """

    discount: float
    gae_lambda: float
    normalize: bool
    observed: int | None = None

    def samples(self, trajectory: Trajectory) -> Samples:
        """The trajectory's steps with their advantages, as flat rows."""
        valid = trajectory.valid
        returns = discounted_sum(trajectory.rewards, self.discount)
        values = linear_baseline(trajectory.observations[..., : self.observed], returns, valid)
        advantages = generalized_advantages(
            trajectory.rewards, values, valid, self.discount, self.gae_lambda
        )
        if self.normalize:
            noise = _noise(returns, valid)
            advantages = normalize(advantages, valid, _LANES_AND_TIME, noise)
        return flat_samples(
            trajectory.observations, trajectory.actions, advantages, valid, trajectory.log_probs
        )


def _noise(returns: Tensor, valid: Tensor) -> Tensor:
    """The standard deviation ``[M, 1, 1]`` up to which a task's advantages are error of the fit.

    That of rounding; but any, where all lanes have the same returns at every time, whatever they
    did: what a polynomial in time misses of them was no action's merit. One lane cannot tell.

    Args:
        returns: ``[M, B, T]``, 0 where not valid.
        valid: bool ``[M, B, T]``.
    """
    noise = rounding(returns, _LANES_AND_TIME)
    if returns.shape[1] == 1:
        return noise
    highest = torch.where(valid, returns, -torch.inf).amax(1, keepdim=True)
    lowest = torch.where(valid, returns, torch.inf).amin(1, keepdim=True)
    apart = (highest - lowest).amax(2, keepdim=True)
    return torch.where(apart > noise, noise, torch.inf)
