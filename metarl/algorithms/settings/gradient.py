"""The family that adapts by gradient steps: MAML, its variants, and Reptile."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from metarl.algorithms.settings.base import Settings, Widths, because
from metarl.algorithms.settings.outer import (
    AdamSettings,
    Outer,
    PPOSettings,
    SGDSettings,
    TRPOSettings,
    by_name,
)
from metarl.types import Activation, Estimator, NoiseDrawn

StepSizes = Annotated[
    tuple[Annotated[float, Field(gt=0, allow_inf_nan=False)], ...], Field(min_length=1)
]


def check_weights(weights: tuple[float, ...] | None, steps: int, what: str) -> None:
    """Refuse weights that are not one for what is judged before and after each of K steps."""
    if weights is not None and (len(weights) != steps + 1 or min(weights) < 0 or weights[-1] <= 0):
        raise ValueError(
            f"outer_weights must be {steps + 1} numbers >= 0, one for the {what} before and after "
            f"each step, the last > 0, not {list(weights)}"
        )


def normalised_weights(weights: tuple[float, ...] | None, steps: int) -> list[float]:
    """w_0, …, w_K, which sum to 1; None: the last alone counts."""
    weights = weights or (0.0,) * steps + (1.0,)
    return [w / sum(weights) for w in weights]


class AdaptationSettings(Settings):
    """The policy, its adaptation, and the data of a meta-iteration."""

    tasks: int = Field(40, ge=1, description="tasks of a meta-batch")
    episodes: int = Field(20, ge=1, description="episodes a task, before and after each step")
    adaptation_steps: int = Field(1, ge=0, description="inner gradient steps in training")
    inner_lr: StepSizes = Field(
        (0.1,), description="size of each inner step; the last repeats for later steps"
    )
    evaluation_inner_lr: StepSizes | None = Field(
        None, description="step sizes at evaluation; null: those of training"
    )
    inner_estimator: Estimator = Field(
        "log_prob",
        description="inner objective: log-probability, likelihood ratio (lvc), or dice; their "
        "gradients agree, their Hessians do not",
    )
    discount: float = Field(0.99, ge=0, le=1, description="discount γ")
    gae_lambda: float = Field(1.0, ge=0, le=1, description="λ of the advantage estimator")
    normalize_advantages: bool = Field(True, description="per task, over its valid steps")
    normalize_observations: bool = Field(
        True, description="by their running mean and deviation, which hold still in an iteration"
    )
    observation_std: float = Field(
        1.0,
        gt=0,
        description="deviation that they are normalised to: at small ones an adaptation step moves "
        "the biases more, and so all actions alike",
    )
    hidden_sizes: Widths = Field((64, 64), description="widths of the policy's layers")
    activation: Activation = Field("tanh", description="of the policy's hidden layers")
    initial_std: float = Field(1.0, gt=0, description="action noise before training, of [-1, 1]")
    min_std: float = Field(1e-6, gt=0, description="floor under the action noise")
    action_noise: NoiseDrawn = Field(
        "step", description="drawn anew at every step, or once an episode"
    )


class SurrogateSettings(AdaptationSettings):
    """The objective seen through the adaptation, and the outer optimiser."""

    outer_weights: tuple[float, ...] | None = Field(
        None, description="weights of the returns after 0..K steps; null: the last alone counts"
    )
    first_order: bool = Field(False, description="drop the second-order term of the meta-gradient")
    outer: Outer = Field(  # no call: mypy does not know that the fields have defaults
        TRPOSettings.model_validate({}), description="what moves the meta-parameters"
    )

    @model_validator(mode="after")
    def _check_objective(self) -> SurrogateSettings:
        check_weights(self.outer_weights, self.adaptation_steps, "return")
        every = self.outer.curvature_every
        if self.inner_estimator == "dice" and every > 1:
            raise ValueError(
                f"outer.curvature_every is {every}, but must be 1 with inner_estimator dice, which "
                "follows an episode through all of its steps"
            )
        if self.first_order and self.inner_estimator != "log_prob":
            raise ValueError(
                f"inner_estimator is {self.inner_estimator}, but must be log_prob with "
                "first_order: that drops the Hessian, in which alone the estimators differ"
            )
        return self

    def objective_weights(self) -> list[float]:
        """w_0, …, w_K of the objective, which sum to 1."""
        return normalised_weights(self.outer_weights, self.adaptation_steps)


class MAMLSettings(SurrogateSettings):
    """Model-agnostic meta-learning (Finn et al. 2017)."""

    name: Literal["maml"] = "maml"


class FOMAMLSettings(SurrogateSettings):
    """First-order MAML, whose meta-gradient has no second-order term (Finn et al. 2017)."""

    name: Literal["fomaml"] = "fomaml"
    first_order: Annotated[Literal[True], because("with the second-order term it is maml")] = Field(
        True, description="always: drop the second-order term of the meta-gradient"
    )


class ANILSettings(SurrogateSettings):
    """Almost no inner loop: MAML that adapts the policy's head alone (Raghu et al. 2020)."""

    name: Literal["anil"] = "anil"
    adaptation_steps: Annotated[
        int, Field(ge=1), because("without an adaptation step there is no head to adapt")
    ] = Field(1, description="inner gradient steps of the head in training")


