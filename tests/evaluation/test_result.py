"""`evaluation.json`: its keys, its numbers, the round trip, and what a broken file gets."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from metarl.envs.faults import SimulationFailure
from metarl.envs.navigation import PointNavigation
from metarl.evaluation.result import EvaluationResult
from metarl.evaluation.summary import bayes_adaptive
from tests.evaluation.fakes import (
    in_episodes,
    navigation_evaluation,
    navigation_result,
    with_bayes_optimal,
)

PROVENANCE = [
    *("format", "algorithm", "env", "env_config", "split", "seeds", "evaluation_seed"),
    *("checkpoint", "x", "episodes_per_step", "step_sizes", "episodes_used", "task_columns"),
    *("task_units", "tasks", "forgets", "evaluation_seeds", "success_means"),
]
MEASURED = [
    *("action_mode", "env_steps_used", "returns", "mean", "ci95", "se95", "iqm", "iqm_ci95"),
]
JUDGED = ["normalised", "adaptation_helps"]
LATER = [
    *("settling_step", "evaluation_seed_means", "evaluation_seed_std"),
    *("success", "success_rate", "success_ci95"),
]


def full_result() -> EvaluationResult:
    """Both modes and all references."""
    evaluation = navigation_evaluation()
    other = replace(evaluation, action_mode="deterministic", returns=evaluation.returns + 1.0)
    references = {"oracle": np.full(12, -2.0), "multitask": np.full(12, -42.0)}
    return navigation_result(evaluation, other=other, references=references)


def test_keys_are_those_of_the_contract() -> None:
    data = json.loads(full_result().to_json())
    references = ["references", "missing_references"]
    assert list(data) == [
        *PROVENANCE,
        *MEASURED,
        *LATER,
        *references,
        *JUDGED,
        "other_mode",
    ]
    assert list(data["other_mode"]) == [*MEASURED, *JUDGED, *LATER]
    assert sorted(data["references"]["oracle"]) == ["ci95", "mean", "returns"]
    assert sorted(data["adaptation_helps"]) == ["ci95", "delta", "verdict"]


def test_numbers_by_hand() -> None:
    evaluation = navigation_evaluation()
    returns = np.array([[[-10.0, -12.0], [-20.0, -22.0]], [[-1.0, -3.0], [-4.0, -6.0]]])
    evaluation = replace(
        evaluation,
        tasks=evaluation.tasks[:2],
        returns=returns,
        env_steps_used=np.array([0.0, 150.0]),
        step_sizes=[0.5],
    )
    references = {"oracle": np.array([-1.0, -1.0]), "multitask": np.array([-30.0, -32.0])}
    data = navigation_result(evaluation, references=references).to_dict()
    assert data["format"] == 1
    assert data["x"] == "gradient_step"
    assert data["episodes_per_step"] == 2
    assert data["episodes_used"] == [0, 2]
    assert data["env_steps_used"] == [0.0, 150.0]
    assert data["returns"] == [[-11.0, -21.0], [-2.0, -5.0]]
    assert data["mean"] == [-16.0, -3.5]
    assert data["ci95"] == [(-21.0, -11.0), (-5.0, -2.0)]
    assert data["se95"] == pytest.approx([1.96 * 5, 1.96 * 1.5])
    assert data["iqm"] == [-16.0, -3.5]
    assert data["normalised"] == [0.5, 27.5 / 30.0]
    assert data["adaptation_helps"] == {
        "delta": 12.5,
        "ci95": (9.0, 16.0),
        "verdict": "adaptation helps: +12.5 [9.0, 16.0]",
    }
    assert data["other_mode"] is None


def test_round_trip(tmp_path: Path) -> None:
    result = full_result()
    path = tmp_path / "evaluation.json"
    path.write_text(result.to_json(), encoding="utf-8")
    assert EvaluationResult.read(path) == result
    bare = navigation_result(navigation_evaluation(), references=None, checkpoint=None, seeds=[])
    assert EvaluationResult.from_json(bare.to_json()) == bare
    assert bare.headline.normalised is None


def test_results_of_before_the_settling_step_are_read() -> None:
    data = json.loads(full_result().to_json())
    for mode in (data, data["other_mode"]):
        del mode["settling_step"]
    del data["forgets"]
    result = EvaluationResult.from_json(json.dumps(data))
    assert result.headline.settling_step is None
    assert not result.forgets
    data["settling_step"] = [1, 2, 3.5, None]
    with pytest.raises(ValueError, match=r"'settling_step.2' is 3.5; input should be a"):
        EvaluationResult.from_json(json.dumps(data))


def test_the_bayes_adaptive_line_stands_beside_the_episodes_of_a_trial_alone() -> None:
    trial = in_episodes(navigation_evaluation())
    result = with_bayes_optimal(trial)
    expected = PointNavigation(1).bayes_optimal_returns(trial.tasks, 4)
    assert expected is not None
    assert result.bayes_optimal is not None
    np.testing.assert_array_equal([ref.returns for ref in result.bayes_optimal], expected)
    assert [ref.mean for ref in result.bayes_optimal] == expected.mean(axis=1).tolist()
    interval = result.bayes_optimal[0].ci95
    assert interval is not None
    assert interval[0] < expected[0].mean() < interval[1]
    for other in (navigation_evaluation(), replace(trial, forgets=True)):
        assert with_bayes_optimal(other).bayes_optimal is None
    assert bayes_adaptive(trial, PointNavigation(1, reward="sparse")) is None


def test_what_a_file_says_of_the_bayes_adaptive_line_is_checked() -> None:
    result = with_bayes_optimal(in_episodes(navigation_evaluation()))
    data = json.loads(result.to_json())
    assert EvaluationResult.from_json(json.dumps(data)) == result
    data["bayes_optimal"].pop()
    with pytest.raises(ValueError, match="'bayes_optimal' must hold 4 × 12 finite numbers"):
        EvaluationResult.from_json(json.dumps(data))
    del data["bayes_optimal"]  # a file of before
    assert EvaluationResult.from_json(json.dumps(data)) == replace(result, bayes_optimal=None)


def test_an_environment_that_knows_other_episodes_is_refused() -> None:
    class Short(PointNavigation):
        def bayes_optimal_returns(self, tasks: Any, episodes: int) -> Any:
            return super().bayes_optimal_returns(tasks, episodes - 1)

    said = (
        r"Short.bayes_optimal_returns \(.*test_result.py, line .*it must be an .* shape \[4, 12\]"
    )
    with pytest.raises(SimulationFailure, match=said):
        bayes_adaptive(in_episodes(navigation_evaluation()), Short(1))


def test_no_adaptation_step_has_no_verdict() -> None:
    evaluation = navigation_evaluation()
    evaluation = replace(
        evaluation,
        returns=evaluation.returns[:1],
        rewards=evaluation.rewards[:1],
        env_steps_used=np.zeros(1),
        step_sizes=[],
    )
    result = navigation_result(evaluation)
    assert result.headline.adaptation_helps is None
    assert EvaluationResult.from_json(result.to_json()) == result


def test_an_oracle_below_the_floor_gives_no_score() -> None:
    references = {"oracle": np.full(12, -50.0), "multitask": np.full(12, -40.0)}
    result = navigation_result(navigation_evaluation(), references=references)
    assert result.headline.normalised is None


def test_summarize_refuses_what_does_not_belong_together() -> None:
    evaluation = navigation_evaluation()
    with pytest.raises(ValueError, match=r"'oracle' has returns of shape \[3\]; .* 12 tasks"):
        navigation_result(evaluation, references={"oracle": np.zeros(3)})
    with pytest.raises(ValueError, match="different tasks, steps or seeds"):
        navigation_result(evaluation, other=replace(evaluation, tasks=evaluation.tasks + 1))


def test_numbers_that_json_lacks_are_not_written() -> None:
    result = navigation_result(navigation_evaluation(), env_config={"radius": float("nan")})
    with pytest.raises(ValueError, match="not JSON compliant"):
        result.to_json()


def edited(**changes: Any) -> str:
    data = json.loads(full_result().to_json())
    for key, value in changes.items():
        if value is ...:
            del data[key]
        else:
            data[key] = value
    return json.dumps(data)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("{", "r.json is not JSON"),
        ("[]", "r.json must hold a JSON object"),
        (edited(format=2), "r.json has format 2; this version of metarl reads format 1"),
        (edited(format=...), "r.json lacks 'format'"),
        (edited(mean=...), "r.json lacks the key 'mean'"),
        (edited(other_mode={"mean": []}), "lacks the key 'action_mode' in 'other_mode'"),
        (edited(mean=[1.0, 2.0]), "'mean' must hold 4 finite numbers"),
        (edited(mean=[1.0, 2.0, 3.0, "x"]), "'mean.3' is 'x'; input should be a valid number"),
        (edited(tasks=[[0.0, 1.0]] * 11 + [[0.0]]), "'tasks' must hold 12 × 2 finite numbers"),
        (edited(mean=[1.0, 2.0, 3.0, float("nan")]), "'mean' must hold 4 finite numbers"),
        (edited(returns=[[1.0]] * 4), "'returns' must hold 4 × 12 finite numbers"),
        (edited(tasks=[[0.0]] * 12), "'tasks' must hold 12 × 2 finite numbers"),
        (
            edited(ci95=[[1.0, 2.0, 3.0]] * 4),
            r"'ci95.0' is \[1.0, 2.0, 3.0\];",
        ),
        (
            edited(x="step"),
            "'x' is 'step'; input should be 'gradient_step', 'episode', 'support_set' or "
            "'env_steps'",
        ),
        (edited(env=3), "'env' is 3; input should be a valid string"),
        (edited(checkpoint=True), "'checkpoint' is True; input should be a valid integer"),
        (edited(references={"oracle": 3}), "'references.oracle' is 3; "),
        (edited(references={"oracle": {}}), "lacks the key 'returns' in 'references'"),
    ],
)
def test_broken_files_get_a_sentence(text: str, words: str) -> None:
    with pytest.raises(ValueError, match=words) as error:
        EvaluationResult.from_json(text, "r.json")
    assert "\n" not in str(error.value)


def test_a_file_that_is_no_text(tmp_path: Path) -> None:
    path = tmp_path / "evaluation.json"
    path.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(ValueError, match="not a text file"):
        EvaluationResult.read(path)
