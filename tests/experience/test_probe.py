"""What a look at an environment finds before training, and that training takes it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import train
from metarl.envs import make
from metarl.experience.probe import probe
from tests.programs import write_config
from tests.toy_envs import Line


class Worn(Line):
    """Each episode wears the floor a little: a reset does not restore it."""

    def _advance(self, actions: Any, live: Any) -> Any:
        reward, terminated = super()._advance(actions, live)
        return reward - 1e-9 * self._resets, terminated


class Unmoved(Line):
    """The goal is forgotten."""

    def _advance(self, actions: Any, live: Any) -> Any:
        _, terminated = super()._advance(actions, live)
        return -np.abs(self._x[:, 0]), terminated


class Late(Line):
    """The goal ends some episodes, and is not rewarded."""

    def _advance(self, actions: Any, live: Any) -> Any:
        super()._advance(actions, live)
        return np.zeros(self.num_envs), (self._steps == 4) & (self._tasks[:, 0] > 0)


@pytest.mark.parametrize("cls", [Line, Late])
def test_nothing_is_said_where_all_is_well(cls: type[Line]) -> None:
    assert probe(cls(1), cls.__name__) == []


def test_a_seed_that_does_not_repeat() -> None:
    (warning,) = probe(Worn(1), "Worn")
    assert warning.startswith("Worn gave something else when one seed and task were played a sec")


def test_a_task_that_changes_nothing() -> None:
    (warning,) = probe(Unmoved(1, horizon=60), "Unmoved")
    assert "the same observations and rewards with two tasks in 50 steps" in warning


def test_discrete_actions_on_a_worker() -> None:
    """Whose tasks show when the best of three is chosen."""
    env = make("tests.envs.user_envs:Chooser", 1, num_workers=1)
    assert probe(env, "Chooser") == []
    env.close()


def test_training_says_so(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    env = {"name": "tests.experience.test_probe:Unmoved", "horizon": 3}
    config = write_config(tmp_path, env=env, iterations=1)
    assert train.main(["--config", str(config), "--run-dir", str(tmp_path / "run")]) == 0
    said = " ".join(capsys.readouterr().out.split())
    assert "warning: tests.experience.test_probe:Unmoved gave the same observations" in said