class MetaSGDSettings(SurrogateSettings):
    """Meta-SGD: MAML that learns a step size for every parameter (Li et al. 2017).

    ``inner_lr`` is the unit of the learned step sizes.
    """

    name: Literal["meta_sgd"] = "meta_sgd"
    adaptation_steps: Annotated[
        int, Field(ge=1), because("without an adaptation step there is no rate to learn")
    ] = Field(1, description="inner gradient steps in training, which share the learned rates")


class MAESNSettings(SurrogateSettings):
    """Meta-RL with structured exploration strategies (MAESN, Gupta et al. 2018).

    ``inner_lr`` is the unit of the learned step sizes.
    """

    name: Literal["maesn"] = "maesn"
    adaptation_steps: Annotated[
        int, Field(ge=1), because("without an adaptation step there is no latent to adapt")
    ] = Field(1, description="inner gradient steps in training, which share the learned rates")
    latent: int = Field(2, ge=1, description="numbers of the latent, drawn once an episode")
    latent_std: float = Field(1.0, gt=0, description="deviation of the latent before training")
    adapted: Literal["all", "latent"] = Field(
        "all", description="what adapts: all parameters, or the latent's mean and deviation alone"
    )
    prior_weight: float = Field(
        0.01, ge=0, description="of the KL from the latent before adaptation to N(0, 1)"
    )


class CAVIASettings(SurrogateSettings):
    """Fast context adaptation via meta-learning (CAVIA, Zintgraf et al. 2019)."""

    name: Literal["cavia"] = "cavia"
    adaptation_steps: Annotated[
        int, Field(ge=1), because("without an adaptation step the context stays 0")
    ] = Field(1, description="inner gradient steps of the context in training")
    context: int = Field(5, ge=1, description="numbers of the context, all that adapts")


class EMAMLSettings(SurrogateSettings):
    """E-MAML: MAML that credits the exploration before adaptation (Stadie et al. 2018)."""

    name: Literal["e_maml"] = "e_maml"
    tasks: Annotated[
        int, Field(ge=2), because("the exploring in a task is judged by the return in the others")
    ] = Field(40, description="tasks of a meta-batch; each is judged by the others")
    adaptation_steps: Annotated[
        int, Field(ge=1), because("without an adaptation step there is nothing to explore for")
    ] = Field(1, description="inner gradient steps in training, before each of which it explores")
    inner_estimator: Annotated[
        Literal["log_prob"],
        because("the other Hessians count some of the exploring already, and it would count twice"),
    ] = Field("log_prob", description="inner objective")
    exploration_weight: float = Field(
        1.0, gt=0, description="of exploring, beside the return after adaptation itself"
    )


class ProMPSettings(SurrogateSettings):
    """Proximal meta-policy search (Rothfuss et al. 2019)."""

    name: Literal["promp"] = "promp"
    adaptation_steps: Annotated[
        int, Field(ge=1), because("without an adaptation step there is no KL before it to penalise")
    ] = Field(1, description="inner gradient steps in training")
    inner_estimator: Annotated[
        Literal["lvc"], because("ProMP is defined by the likelihood ratio; maml takes the others")
    ] = Field("lvc", description="inner objective: always the likelihood ratio")
    first_order: Annotated[
        Literal[False], because("ProMP's low-variance curvature is a second-order term")
    ] = Field(False, description="never: the second-order term is ProMP's own")
    outer: Annotated[
        PPOSettings,
        by_name,
        because("ProMP's objective is PPO's; trpo and adam go with maml and inner_estimator lvc"),
    ] = Field(PPOSettings.model_validate({}), description="what moves the meta-parameters")
    kl_coefficient: float = Field(
        5e-4, ge=0, description="η at the start, weight of the KL before each step; 0: none"
    )
    kl_target: float = Field(
        0.01,
        gt=0,
        description="KL of the policy before each step over an update, nats; η follows it",
    )


class ReptileSettings(AdaptationSettings):
    """Reptile: move towards where adaptation leads, first-order (Nichol et al. 2018)."""

    name: Literal["reptile"] = "reptile"
    adaptation_steps: Annotated[
        int, Field(ge=1), because("with the update's own step alone it is joint training")
    ] = Field(2, description="inner gradient steps in training; the update takes one more")
    inner_estimator: Annotated[
        Literal["log_prob"], because("Reptile takes no Hessian, in which alone the others differ")
    ] = Field("log_prob", description="inner objective: always the log-probability")
    outer: Annotated[
        SGDSettings | AdamSettings,
        by_name,
        because("Reptile goes where adaptation led, and has no surrogate to improve"),
    ] = Field(SGDSettings.model_validate({}), description="what moves the meta-parameters")
