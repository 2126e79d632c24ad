"""Almost no inner loop (ANIL, Raghu, Raghu, Bengio and Vinyals 2020).

MAML whose adaptation moves the head alone: the last layer, and log σ with it. The layers below
learn in the outer loop, as features that serve all tasks,

    θ = (body, head),   head_{k+1} = head_k − α_k ∇_head L_task(body, head_k),   (section 4)

so every Jacobian is the identity but for the head's rows, I − α_k [0; ∇_head ∇_θ L].
"""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

from pydantic import BaseModel, Field

from metarl.algorithms.gradient_algorithm import because
from metarl.algorithms.surrogate_algorithm import SurrogateAlgorithm, SurrogateConfig


class ANILConfig(SurrogateConfig):
    """What can be set of ANIL."""

    name: Literal["anil"] = "anil"
    adaptation_steps: Annotated[
        int, Field(ge=1), because("without an adaptation step there is no head to adapt")
    ] = Field(1, description="inner gradient steps of the head in training")


class ANIL(SurrogateAlgorithm):
    """ANIL for policies."""

    config_class: ClassVar[type[BaseModel]] = ANILConfig

    def frozen(self) -> frozenset[str]:
        """All layers but the last."""
        last = f"layer{len(self.config.hidden_sizes)}."
        names = self.policy.parameter_names
        return frozenset(n for n in names if n.startswith("layer") and not n.startswith(last))
