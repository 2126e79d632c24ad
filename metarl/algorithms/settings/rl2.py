"""RL² and its PPO."""

from __future__ import annotations

from typing import Literal, Self

from pydantic import Field, model_validator

from metarl.algorithms.settings.base import Settings, Widths
from metarl.algorithms.settings.memory import LSTMSettings, MemorySettings, check_width


class TrialSettings(Settings):
    """What algorithms share that learn from whole trials by PPO, with a memory of what they saw."""

    name: str
    tasks: int = Field(128, ge=1, description="tasks of a meta-batch")
    lanes: int = Field(1, ge=1, description="trials a task")
    episodes: int = Field(2, ge=1, description="episodes of a trial")
    core: MemorySettings = Field(
        LSTMSettings.model_validate({}),
        description="kind of memory; of LSTM and GRU the LSTM is the faster one on a CPU",
    )
    width: int = Field(128, ge=1, description="of the memory's hidden states")
    observation_embedding: int = Field(0, ge=0, description="width of its embedding; 0: as it is")
    action_embedding: int = Field(0, ge=0, description="of the previous action; 0: as it is")
    reward_embedding: int = Field(0, ge=0, description="of the previous reward; 0: as it is")
    head_sizes: Widths = Field((), description="hidden layers of the actor and the critic")
    initial_std: float = Field(1.0, gt=0, description="action noise before training, of [-1, 1]")
    min_std: float = Field(1e-6, gt=0, description="floor under the action noise")
    discount: float = Field(0.99, ge=0, le=1, description="discount γ, across the trial")
    gae_lambda: float = Field(0.95, ge=0, le=1, description="λ of the advantage estimator")
    absorb_early_ends: bool = Field(
        False,
        description="discount an episode that ends early to its horizon, as in an absorbing state: "
        "else a fall brings the next episode nearer",
    )
    normalize_advantages: bool = Field(True, description="over all steps of the meta-batch")
    normalize_inputs: bool = Field(
        True, description="observations and previous rewards by their running mean and deviation"
    )
    normalize_rewards: bool = Field(
        True, description="learn from rewards over the running deviation of the discounted return"
    )
    lr: float = Field(1e-3, gt=0, description="Adam's step size")
    lr_decay_iterations: int | None = Field(
        None, ge=1, description="lr falls linearly to 0 over so many iterations; null: never"
    )
    clip: float = Field(0.2, gt=0, lt=1, description="PPO's ε")
    epochs: int = Field(2, ge=1, description="passes over the trials of an iteration")
    minibatches: int = Field(4, ge=1, description="whole trials are dealt into so many")
    entropy_weight: float = Field(0.0, ge=0, description="of the entropy bonus")
    entropy_decay_iterations: int | None = Field(
        None, ge=1, description="the bonus falls linearly to 0 over so many; null: never"
    )
    value_weight: float = Field(0.5, ge=0, description="of the critic's loss")
    value_clip: float | None = Field(None, gt=0, description="PPO's clip of the critic; null: none")
    max_gradient_norm: float = Field(0.5, gt=0, description="longer gradients are shortened to it")
    target_kl: float | None = Field(
        0.1, ge=1e-5, description="KL in nats that ends an update early; null: never"
    )

    @model_validator(mode="after")
    def _check(self) -> Self:
        check_width(self.core, self.width)
        if self.minibatches > self.tasks * self.lanes:
            raise ValueError(
                f"minibatches must be at most tasks × lanes, {self.tasks * self.lanes} trials, "
                f"not {self.minibatches}"
            )
        return self


class RL2Settings(TrialSettings):
    """RL²: adaptation in a recurrent policy's memory (Duan et al. 2016; Wang et al. 2016)."""

    name: Literal["rl2"] = "rl2"
    truncate_every: int | None = Field(
        None, ge=1, description="steps after which gradients through time end; null: the trial's"
    )
