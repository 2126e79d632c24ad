"""Model-agnostic meta-learning for policies (MAML-RL, Finn, Abbeel and Levine 2017).

Find parameters θ whose gradient steps on a new task's own episodes go far:

    min_θ  E_task [ L_task(θ_K) ],   θ_0 = θ,   θ_{k+1} = θ_k − α_k ∇L_task(θ_k; episodes of π_θk)

The inner losses are policy gradients; the outer loss is the adapted policies' surrogate, with the
exact second-order gradient ∇_θ = Π_k (I − α_k H_k) ∇L(θ_K), see
:mod:`metarl.adaptation.inner_loop`.
First-order MAML takes ∇L(θ_K) in its place (Finn et al. 2017, section 5.2).
"""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

from pydantic import BaseModel, Field

from metarl.algorithms.gradient_algorithm import because
from metarl.algorithms.surrogate_algorithm import SurrogateAlgorithm, SurrogateConfig


class MAMLConfig(SurrogateConfig):
    """What can be set of MAML."""

    name: Literal["maml"] = "maml"


class MAML(SurrogateAlgorithm):
    """MAML-RL."""

    config_class: ClassVar[type[BaseModel]] = MAMLConfig


class FOMAMLConfig(SurrogateConfig):
    """What can be set of first-order MAML."""

    name: Literal["fomaml"] = "fomaml"
    first_order: Annotated[Literal[True], because("with the second-order term it is maml")] = Field(
        True, description="always: drop the second-order term of the meta-gradient"
    )


class FOMAML(SurrogateAlgorithm):
    """First-order MAML-RL."""

    config_class: ClassVar[type[BaseModel]] = FOMAMLConfig
