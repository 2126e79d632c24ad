"""Every supervised member of the family learns to adapt, by what is its own; and what it is not."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import pytest
from gymnasium import spaces
from pydantic import ValidationError

from metarl.adaptation.inner_loop import Adaptation
from metarl.algorithms import algorithm_class
from metarl.experience.few_shot import FewShotSource
from metarl.random import Key
from tests.algorithms.traps import (
    away_from_where_adaptation_led,
    everything_frozen,
    rates_stay,
)
from tests.few_shot_toys import Slopes


class Lesson(NamedTuple):
    """Settings, and the squared error after one adaptation step that is learned.

    Nothing but adaptation tells the slope: without it the error is 0.11.
    """

    learned: float
    settings: dict[str, Any]


ADAM = {"name": "adam", "lr": 0.01}
LESSONS = {  # seeds 1 to 4 gave 0.058–0.065, 0.065–0.080, 0.065–0.067, 0.058–0.083, 0.064–0.073
    "few_shot_maml": Lesson(0.075, {"inner_lr": (0.3,), "outer": ADAM}),
    "few_shot_fomaml": Lesson(0.09, {"inner_lr": (0.3,), "outer": ADAM | {"lr": 0.003}}),
    "few_shot_anil": Lesson(0.08, {"inner_lr": (0.3,), "outer": ADAM}),
    "few_shot_meta_sgd": Lesson(0.085, {"inner_lr": (0.03,), "outer": ADAM | {"lr": 0.02}}),
    "few_shot_reptile": Lesson(
        0.085, {"inner_lr": (0.2,), "minibatch": 5, "adaptation_steps": 3, "outer": {"lr": 0.5}}
    ),
}


def error_after_a_step(name: str, seed: int = 1) -> float:
    source = FewShotSource(Slopes(5))
    cls = algorithm_class(name)
    settings = LESSONS[name].settings
    if name == "few_shot_reptile":
        settings = settings | {"outer": settings["outer"] | {"name": "sgd"}}
    config = cls.config_class(tasks=20, queries=10, network=SMALL, **settings)
    algorithm = cls(config, source.tasks.input_space, source.tasks.target_space, seed)
    for iteration in range(1, 61):
        batch = algorithm.collect(source, Key(seed, iteration))
        assert batch.env_steps == 20 * (5 + 10)
        algorithm.update(batch)
    sets = source.examples(source.sample_tasks(200, Key(99)), 20, Key(98))
    agent = algorithm.agent("deterministic", Key(0))
    agent.begin(sets.support)
    agent.adapt()
    error = agent.predict(sets.query.observations).mean - sets.query.actions
    return float(error.square().mean())


SMALL = {"name": "mlp", "hidden_sizes": (16,)}


@pytest.mark.parametrize("name", LESSONS)
def test_it_learns_to_adapt(name: str) -> None:
    assert error_after_a_step(name) < LESSONS[name].learned


def _steps_of_the_mean_over_tasks(patch: pytest.MonkeyPatch) -> None:
    size = Adaptation.step_size
    patch.setattr(Adaptation, "step_size", lambda self, k: size(self, k) / 20)


TRAPS = {
    "few_shot_maml": _steps_of_the_mean_over_tasks,
    "few_shot_fomaml": _steps_of_the_mean_over_tasks,
    "few_shot_anil": everything_frozen,
    "few_shot_meta_sgd": rates_stay,
    "few_shot_reptile": away_from_where_adaptation_led,
}


@pytest.mark.parametrize("name", TRAPS)
def test_the_threshold_tells_broken_code_apart(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    trap: Callable[[pytest.MonkeyPatch], None] = TRAPS[name]
    trap(monkeypatch)
    try:
        found = error_after_a_step(name)
    except FloatingPointError:  # so far away
        return
    assert found > 1.1 * LESSONS[name].learned


# ---- refusals

VECTOR, NUMBERS = spaces.Box(-1, 1, (3,)), spaces.Box(-np.inf, np.inf, (1,))
CONV = {"name": "conv", "filters": 4}
UNFIT = [
    (CONV, VECTOR, spaces.Discrete(5), r"takes images .* and these inputs are \(3,\); network mlp"),
    (CONV, spaces.Box(0, 1, (1, 28, 28)), NUMBERS, "conv tells classes apart, and these targets"),
    (
        CONV | {"pooling": "max"},
        spaces.Box(0, 1, (1, 28, 15)),
        spaces.Discrete(5),
        "need images of 16 × 16 pixels at least, and these are 28 × 15; network.pooling stride",
    ),
]


@pytest.mark.parametrize(("network", "inputs", "targets", "said"), UNFIT)
def test_networks_that_do_not_fit(
    network: dict[str, Any], inputs: spaces.Space, targets: spaces.Space, said: str
) -> None:
    cls = algorithm_class("few_shot_maml")
    with pytest.raises(ValueError, match=said):
        cls(cls.config_class(network=network), inputs, targets, 0)


REFUSED = [
    (
        "few_shot_maml",
        {"network": CONV | {"norm": "none", "transductive": False}},
        "with norm none",
    ),
    ("few_shot_maml", {"network": {"name": "mlp", "filters": 3}}, "filters"),
    ("few_shot_maml", {"outer_weights": (1.0, 0.0)}, "one for the query loss before and after"),
    ("few_shot_maml", {"outer": "sgd"}, "adam"),
    ("few_shot_maml", {"adaptation_steps": 0}, "greater than or equal to 1"),
    ("few_shot_fomaml", {"first_order": False}, "True"),
    ("few_shot_reptile", {"outer_weights": (0.0, 1.0)}, "outer_weights"),
    ("few_shot_reptile", {"first_order": True}, "first_order"),
    ("few_shot_anil", {"minibatch": 5}, "minibatch"),
]


@pytest.mark.parametrize(("name", "settings", "said"), REFUSED)
def test_settings_that_would_do_nothing(name: str, settings: dict[str, Any], said: str) -> None:
    with pytest.raises(ValidationError, match=said):
        algorithm_class(name).config_class(**settings)
