"""Recurrent off-policy learning: soft actor-critic and DQN on whole trials."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, model_validator

from metarl.algorithms.settings.base import Settings, Widths
from metarl.algorithms.settings.memory import LSTMSettings, MemorySettings, check_width


class WholeTrialSettings(Settings):
    """What both share."""

    tasks: int = Field(8, ge=1, description="tasks that an iteration plays")
    lanes: int = Field(1, ge=1, description="trials a task")
    episodes: int = Field(2, ge=1, description="episodes of a trial")
    initial_trials: int = Field(
        50, ge=1, description="of random actions before the first iteration, each with its own task"
    )
    capacity: int = Field(2000, ge=1, description="newest trials kept in memory")
    updates: int = Field(50, ge=1, description="gradient steps an iteration")
    batch_trials: int = Field(32, ge=1, description="whole trials of a gradient step")
    core: MemorySettings = Field(
        LSTMSettings.model_validate({}), description="kind of memory, of each network its own"
    )
    width: int = Field(128, ge=1, description="of each memory's hidden states")
    observation_embedding: int = Field(32, ge=0, description="width of its embedding; 0: as it is")
    action_embedding: int = Field(16, ge=0, description="of the previous action; 0: as it is")
    reward_embedding: int = Field(16, ge=0, description="of the previous reward; 0: as it is")
    head_sizes: Widths = Field((128, 128, 128), description="hidden layers behind the memories")
    discount: float = Field(0.99, ge=0, le=1, description="discount γ, across the trial")
    bootstrap: bool = Field(
        True, description="what follows a trial that a time limit ended has a value; false: 0"
    )
    lr: float = Field(3e-4, gt=0, description="Adam's step size")
    target_rate: float = Field(0.005, gt=0, le=1, description="τ, by which targets follow")
    max_gradient_norm: float | None = Field(
        None, gt=0, description="longer gradients are shortened to it; null: never"
    )
    reward_scale: float = Field(1.0, gt=0, description="factor of the rewards that are learned")
    normalize_inputs: bool = Field(
        True, description="observations and previous rewards by their running mean and deviation"
    )

    @property
    def embeddings(self) -> tuple[int, int, int]:
        """Of the observation, the action, the reward."""
        return self.observation_embedding, self.action_embedding, self.reward_embedding


class RecurrentSACSettings(WholeTrialSettings):
    """Soft actor-critic with memories of its own for actor and critics (Ni et al. 2022)."""

    name: Literal["recurrent_sac"] = "recurrent_sac"
    temperature: float | None = Field(
        None, gt=0, description="α of the entropy; null: learned, for an entropy of −dim(action)"
    )

    @model_validator(mode="after")
    def _check(self) -> RecurrentSACSettings:
        check_width(self.core, self.width)
        return self


class RecurrentDQNSettings(WholeTrialSettings):
    """Double DQN with n-step returns and a memory, on whole trials (Hausknecht and Stone 2015)."""

    name: Literal["recurrent_dqn"] = "recurrent_dqn"
    steps: int = Field(3, ge=1, description="n, rewards of a return before it is bootstrapped")
    initial_epsilon: float = Field(1.0, ge=0, le=1, description="ε, of random actions, at first")
    final_epsilon: float = Field(0.05, ge=0, le=1, description="ε in the end, and as an agent")
    epsilon_iterations: int = Field(100, ge=1, description="over so many, linearly")

    @model_validator(mode="after")
    def _check(self) -> RecurrentDQNSettings:
        check_width(self.core, self.width)
        return self
