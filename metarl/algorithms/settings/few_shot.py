"""Supervised few-shot learning: the networks, and the family that adapts by gradient steps."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

from pydantic import Field, model_validator

from metarl.algorithms.settings.base import Settings, Widths, because
from metarl.algorithms.settings.gradient import StepSizes, check_weights, normalised_weights
from metarl.algorithms.settings.outer import AdamSettings, SGDSettings, by_name
from metarl.types import Activation, Estimator, Norm, NormalisedBy, Pooling


class MLPSettings(Settings):
    """A multilayer perceptron."""

    name: Literal["mlp"] = "mlp"
    normalised_by: ClassVar[None] = None
    hidden_sizes: Widths = Field((40, 40), description="widths of its hidden layers")
    activation: Activation = Field("relu", description="of its hidden layers")


class ConvSettings(Settings):
    """Four blocks of 3×3 convolutions (Vinyals et al. 2016)."""

    name: Literal["conv"] = "conv"
    filters: int = Field(64, ge=1, description="of each of the four blocks")
    pooling: Pooling = Field(
        "stride",
        description="what halves the image: convolutions of stride 2, whose last positions are "
        "averaged, or 2×2 max-pooling",
    )
    norm: Norm = Field("batch", description="batch normalisation of every block, or none")


class AdaptedConvSettings(ConvSettings):
    """The same, with parameters of each task's own."""

    transductive: bool = Field(
        True,
        description="normalise the query set by its own statistics, as MAML's code does, so that a "
        "prediction depends on the other queries; false: by the support set's",
    )

    @property
    def normalised_by(self) -> NormalisedBy | None:
        """Whose statistics a query set is normalised by: its own, or the support set's."""
        if self.norm == "none":
            return None
        return "query" if self.transductive else "support"

    @model_validator(mode="after")
    def _check_norm(self) -> AdaptedConvSettings:
        if self.norm == "none" and not self.transductive:
            raise ValueError(
                "transductive is false, which says whose statistics a normalisation takes, but "
                "with norm none there is no normalisation"
            )
        return self


class _Decaying(Settings):
    """An outer step size that falls linearly to 0."""

    lr: float
    lr_decay_iterations: int | None = Field(
        None, ge=1, description="lr falls linearly to 0 over so many iterations; null: never"
    )

    def lr_at(self, iteration: int) -> float:
        """The step size of a meta-iteration, counted from 1."""
        over = self.lr_decay_iterations
        return self.lr if over is None else self.lr * max(0.0, 1.0 - (iteration - 1) / over)


class DecayingAdamSettings(_Decaying, AdamSettings):
    """One step of Adam an iteration (Kingma and Ba 2015)."""

    lr: float = Field(1e-3, gt=0, description="step size")


class DecayingSGDSettings(_Decaying, SGDSettings):
    """A gradient step: θ moves by ε of the mean displacement (Nichol et al. 2018)."""

    lr: float = Field(1.0, gt=0, description="ε, the share of the displacement")


_needs_a_step = because("without an adaptation step nothing is learned from the support set")


class FewShotAdaptationSettings(Settings):
    """The network, its adaptation, and the examples of a meta-iteration."""

    inner_estimator: ClassVar[Estimator] = "log_prob"
    tasks: int = Field(25, ge=1, description="tasks of a meta-batch")
    queries: int = Field(
        10, ge=1, description="query examples of a training task; of each class, where it has any"
    )
    network: Annotated[MLPSettings | AdaptedConvSettings, Field(discriminator="name"), by_name] = (
        Field(MLPSettings.model_validate({}), description="what is adapted")
    )
    adaptation_steps: Annotated[int, Field(ge=1), _needs_a_step] = Field(
        1, description="inner gradient steps in training, on the support set"
    )
    inner_lr: StepSizes = Field(
        (0.01,), description="size of each inner step; the last repeats for later steps"
    )
    evaluation_inner_lr: StepSizes | None = Field(
        None, description="step sizes at evaluation; null: those of training"
    )


class FewShotSettings(FewShotAdaptationSettings):
    """The query loss seen through the adaptation, and the outer optimiser."""

    outer_weights: tuple[float, ...] | None = Field(
        None,
        description="weights of the query losses after 0..K steps (Antoniou et al. 2019); null: "
        "the last alone counts",
    )
    first_order: bool = Field(False, description="drop the second-order term of the meta-gradient")
    outer: Annotated[DecayingAdamSettings, by_name] = Field(
        DecayingAdamSettings.model_validate({}), description="what moves the meta-parameters"
    )

    @model_validator(mode="after")
    def _check_objective(self) -> FewShotSettings:
        check_weights(self.outer_weights, self.adaptation_steps, "query loss")
        return self

    def objective_weights(self) -> list[float]:
        """w_0, …, w_K of the objective, which sum to 1."""
        return normalised_weights(self.outer_weights, self.adaptation_steps)


class FewShotMAMLSettings(FewShotSettings):
    """MAML on supervised few-shot tasks (Finn et al. 2017)."""

    name: Literal["few_shot_maml"] = "few_shot_maml"


class FewShotFOMAMLSettings(FewShotSettings):
    """First-order MAML on supervised few-shot tasks (Finn et al. 2017)."""

    name: Literal["few_shot_fomaml"] = "few_shot_fomaml"
    first_order: Annotated[
        Literal[True], because("with the second-order term it is few_shot_maml")
    ] = Field(True, description="always: drop the second-order term of the meta-gradient")


class FewShotANILSettings(FewShotSettings):
    """ANIL on supervised few-shot tasks: the last layer adapts alone (Raghu et al. 2020)."""

    name: Literal["few_shot_anil"] = "few_shot_anil"


class FewShotMetaSGDSettings(FewShotSettings):
    """Meta-SGD on supervised few-shot tasks: step sizes are learned (Li et al. 2017).

    ``inner_lr`` is the unit of the learned step sizes.
    """

    name: Literal["few_shot_meta_sgd"] = "few_shot_meta_sgd"


class FewShotReptileSettings(FewShotAdaptationSettings):
    """Reptile on supervised few-shot tasks, in minibatches (Nichol et al. 2018)."""

    name: Literal["few_shot_reptile"] = "few_shot_reptile"
    adaptation_steps: Annotated[
        int, Field(ge=1), because("with the update's own step alone it is joint training")
    ] = Field(4, description="inner gradient steps in training; the update takes one more")
    minibatch: int = Field(
        10, ge=1, description="examples of an inner step in training, of support and query together"
    )
    outer: Annotated[
        DecayingSGDSettings | DecayingAdamSettings, Field(discriminator="name"), by_name
    ] = Field(DecayingSGDSettings.model_validate({}), description="what moves the meta-parameters")
