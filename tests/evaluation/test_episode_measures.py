"""What an environment says of an episode beside its return, kept up to the report."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import train
from metarl.envs.faults import SimulationFailure
from metarl.evaluation.evaluation_seeds import evaluate_over_seeds
from metarl.evaluation.plan import EvaluationPlan
from metarl.evaluation.result import EvaluationResult
from tests.programs import write_config
from tests.toy_envs import Line, MeasuredLine


class Drifter:
    """Goes right at a speed of its lane, faster after every adaptation."""

    adaptation_axis, mode, privileged, step_sizes = "episode", "deterministic", False, ()

    def begin(self, num_tasks: int, lanes: int, tasks: None = None) -> None:
        self.speed = np.tile(np.arange(lanes) / 10.0, (num_tasks, 1))

    def act(self, observation: np.ndarray, active: np.ndarray) -> np.ndarray:
        return self.speed[..., None]

    def observe(self, *args: object) -> None:
        pass

    def adapt(self) -> None:
        self.speed = self.speed + 0.1


def test_of_every_episode_by_round_and_seed() -> None:
    """Lane b of 5 steps of 0.1 × speed; side by side over seeds."""
    plan = replace(EvaluationPlan("validation", 3, 1), num_seeds=2)
    env, tasks = MeasuredLine(2 * 3), np.array([[0.3], [-0.3]])
    found = evaluate_over_seeds(lambda seed: Drifter(), env, tasks, plan)  # type: ignore[arg-type,return-value]
    expected = 0.05 * np.array([[0.0, 1.0, 2.0], [1.0, 2.0, 3.0]])
    distance = found.episode_measures["distance"]
    assert distance.shape == (2, 2, 6)
    np.testing.assert_allclose(distance, np.tile(expected[:, None], (1, 2, 2)))


@pytest.mark.usefixtures("without_plots")
def test_from_training_to_the_report(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    config = write_config(
        tmp_path,
        env={"name": "tests.toy_envs:MeasuredLine"},
        iterations=1,
        validation={"enabled": True, "interval": 1, "episodes": 1, "adaptation_steps": 1},
        evaluation={"at_end": True, "episodes": 2, "adaptation_steps": 1},
    )
    run = tmp_path / "run"
    assert train.main(["--config", str(config), "--run-dir", str(run)]) == 0
    validation = json.loads((run / "validation.jsonl").read_text())
    assert 0.0 < validation["distance/step_1"] < 0.5
    folder = run / "evaluation" / "held_out"
    text = (folder / "evaluation.json").read_text()
    result = EvaluationResult.from_json(text)
    assert result.to_json() == text
    for mode in (result.headline, result.other):
        assert mode is not None
        assert mode.episode_measures is not None
        distances = mode.episode_measures["distance"]
        assert len(distances) == 2
        assert all(0.0 < x < 0.5 for x in distances)
    page = (folder / "report.md").read_text()
    said = "Distance: from the start at the end, m, mean over episodes and tasks."
    assert said in page
    assert said in " ".join(capsys.readouterr().out.split())
    (head, *_) = [line for line in page.splitlines() if "distance" in line]
    assert "| distance |" in head

    data = json.loads(text)
    data["episode_measures"]["distance"] = [0.1]
    with pytest.raises(ValueError, match="'distance' must hold 2 finite numbers"):
        EvaluationResult.from_json(json.dumps(data))
    del data["episode_measures"], data["episode_measures_mean"]
    assert EvaluationResult.from_json(json.dumps(data)).headline.episode_measures is None


@pytest.mark.parametrize(
    ("said", "sentence"),
    [
        (
            {"distance": np.zeros(3)},
            "array of shape [3] as 'distance': it must be an array of shap",
        ),
        ({"distance": np.full(2, np.nan)}, "as 'distance': its entries must be finite numbers"),
        ({"distance": ["far", "near"]}, "a list of 2 as 'distance': its entries must be finite nu"),
        (None, "returned None: it must be a dict"),
        ({"return": np.zeros(2)}, "returned 'return': every evaluation has that"),
    ],
)
def test_what_is_no_measure_is_named(said: Any, sentence: str) -> None:
    env = MeasuredLine(2)
    env.episode_measures = lambda: said  # type: ignore[method-assign]
    where = r"^MeasuredLine.episode_measures \(.*toy_envs.py, line \d+\) .*"
    plan, tasks = EvaluationPlan("validation", 1, 0), np.array([[0.3], [-0.3]])
    with pytest.raises(SimulationFailure, match=where + re.escape(sentence)):
        evaluate_over_seeds(lambda seed: Drifter(), env, tasks, plan)  # type: ignore[arg-type,return-value]


class Boastful(Line):
    """It says of all tasks together what can be earned."""

    def optimal_returns(self, tasks: Any) -> Any:
        return np.zeros(1)


@pytest.mark.usefixtures("without_plots")
def test_a_wrong_optimum_ends_the_command_with_a_sentence(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = write_config(
        tmp_path,
        env={"name": "tests.evaluation.test_episode_measures:Boastful"},
        iterations=1,
        evaluation={"at_end": True, "episodes": 2, "adaptation_steps": 1},
    )
    assert train.main(["--config", str(config), "--run-dir", str(tmp_path / "run")]) == 1
    last = capsys.readouterr().err.splitlines()[-1]
    assert last.startswith("error: The evaluation failed. Boastful.optimal_returns (")
