"""What a line of metrics says of the trials that were played."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from torch import Tensor

from metarl.types import Trial


def by_episode(trial: Trial) -> dict[str, float]:
    """Means over all lanes of the first, second, … episode: return, and success where it is told.

    Their names are ``return/episode_1`` and so on.
    """
    returns = trial.episode_returns().mean((0, 1)).tolist()
    metrics = {f"return/episode_{k}": value for k, value in enumerate(returns, 1)}
    if trial.success is not None:
        shares = trial.success.mean((0, 1)).tolist()
        metrics |= {f"success/episode_{k}": share for k, share in enumerate(shares, 1)}
    return metrics


def means(steps: Sequence[Mapping[str, Tensor]]) -> dict[str, float]:
    """Of what each gradient step of an update told, the means, read from the device once."""
    return {name: float(sum(step[name] for step in steps)) / len(steps) for name in steps[0]}
