"""MetaGenRL: its population of agents, and the objective that they share."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from metarl.algorithms.settings.base import Settings, Widths


class MetaGenRLSettings(Settings):
    """MetaGenRL: a learned objective, from agents in several environments (Kirsch et al. 2020)."""

    name: Literal["metagenrl"] = "metagenrl"
    population: int = Field(
        4, ge=1, description="agents; each has an environment, in turn, and a task, for good"
    )
    lanes: int = Field(1, ge=1, description="episodes that each agent plays an iteration")
    updates_per_step: float = Field(
        1.0, gt=0, description="updates of an agent's critics to one of its env steps"
    )
    random_steps: int = Field(
        1000, ge=0, description="env steps of an agent before which it acts at random"
    )
    anneal_steps: int = Field(
        10_000,
        ge=0,
        description="env steps of an agent over which its policy leaves the critic's gradient for "
        "the objective's, in meta-training",
    )
    lifetime: int | None = Field(
        None,
        ge=1,
        description="env steps after which an agent's policy begins anew, so that the objective "
        "meets fresh ones again; in every second life the critic leads; null: never",
    )
    exploration_noise: float = Field(
        0.1, ge=0, description="deviation of the noise of actions, which lie in [-1, 1]"
    )
    hidden_sizes: Widths = Field((64, 64), description="of an agent's policy and of each critic")
    actor_lr: float = Field(1e-3, gt=0, description="Adam's step size of the policies")
    critic_lr: float = Field(1e-3, gt=0, description="Adam's step size of the critics")
    discount: float = Field(0.99, ge=0, le=1, description="discount γ, within an episode")
    target_rate: float = Field(0.005, gt=0, le=1, description="τ, by which targets follow")
    target_noise: float = Field(0.2, ge=0, description="deviation of the noise of target actions")
    target_noise_clip: float = Field(0.5, ge=0, description="bound of that noise")
    policy_delay: int = Field(
        2, ge=2, description="critic updates to one of policies and objective"
    )
    sequence: int = Field(20, ge=1, description="env steps of a sequence that the objective reads")
    batch: int = Field(32, ge=1, description="sequences of an update, of each agent")
    capacity: int = Field(200_000, ge=1, description="newest env steps kept of each agent")
    saturation_weight: float = Field(
        0.01,
        ge=0,
        description="of the mean square of what a policy's tanh is given, which keeps it from "
        "saturating, where no objective has a gradient",
    )
    max_gradient_norm: float = Field(
        1.0, gt=0, description="longer gradients of policies and objective are shortened to it"
    )
    objective_width: int = Field(32, ge=1, description="of the objective's LSTM")
    objective_lr: float = Field(3e-3, gt=0, description="Adam's step size of the objective")
    inner_lr: float = Field(
        1.0, gt=0, description="η, of the plain gradient step through which the objective learns"
    )
