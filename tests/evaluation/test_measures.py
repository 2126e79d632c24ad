"""What is measured decides which way is better, and the words; returns are as they ever were."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from metarl.evaluation.calibration import calibration, pooled
from metarl.evaluation.comparison import MeasuredRun, compare
from metarl.evaluation.measurements import Evaluation, FewShot
from metarl.evaluation.measures import MEASURES, measured_by
from metarl.evaluation.result import EvaluationResult
from metarl.evaluation.seed_statistics import gain_verdict
from metarl.evaluation.statistics import normalised_scores
from metarl.report import training_plots
from metarl.report.evaluation_report import returns_table
from metarl.report.terminal import print_comparison, print_table
from metarl.report.words import step_name, verdict_words
from metarl.tracking.console import _returns, _steps
from tests.evaluation.fakes import navigation_evaluation, navigation_result

RESULTS = Path(__file__).parents[2] / "results"


def supervised(measure: str, gain: float = -1.0, **changes: Any) -> Evaluation:
    """K = 2 steps on 5 tasks of 6 query examples; the error or accuracy moves by gain a step."""
    base = navigation_evaluation(num_tasks=5)
    rng = np.random.default_rng(0)
    scores = 3.0 + gain * np.arange(3)[:, None, None] + rng.uniform(0, 0.1, (3, 5, 6))
    classes = measure == "accuracy"
    few_shot = FewShot(ways=3 if classes else 1, shots=2, transductive=classes)
    made: dict[str, Any] = {"returns": scores, "measure": measure, "few_shot": few_shot}
    made |= {"rewards": None, "paths": None, "step_sizes": [0.1, 0.1]}
    made |= {"action_mode": "deterministic", "env_steps_used": np.array([0.0, 6.0, 6.0])}
    if classes:
        likely = np.array([0.3, 0.6, 0.9])[:, None, None]
        made["returns"] = (rng.uniform(size=(3, 5, 6)) < likely) * 1.0
        made["confidence"] = rng.uniform(0.4, 1.0, (3, 5, 6))
    return replace(base, **{**made, **changes})


def result_of(evaluation: Evaluation, **changes: Any) -> EvaluationResult:
    return navigation_result(evaluation, references={}, env="sinusoid", **changes)


@pytest.mark.parametrize(("gain", "said"), [(-1.0, "helps: -"), (1.0, "hurts: +")])
def test_a_falling_error_is_a_help_and_a_growing_one_is_none(gain: float, said: str) -> None:
    result = result_of(supervised("error", gain))
    assert verdict_words(result).startswith(f"Adaptation {said}")
    grown = result_of(supervised("return", gain, few_shot=None))
    assert verdict_words(grown).startswith(f"Adaptation {'hurts' if gain < 0 else 'helps'}")


def test_nothing_clear_is_said_of_no_difference() -> None:
    same = np.ones((1, 5)) + np.linspace(-1, 1, 5)
    for measure in MEASURES.values():
        assert gain_verdict(same, same, measure).verdict.startswith("no clear effect")


def test_scores_between_floor_and_oracle_where_less_is_better() -> None:
    assert normalised_scores([4.0, 1.0], floor=4.0, oracle=0.0, falls=True) == [0.0, 0.75]
    assert normalised_scores([1.0], floor=0.0, oracle=4.0, falls=True) is None
    assert normalised_scores([1.0], floor=4.0, oracle=0.0) is None


def test_the_smaller_error_is_the_better_of_two_groups() -> None:
    runs = {
        name: [MeasuredRun(name, None, result_of(supervised("error", gain)))]
        for name, gain in (("good", -1.2), ("bad", -0.5))
    }
    pair = compare(runs).last[0]
    assert pair.difference.verdict.startswith("better: -1.4")
    assert pair.improvement.value == 1.0
    assert (pair.a_episodes_used, pair.b_episodes_used) == (2, 2)  # all steps learn from the same


def test_different_measures_are_not_compared() -> None:
    runs = {m: [MeasuredRun(m, None, result_of(supervised(m)))] for m in ("error", "accuracy")}
    with pytest.raises(ValueError, match=r"^The runs were measured by squared error and by accur"):
        compare(runs)


def test_calibration_error_of_a_case_by_hand() -> None:
    """Four at .9 of which three are right, two at .5 of which one is: (4·|.75−.9| + 0) / 6."""
    confidence = np.array([[0.9, 0.9, 0.9], [0.9, 0.5, 0.5]])
    correct = np.array([[1, 1, 1], [0, 1, 0]])
    found = calibration(confidence, correct)
    assert found.error == pytest.approx(0.1)
    assert [i for i, n in enumerate(found.counts) if n] == [7, 13]  # (7/15, 8/15], (13/15, 14/15]
    assert found.counts[13] == 4
    assert found.accuracy[13] == 0.75
    assert found.confidence[13] == pytest.approx(0.9)
    assert found.accuracy[0] is None
    halves = [calibration(confidence[i], correct[i]) for i in (0, 1)]
    together = pooled(halves)
    assert together.counts == found.counts
    assert together.accuracy == found.accuracy
    assert together.error == pytest.approx(0.1)
    sure = calibration(np.array([0.0, 1.0, 1 / 15]), np.array([0, 1, 0]))
    assert (sure.counts[0], sure.counts[14]) == (2, 1)  # a bin holds its upper end
    assert sure.error == pytest.approx((1 / 15) / 3)


def test_the_file_holds_what_was_measured_and_reads_back() -> None:
    for measure in ("error", "accuracy"):
        result = result_of(supervised(measure))
        data = json.loads(result.to_json())
        assert data["measure"] == measure
        assert data["episodes_used"] == ([0, 6, 6] if measure == "accuracy" else [0, 2, 2])
        assert len(data["calibration"] or []) == (3 if measure == "accuracy" else 0)
        assert EvaluationResult.from_json(result.to_json()) == result
    data["calibration"][0]["counts"].pop()
    with pytest.raises(ValueError, match="'calibration' must have 15 bins"):
        EvaluationResult.from_json(json.dumps(data))
    data["measure"] = "luck"
    with pytest.raises(ValueError, match="'measure' is 'luck'"):
        EvaluationResult.from_json(json.dumps(data))


def test_a_file_of_returns_has_no_word_of_measures() -> None:
    path = RESULTS / "maml_navigation/seed_1/evaluation/held_out/evaluation.json"
    text = path.read_text()
    before, now = json.loads(text), json.loads(EvaluationResult.from_json(text).to_json())
    assert all(now[key] == before[key] for key in before if key != "other_mode")
    assert not {"measure", "few_shot", "calibration"} & set(now)
    data = json.loads(navigation_result(navigation_evaluation()).to_json())
    assert not {"measure", "few_shot", "calibration"} & set(data)


def test_words_follow_the_measure(capsys: pytest.CaptureFixture[str]) -> None:
    result = result_of(supervised("accuracy"))
    print_table(result)
    print_comparison(compare({"a": [MeasuredRun("a", None, result)]}))
    said = capsys.readouterr().out + returns_table(result, result.headline)
    for words in ("mean accuracy", "support examples", "calibration", "Transductive", "examples"):
        assert words in said
    for words in ("return", "episodes", "env steps", "deterministic"):
        assert words not in said.lower()
    assert step_name("support_set", 1) == "after reading the support set"


def test_training_is_shown_by_its_own_measure() -> None:
    row = {"iteration": 1, "env_steps": 500, "accuracy/step_1": 0.9, "loss/outer_before": 1.0}
    assert _returns(row) == "accuracy/step_1 0.900"
    assert _steps(row) == "examples"
    assert _steps({"return/step_0": 1.0}) == "env steps"
    assert measured_by({"loss/a", "success/step_0", "return/step_0"}) == MEASURES["return"]
    assert training_plots.curve_of({"a": [[row]]}) == MEASURES["accuracy"]
    assert training_plots._ends(row) == {"after adaptation": 0.9}
    assert training_plots.plot_training_curves({"a": [[row, row | {"env_steps": 900}]]})
    assert training_plots.curve_of({"a": [[{"loss/a": 1.0}]]}) is None
