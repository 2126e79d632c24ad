"""How the references are trained: PPO's settings by environment."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

from metarl.evaluation.reference_kinds import TrainedKind


@dataclass(frozen=True)
class PPOSettings:
    """PPO (Schulman et al. 2017), as stable-baselines3 has it.

    Attributes:
        learning_rate: Adam's.
        epochs: Passes over a rollout, or over a round of episodes.
        gamma: Discount.
        gae_lambda: λ of the advantages.
        clip_range: Of the probability ratio.
        log_std_init: Initial log standard deviation of the actions, which lie in [−1, 1].
        hidden_sizes: Of the policy's network and of the critic's.
        activation: "tanh" or "relu".
    """

    learning_rate: float = 5e-4
    epochs: int = 8
    gamma: float = 0.99
    gae_lambda: float = 0.95
    clip_range: float = 0.2
    log_std_init: float = -1.0
    hidden_sizes: tuple[int, ...] = (64, 64)
    activation: Literal["tanh", "relu"] = "tanh"


@dataclass(frozen=True)
class TrainingSettings(PPOSettings):
    """PPO on the whole task distribution; its learning rate falls linearly to 0 over the budget.

    Attributes:
        env_steps: Budget.
        lanes: Episodes at once; one rollout is a horizon of steps on every lane.
        minibatches: Parts of a rollout, of equal size; a divisor of ``lanes``.
        entropy: Weight of the entropy bonus.
    """

    env_steps: int = 5_000_000
    lanes: int = 64
    minibatches: int = 8
    entropy: float = 0.0


@dataclass(frozen=True)
class PerTaskSettings(PPOSettings):
    """PPO on one task's few episodes; the multitask policy brings its own networks.

    Attributes:
        batch_size: Samples of a minibatch.
    """

    learning_rate: float = 1e-3
    epochs: int = 10
    batch_size: int = 256


_HALF_CHEETAH = TrainingSettings(env_steps=10_000_000, gamma=0.97, learning_rate=7e-4)
_ANT = replace(_HALF_CHEETAH, hidden_sizes=(128, 128))
_BODY = replace(_ANT, gamma=0.99)
_BY_ENVIRONMENT: dict[str, TrainingSettings] = {
    "point_navigation": TrainingSettings(env_steps=1_500_000, gamma=0.95),
    "half_cheetah_vel": _HALF_CHEETAH,
    "half_cheetah_dir": _HALF_CHEETAH,
    "half_cheetah_params": _BODY,
    **dict.fromkeys(("ant_vel", "ant_dir", "ant_goal", "humanoid_dir"), _ANT),
    **dict.fromkeys(("walker_vel", "walker_params", "hopper_vel", "hopper_params"), _BODY),
}
_ORACLE_BY_ENVIRONMENT: dict[str, TrainingSettings] = {
    "half_cheetah_vel": replace(_HALF_CHEETAH, env_steps=20_000_000, hidden_sizes=(128, 128)),
    "half_cheetah_dir": replace(_HALF_CHEETAH, hidden_sizes=(128, 128)),
}


def training_settings(env_name: str, kind: TrainedKind) -> TrainingSettings:
    """The settings for an environment by its short name or import path; a default for others."""
    settings = _BY_ENVIRONMENT.get(env_name, TrainingSettings())
    return _ORACLE_BY_ENVIRONMENT.get(env_name, settings) if kind == "oracle" else settings


def per_task_settings(env_name: str) -> PerTaskSettings:
    """The settings for an environment: its discount is that of its other references."""
    return PerTaskSettings(gamma=training_settings(env_name, "multitask").gamma)
