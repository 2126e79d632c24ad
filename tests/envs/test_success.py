"""What a step's info says of success, kept by lane and episode, up to the report."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import train
from metarl.envs import make
from metarl.envs.contract import Success, check_success
from metarl.envs.faults import BrokenContract
from metarl.evaluation.result import EvaluationResult
from tests.envs.used_envs import Crossing
from tests.programs import lines, write_config

CROSSING = "tests.envs.used_envs:Crossing"
THERE, HERE = [0.0, 0.0], [-1.0, 0.0]  # 0.2 to the right a step; nowhere


def played(env: Any, steps: list[list[list[float]]]) -> list[list[float]]:
    """The success of both lanes after each step."""
    return [env.step(np.array(actions))[4]["success"].tolist() for actions in steps]


@pytest.mark.parametrize(("when", "after"), [("any", 1.0), ("last", 0.0)])
def test_of_a_lane_and_an_episode(when: Any, after: float) -> None:
    """At any step or the last; the other lanes and the next episode know nothing of it."""
    env = make(CROSSING, 2, num_workers=1, success=Success("success", when))
    env.reset(seed=0)
    first = [[0.0, 0.0], [0.0, 0.0], [1.0, 0.0], [1.0, 0.0], [after, 0.0]]
    assert played(env, [[THERE, HERE]] * 5) == first
    env.reset(seed=0, options={"reset_mask": np.array([True, False])})
    assert played(env, [[HERE, THERE]] * 3) == [[0.0, 0.0], [0.0, 0.0], [0.0, 1.0]]
    env.close()


def test_what_an_info_may_say() -> None:
    env = Crossing()
    assert math.isnan(check_success(env, "success", {"solved": True}))
    for value in (True, 1, 1.0, np.float32(1), np.array([True])):
        assert check_success(env, "solved", {"solved": value}) == 1.0
    with pytest.raises(BrokenContract, match=r"returned the str 'yes' as info\['success'\]: it mu"):
        check_success(env, "success", {"success": "yes"})


@pytest.mark.usefixtures("without_plots")
def test_from_training_to_the_report(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Told at the last step alone: nothing is known of it before."""
    config = write_config(
        tmp_path,
        env={"name": CROSSING, "told": 4, "horizon": 4},
        iterations=1,
        validation={"enabled": True, "interval": 1, "episodes": 1, "adaptation_steps": 1},
        evaluation={"at_end": True, "episodes": 2, "adaptation_steps": 1, "success": "last"},
        rollout={"workers": 1},
    )
    run = tmp_path / "run"
    assert train.main(["--config", str(config), "--run-dir", str(run)]) == 0
    (row,) = lines(run)
    returns = [name for name in row if name.startswith("return/")]
    successes = [name.replace("return/", "success/") for name in returns]
    assert [name for name in row if name.startswith("success/")] == successes
    validation = json.loads((run / "validation.jsonl").read_text())
    assert 0.0 <= validation["success/step_1"] <= 1.0
    folder = run / "evaluation" / "held_out"
    result = EvaluationResult.read(folder / "evaluation.json")
    assert result.success_means == "info['success'] at the last step of an episode"
    rates = np.array(result.headline.success)
    assert rates.shape == (2, 40)
    np.testing.assert_allclose(rates.mean(axis=1), result.headline.success_rate)
    page = (folder / "report.md").read_text().replace("\\", "")
    assert "success [95 %]" in page
    assert "Success: share of episodes with info['success'] at the last step" in page
    assert "Success: share of episodes" in capsys.readouterr().out
