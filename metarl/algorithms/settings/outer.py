"""The outer optimisers: what moves the meta-parameters, each with settings of its own.

A field of several kinds is a union told apart by ``name``: ``{name: trpo, max_kl: 0.01}``, or
``trpo`` alone for its defaults. What only another kind can be set to is a constant.
"""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

from pydantic import BeforeValidator, Field

from metarl.algorithms.settings.base import Settings


class TRPOSettings(Settings):
    """Trust-region policy optimisation (Schulman et al. 2015)."""

    name: Literal["trpo"] = "trpo"
    clip: ClassVar[None] = None
    max_kl: float = Field(0.01, gt=0, description="trust region, nats")
    max_kl_decay: float = Field(
        1.0, gt=0, le=1, description="factor on max_kl from one iteration to the next"
    )
    cg_steps: int = Field(10, ge=1, description="conjugate-gradient steps")
    cg_damping: float = Field(1e-5, ge=0, description="added to the Fisher diagonal")
    curvature_every: int = Field(
        1, ge=1, description="estimate the curvature, and only it, from every n-th env step"
    )
    line_search_steps: int = Field(15, ge=1, description="line-search candidates at most")
    line_search_ratio: float = Field(0.8, gt=0, lt=1, description="shrinkage between candidates")


class PPOSettings(Settings):
    """Adam on PPO's clipped surrogate, several steps on the same data (Schulman et al. 2017)."""

    name: Literal["ppo"] = "ppo"
    curvature_every: ClassVar[int] = 1
    lr: float = Field(1e-3, gt=0, description="Adam's step size")
    clip: float = Field(0.2, gt=0, lt=1, description="ε of the ratio")
    steps: int = Field(5, ge=1, description="gradient steps an iteration")


class AdamSettings(Settings):
    """One step of Adam an iteration (Kingma and Ba 2015)."""

    name: Literal["adam"] = "adam"
    clip: ClassVar[None] = None
    curvature_every: ClassVar[int] = 1
    steps: ClassVar[int] = 1
    lr: float = Field(1e-3, gt=0, description="step size")

    def lr_at(self, iteration: int) -> float:
        """The step size of a meta-iteration, counted from 1."""
        return self.lr


class SGDSettings(Settings):
    """A gradient step: θ moves by ε of the mean displacement (Nichol et al. 2018)."""

    name: Literal["sgd"] = "sgd"
    lr: float = Field(1.0, gt=0, description="ε, the share of the displacement")

    def lr_at(self, iteration: int) -> float:
        """The step size of a meta-iteration, counted from 1."""
        return self.lr


by_name = BeforeValidator(lambda value: {"name": value} if isinstance(value, str) else value)
"""In a field's ``Annotated`` type: a bare name stands for that kind with its defaults."""
Outer = Annotated[TRPOSettings | PPOSettings | AdamSettings, Field(discriminator="name"), by_name]
"""The optimisers of algorithms that improve a surrogate."""
