"""From episodes to samples of a policy gradient: how much better than expected each action was."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from metarl.maths.baseline import linear_baseline
from metarl.maths.returns import discounted_sum, generalized_advantages, normalize, rounding
from metarl.maths.samples import Samples, flat_samples
from metarl.types import Trajectory, Trial

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


def absorbing_advantages(
    trial: Trial, rewards: Tensor, discount: float, gae_lambda: float, horizon: int
) -> Tensor:
    """Generalised advantages of trials in which an early end is an absorbing state.

    Credit crosses the ends of a trial's episodes, so that one that ends early would bring the next
    one nearer by all the steps that it lacks: at γ < 1 a fall is paid for. Here it goes on to its
    horizon without reward, and step t of the e-th episode is discounted as step e·T + t.

    Args:
        trial: ``[M, L, S]``, with its values.
        rewards: ``[M, L, S]``, 0 where not valid.
        discount: γ.
        gae_lambda: λ.
        horizon: T.

    Returns:
        Advantages ``[M, L, S]``, zero where not valid.
    """
    assert trial.values is not None
    step = torch.arange(rewards.shape[-1], device=rewards.device).expand_as(rewards)
    episode = trial.episode_index()
    first = torch.where(trial.episode_start, step, 0).cummax(-1).values
    clock = episode * horizon + step - first
    end = (int(episode.max()) + 1) * horizon
    clock = torch.where(trial.valid, clock, end)  # padding lies in a step of its own

    def on_clock(x: Tensor) -> Tensor:
        return x.new_zeros(*x.shape[:-1], end + 1).scatter(-1, clock, x)[..., :end]

    # In an absorbing state nothing is to be estimated: it is worth the next episode's start, which
    # lies ``wait`` steps ahead; after the last episode nothing.
    played = on_clock(trial.valid)
    time = torch.arange(end, device=rewards.device)
    following = torch.where(played, time, end).flip(-1).cummin(-1).values.flip(-1)  # played step
    values = F.pad(on_clock(trial.values), (0, 1)).gather(-1, following)
    values = values * torch.pow(discount, (following - time).to(values.dtype))
    found = generalized_advantages(
        on_clock(rewards), values, torch.ones_like(played), discount, gae_lambda
    )
    return torch.where(trial.valid, F.pad(found, (0, 1)).gather(-1, clock), 0.0)


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
