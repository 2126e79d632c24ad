"""Every algorithm of MAML's family learns to adapt, by what is its own."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import pytest
import torch

from metarl.algorithms.anil import ANIL
from metarl.algorithms.promp import ProMP
from metarl.algorithms.settings.gradient import ANILSettings
from metarl.experience.rollout import RolloutWorker
from metarl.random import Key
from tests.algorithms.test_maml_learning import gains, mean
from tests.algorithms.traps import (
    away_from_where_adaptation_led,
    episodes_explained_by_what_was_drawn,
    everything_frozen,
    rates_stay,
    the_context_frozen,
)
from tests.toy_envs import Line


class Lesson(NamedTuple):
    """A toy, settings, and the gain of adaptation that is learned, mean of the last iterations."""

    toy: str
    learned: float
    settings: dict[str, Any] = {}  # noqa: RUF012


LESSONS = {
    "anil": Lesson("arms", 0.5, {"inner_lr": (1.0,)}),
    "cavia": Lesson("line", 1.6, {"inner_lr": (0.3,)}),
    "e_maml": Lesson("arms", 0.4),
    "maesn": Lesson("line", 1.1, {"inner_lr": (1.0,), "latent": 4, "adapted": "latent"}),
    "meta_sgd": Lesson(  # steps too small for any arm
        "arms", 0.25, {"inner_lr": (0.002,), "tasks": 10, "episodes": 20}
    ),
    "promp": Lesson("line", 1.6, {"outer": {"name": "ppo", "lr": 0.03}}),
    "reptile": Lesson("line", 1.8, {"inner_lr": (0.1,)}),
    "maml": Lesson("line", 1.6, {"outer": {"name": "adam", "lr": 0.03}}),
}


def learned(name: str) -> float:
    lesson = LESSONS[name]
    return mean(gains(lesson.toy, 1, name, **lesson.settings)[-10:])


@pytest.mark.parametrize("name", LESSONS)
def test_it_learns_to_adapt(name: str) -> None:
    assert learned(name) > LESSONS[name].learned


def _no_step(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(ProMP, "update", lambda self, batch: {})


# E-MAML's exploring hardly matters in these toys; exact enumeration stands guard over it.
TRAPS = {
    "anil": everything_frozen,
    "cavia": the_context_frozen,
    "maesn": episodes_explained_by_what_was_drawn,
    "meta_sgd": rates_stay,
    "promp": _no_step,
    "reptile": away_from_where_adaptation_led,
}


@pytest.mark.slow  # the gradients themselves are tested by finite differences
@pytest.mark.parametrize("name", TRAPS)
def test_the_threshold_tells_broken_code_apart(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    trap: Callable[[pytest.MonkeyPatch], None] = TRAPS[name]
    trap(monkeypatch)
    assert learned(name) < 0.7 * LESSONS[name].learned


def test_anil_adapts_its_head_and_nothing_else() -> None:
    """While the layers below learn in the outer loop."""
    worker = RolloutWorker(Line)
    env = worker.env(1)
    config = ANILSettings(tasks=3, episodes=2, hidden_sizes=(4, 4))
    anil = ANIL(config, env.single_observation_space, env.single_action_space, 1)
    batch = anil.collect(worker, Key(1, 1))
    before = anil.params
    stacked = {n: p.expand(3, *p.shape) for n, p in before.items()}
    adapted = anil.adaptation.step(stacked, batch.data[0], 0).adapted
    moved = {n for n, p in adapted.items() if not torch.equal(p, stacked[n])}
    assert moved == {"layer2.weight", "layer2.bias", "log_std"}
    anil.update(batch)
    assert all(not torch.equal(p, before[n]) for n, p in anil.params.items())
