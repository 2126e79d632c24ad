"""Amortised Bayesian meta-learning."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from metarl.algorithms.settings.base import because
from metarl.algorithms.settings.few_shot import FewShotSettings


class AmortizedBayesSettings(FewShotSettings):
    """Amortised Bayesian meta-learning, MAML of weights' distributions (Ravi and Beatson 2019)."""

    name: Literal["amortized_bayes"] = "amortized_bayes"
    outer_weights: Annotated[
        None, because("the evidence bound is one of the posterior, after all steps")
    ] = Field(None, description="always null: what comes after the last step alone counts")
    samples: int = Field(2, ge=1, description="L, draws of the weights at each step of training")
    evaluation_samples: int = Field(10, ge=1, description="the same at evaluation")
    initial_std: float = Field(
        0.01, gt=0, description="σ of every weight before training, of prior and q alike"
    )
    kl_weight: float = Field(
        0.02, gt=0, description="of KL(q ‖ prior) beside the likelihood; 1: the evidence bound"
    )
    hyperprior_weight: float = Field(
        1e-7,
        ge=0,
        description="of −log p(θ), μ₀ ~ N(0, 1) and 1/σ₀² ~ Gamma(1, 0.01), beside an example's "
        "likelihood",
    )
