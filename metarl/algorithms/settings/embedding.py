"""Algorithms that read a support set whole: prototypical networks, matching networks, VERSA."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from metarl.algorithms.settings.base import Settings, Widths, because
from metarl.algorithms.settings.few_shot import ConvSettings, DecayingAdamSettings, MLPSettings
from metarl.algorithms.settings.outer import by_name


class EmbeddingSettings(Settings):
    """The embedding, the tasks of a meta-iteration, and the optimiser."""

    tasks: int = Field(1, ge=1, description="tasks of a meta-batch")
    queries: int = Field(
        5, ge=1, description="query examples of a training task; of each class, where it has any"
    )
    training_ways: Annotated[int, Field(ge=2)] | None = Field(
        None, description="classes of a training task; null: as many as in the test"
    )
    network: Annotated[MLPSettings | ConvSettings, Field(discriminator="name"), by_name] = Field(
        ConvSettings.model_validate({}), description="the embedding, which all tasks share"
    )
    weight_decay: float = Field(
        0.0, ge=0, description="by lr times this share the parameters shrink at every step"
    )
    outer: Annotated[DecayingAdamSettings, by_name] = Field(
        DecayingAdamSettings.model_validate({}), description="what moves the parameters"
    )


class PrototypicalSettings(EmbeddingSettings):
    """Prototypical networks: the nearest class mean (Snell et al. 2017)."""

    name: Literal["prototypical_networks"] = "prototypical_networks"


class MatchingSettings(EmbeddingSettings):
    """Matching networks: attention over the support set (Vinyals et al. 2016)."""

    name: Literal["matching_networks"] = "matching_networks"
    training_ways: Annotated[
        None, because("matching networks are trained in tasks like those of the test")
    ] = Field(None, description="classes of a training task: always as many as in the test")


class VersaSettings(EmbeddingSettings):
    """VERSA: amortised inference of a linear layer's weights (Gordon et al. 2019)."""

    name: Literal["versa"] = "versa"
    samples: int = Field(10, ge=1, description="L, draws of a classifier's weights")
    amortisation_sizes: Annotated[Widths, Field(min_length=1)] = Field(
        (256, 256), description="hidden layers of the network that infers them"
    )
