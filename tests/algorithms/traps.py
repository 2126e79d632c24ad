"""Broken members of the gradient family, which a threshold of a toy lesson must tell apart."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch

from metarl.adaptation.inner_loop import InnerStep
from metarl.algorithms.anil import ANIL
from metarl.algorithms.cavia import CAVIA
from metarl.algorithms.reptile import Reptile
from metarl.experience.advantages import AdvantageEstimator
from metarl.maths.params import MetaParams


def everything_frozen(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(ANIL, "rates", lambda self: dict.fromkeys(self.policy.parameter_names, 0.0))


def the_context_frozen(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(CAVIA, "rates", lambda self: dict.fromkeys(self.params, 0.0))


def episodes_explained_by_what_was_drawn(patch: pytest.MonkeyPatch) -> None:
    """The baseline sees a latent's draws, as many as there are episodes."""
    samples = AdvantageEstimator.samples
    patch.setattr(
        AdvantageEstimator, "samples", lambda self, x: samples(replace(self, observed=None), x)
    )


def rates_stay(patch: pytest.MonkeyPatch) -> None:
    """MAML with that step size."""

    def none(self: InnerStep, c: Any) -> Any:
        return {n: torch.zeros_like(p) for n, p in c.items()}

    patch.setattr(InnerStep, "rates_gradient", none)


def away_from_where_adaptation_led(patch: pytest.MonkeyPatch) -> None:
    update = Reptile.update

    def mirrored(self: Reptile, batch: Any) -> dict[str, float]:
        before = self.params
        metrics = update(self, batch)
        self.meta = MetaParams({n: 2 * before[n] - p for n, p in self.params.items()})
        return metrics

    patch.setattr(Reptile, "update", mirrored)
