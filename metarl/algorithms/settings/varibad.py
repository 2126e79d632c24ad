"""VariBAD: its belief, what the belief is learned from, and the PPO of its policy."""

from __future__ import annotations

from typing import Literal, Self

from pydantic import Field, model_validator

from metarl.algorithms.settings.base import Widths
from metarl.algorithms.settings.rl2 import TrialSettings
from metarl.types import RewardDecoder


class VariBADSettings(TrialSettings):
    """VariBAD: a belief about the task, learned as a variational encoder (Zintgraf et al. 2020)."""

    name: Literal["varibad"] = "varibad"
    latent: int = Field(5, ge=1, description="numbers of the latent m that the belief is about")
    policy_embeddings: tuple[int, int] = Field(
        (0, 0), description="of the observation and of the belief in the policy; 0: as it is"
    )
    head_sizes: Widths = Field((64, 64), description="hidden layers of the actor and the critic")
    decode_rewards: RewardDecoder = Field(
        "squared_error",
        description="squared_error of the reward; bernoulli: whether it is above 0; "
        "bernoulli_by_state: the same, by the state reached, which must be one-hot; none",
    )
    decode_states: bool = Field(False, description="decode the observation that a step leads to")
    decode_tasks: bool = Field(False, description="decode the task, which training then is told")
    decoder_sizes: Widths = Field((64, 32), description="hidden layers of the decoders")
    kl_weight: float = Field(1.0, ge=0, description="of the KL beside full sums; 1: the ELBO")
    model_lr: float = Field(1e-3, gt=0, description="Adam's step size for encoder and decoders")
    model_updates: int = Field(3, ge=1, description="steps of encoder and decoders an iteration")
    model_trials: int = Field(32, ge=1, description="recent trials of each such step")
    elbo_terms: int | None = Field(
        None, ge=1, description="steps of a trial whose beliefs decode it; null: all"
    )
    decoded_steps: int | None = Field(
        None, ge=1, description="steps of a trial that each belief decodes; null: all"
    )
    recent_trials: int = Field(1024, ge=1, description="kept in memory to learn beliefs from")

    @model_validator(mode="after")
    def _check_decoders(self) -> Self:
        if self.decode_rewards == "none" and not (self.decode_states or self.decode_tasks):
            raise ValueError(
                "there is nothing to decode, so that a belief would be about nothing: set "
                "decode_rewards, decode_states or decode_tasks"
            )
        if min(self.policy_embeddings) < 0:
            raise ValueError(f"policy_embeddings must be 0 or more, not {self.policy_embeddings}")
        return self
