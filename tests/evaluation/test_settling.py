"""The step from which the reward stays near its final one."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from metarl.evaluation.result import EvaluationResult
from metarl.evaluation.statistics import settling_step


def curve(*values: float) -> np.ndarray:
    """A mean over two tasks."""
    mean = np.array(values)
    return np.stack([mean + 1.0, mean - 1.0])


def test_by_hand() -> None:
    # final: the last of ten steps, −1; the band is 0.1·|−11 + 1| = 1 wide, its edge within it
    rewards = curve(-11.0, -5.0, -1.5, -3.0, -2.0, -1.2, -0.5, -1.9, -1.0, -1.0)
    assert settling_step(rewards) == 5  # at 4 it is outside once more


def test_the_final_reward_is_the_mean_of_the_last_tenth() -> None:
    rewards = np.concatenate([np.zeros(10), np.full(8, 1.05), [0.92, 1.08]])
    assert settling_step(curve(*rewards)) == 11  # the final reward is 1.0


@pytest.mark.parametrize("value", [0.0, -3.0])
def test_a_reward_that_never_changes_is_settled_at_once(value: float) -> None:
    assert settling_step(curve(*[value] * 20)) == 1


def test_a_reward_that_never_settles() -> None:
    rewards = np.tile([0.0, 1.0], 20)
    assert settling_step(curve(*rewards)) is None


def test_a_fall_settles_too() -> None:
    assert settling_step(curve(5.0, 0.0, 0.0, 0.0, 0.0)) == 2


def test_an_episode_of_one_step() -> None:
    assert settling_step(curve(2.0)) == 1


def test_the_quoted_step_is_called_what_is_measured() -> None:
    root = Path(__file__).parents[2]
    measured = "no further from its final value than a tenth of the way there from its first"
    file = root / "results/rl2_half_cheetah_vel/seed_1/evaluation/held_out/evaluation.json"
    steps = EvaluationResult.read(file).headline.settling_step
    assert steps is not None
    page = (root / "docs/results/rl2.md").read_text(encoding="utf-8")
    assert f"from step {steps[0]} of its first episode on, the mean reward is {measured}" in page
    for contract in ("docs/run-folder.md", "metarl/evaluation/result.py"):
        words = " ".join((root / contract).read_text(encoding="utf-8").split())
        assert measured in words
