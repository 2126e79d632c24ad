"""PEARL and its soft actor-critic."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, model_validator

from metarl.algorithms.settings.base import Settings, Widths


class PEARLSettings(Settings):
    """PEARL: off-policy, a latent sampled from a posterior over tasks (Rakelly et al. 2019)."""

    name: Literal["pearl"] = "pearl"
    training_tasks: int = Field(100, ge=1, description="drawn once; training knows no others")
    tasks: int = Field(5, ge=1, description="training tasks that an iteration plays, in turn")
    lanes: int = Field(1, ge=1, description="trials a task")
    initial_episodes: int = Field(
        10, ge=1, description="of every training task before the first update, z from the prior"
    )
    prior_episodes: int = Field(
        2, ge=1, description="of a trial, with z from N(0, I); what encoder learns from"
    )
    posterior_episodes: int = Field(
        3, ge=0, description="of a trial in training, after those, z from the posterior so far"
    )
    updates: int = Field(2000, ge=1, description="gradient steps an iteration")
    batch_tasks: int = Field(16, ge=1, description="training tasks of a gradient step")
    transitions: int = Field(256, ge=1, description="of each of them, for actor and critics")
    context: int = Field(100, ge=1, description="transitions of each of them, for the encoder")
    replay_capacity: int = Field(20_000, ge=1, description="transitions kept of each task")
    context_capacity: int = Field(
        400, ge=1, description="newest transitions of each task from which context is drawn"
    )
    latent: int = Field(5, ge=1, description="numbers of z")
    encoder_sizes: Widths = Field((200, 200, 200), description="hidden layers of the encoder")
    hidden_sizes: Widths = Field((300, 300, 300), description="of the actor and of each critic")
    lr: float = Field(3e-4, gt=0, description="Adam's step size")
    discount: float = Field(0.99, ge=0, le=1, description="discount γ, within an episode")
    target_rate: float = Field(0.005, gt=0, le=1, description="τ, by which target critics follow")
    reward_scale: float = Field(5.0, gt=0, description="factor of the rewards that critics see")
    temperature: float | None = Field(
        None, gt=0, description="α of the entropy; null: learned, for an entropy of −dim(action)"
    )
    kl_weight: float = Field(0.1, ge=0, description="of KL(q(z | context) ‖ N(0, I))")

    @model_validator(mode="after")
    def _check(self) -> PEARLSettings:
        if self.tasks > self.training_tasks:
            raise ValueError(
                f"tasks must be at most training_tasks, {self.training_tasks}, not {self.tasks}"
            )
        return self
