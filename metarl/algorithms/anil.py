"""Almost no inner loop (ANIL, Raghu, Raghu, Bengio and Vinyals 2020).

MAML whose adaptation moves the head alone: the last layer, and log σ with it. The layers below
learn in the outer loop, as features that serve all tasks,

    θ = (body, head),   head_{k+1} = head_k − α_k ∇_head L_task(body, head_k),   (section 4)

so every Jacobian is the identity but for the head's rows, I − α_k [0; ∇_head ∇_θ L].
"""

from __future__ import annotations

from metarl.adaptation.inner_loop import Rates
from metarl.algorithms.maml import MAML
from metarl.algorithms.settings.gradient import ANILSettings


class ANIL(MAML):
    """ANIL for policies."""

    config_class = ANILSettings

    def rates(self) -> Rates | None:
        """1 for the head, 0 for the layers below."""
        head = self.policy.head_names
        return {name: float(name in head) for name in self.params}
