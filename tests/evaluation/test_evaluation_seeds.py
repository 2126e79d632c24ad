"""Several evaluation seeds: each is what it would be alone, and what is quoted is their mean."""

from __future__ import annotations

import json
import weakref
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from metarl.envs.navigation import PointNavigation
from metarl.evaluation import evaluation_seeds
from metarl.evaluation.comparison import MeasuredRun, compare
from metarl.evaluation.evaluation_seeds import evaluate_over_seeds, joined
from metarl.evaluation.measurements import Evaluation
from metarl.evaluation.plan import EvaluationPlan
from metarl.evaluation.protocol import evaluate
from metarl.evaluation.result import EvaluationResult
from metarl.measuring.evaluating import is_evaluated
from metarl.report.evaluation_report import write_report
from metarl.report.terminal import print_table
from tests.evaluation.fakes import Surveyor, navigation_evaluation, navigation_result
from tests.evaluation.test_terminal import printed_lines

PLAN = EvaluationPlan("held_out", episodes=2, adaptation_steps=1, seed=4, num_seeds=3)
EACH = ("returns", "rewards", "paths", "env_steps_used")


def over_seeds(plan: EvaluationPlan = PLAN) -> Evaluation:
    env = PointNavigation(6 * plan.episodes, horizon=5)
    return evaluate_over_seeds(Surveyor, env, env.task_distribution.held_out()[:6], plan)


def alone(seed: int) -> Evaluation:
    env = PointNavigation(6 * PLAN.episodes, horizon=5)
    tasks = env.task_distribution.held_out()[:6]
    return evaluate(Surveyor(seed), env, tasks, replace(PLAN, seed=seed, num_seeds=1))


def three_seeds(**changes: Any) -> Evaluation:
    """Made-up measurements by evaluation seeds 7, 8 and 9."""
    drawn = (navigation_evaluation(seed=seed) for seed in (3, 4, 5))
    tasks = navigation_evaluation().tasks
    return joined(replace(e, tasks=tasks, seeds=(7 + i,), **changes) for i, e in enumerate(drawn))


def test_every_seed_is_measured_as_it_is_alone() -> None:
    joint, singles = over_seeds(), [alone(seed) for seed in (4, 5, 6)]
    assert joint.seeds == (4, 5, 6)
    assert joint.episodes == 2
    assert joint.episodes_used == singles[0].episodes_used == [0, 2]
    for i, single in enumerate(singles):
        np.testing.assert_array_equal(joint.seed_returns[:, :, i], single.task_returns)
    mean = np.mean([single.task_returns for single in singles], axis=0)
    np.testing.assert_allclose(joint.task_returns, mean, rtol=1e-14)
    rewards = np.mean([single.rewards for single in singles], axis=0)
    np.testing.assert_allclose(joint.rewards, rewards, rtol=1e-14)
    np.testing.assert_array_equal(joint.paths, singles[0].paths)  # type: ignore[arg-type]
    assert not np.array_equal(singles[0].returns, singles[1].returns)
    again = over_seeds()
    for name in EACH:
        np.testing.assert_array_equal(getattr(joint, name), getattr(again, name))


def test_one_seed_is_the_evaluation_itself() -> None:
    single, joint = alone(4), over_seeds(replace(PLAN, num_seeds=1))
    for name in EACH:
        np.testing.assert_array_equal(getattr(joint, name), getattr(single, name))
    result = navigation_result(single)
    assert result.to_json() == navigation_result(joint).to_json()
    assert result.evaluation_seeds == [4]
    assert result.headline.evaluation_seed_means == [[mean] for mean in result.headline.mean]
    assert result.headline.evaluation_seed_std is None


def test_only_the_first_seeds_paths_are_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    recorded: list[weakref.ref[np.ndarray]] = []

    def measured(agent: Any, env: Any, tasks: Any, plan: EvaluationPlan) -> Evaluation:
        paths, states = np.zeros((4, 12, 21, 2)), np.zeros((4, 12, 21, 3), dtype=np.float32)
        recorded.extend(map(weakref.ref, (paths, states)))
        made = navigation_evaluation(seed=plan.seed)
        return replace(made, seeds=(plan.seed,), paths=paths, states=states)

    def begins(seed: int) -> None:
        assert sum(ref() is not None for ref in recorded) == (0 if seed == PLAN.seed else 2)

    monkeypatch.setattr(evaluation_seeds, "evaluate", measured)
    joint = evaluate_over_seeds(Surveyor, None, np.zeros((12, 2)), PLAN, begins)  # type: ignore[arg-type]
    assert len(recorded) == 6
    assert joint.states is recorded[1]()


def test_a_result_quotes_the_mean_and_keeps_each_seeds() -> None:
    singles = [navigation_result(alone(seed)).headline for seed in (4, 5, 6)]
    head = navigation_result(over_seeds()).headline
    means = [[single.mean[k] for single in singles] for k in range(2)]
    assert head.evaluation_seed_means == means  # to the bit
    np.testing.assert_allclose(head.mean, np.mean(means, axis=1), rtol=1e-14)
    # By hand: the root of the squared distances to the mean over N − 1 = 2.
    centred = np.array(means) - np.mean(means, axis=1, keepdims=True)
    spread = np.sqrt((centred**2).sum(axis=1) / 2)
    np.testing.assert_allclose(head.evaluation_seed_std, spread, rtol=1e-12)  # type: ignore[arg-type]
    gains = np.mean([np.diff(single.returns, axis=0)[0] for single in singles], axis=0)
    assert head.adaptation_helps is not None
    assert head.adaptation_helps.delta == pytest.approx(gains.mean(), rel=1e-12)


def test_results_are_read_again_and_those_of_before_too() -> None:
    result = navigation_result(three_seeds())
    assert EvaluationResult.from_json(result.to_json()) == result
    data = json.loads(result.to_json())
    assert (data["evaluation_seed"], data["evaluation_seeds"]) == (7, [7, 8, 9])
    data["evaluation_seed_means"][0] = [1.0, 2.0]
    with pytest.raises(ValueError, match="'evaluation_seed_means' must hold 4 × 3"):
        EvaluationResult.from_json(json.dumps(data))
    before = json.loads(navigation_result(navigation_evaluation()).to_json())
    for name in ("evaluation_seeds", "evaluation_seed_means", "evaluation_seed_std"):
        del before[name]
    read = EvaluationResult.from_json(json.dumps(before))
    assert read.evaluation_seeds == [7]
    assert read.headline.evaluation_seed_means is None


@pytest.mark.usefixtures("without_plots")
def test_report_and_terminal_show_the_spread(tmp_path: Path) -> None:
    evaluation = three_seeds()
    references = {"from_scratch": np.full(12, -30.0), "oracle": np.full(12, -1.0)}
    result = navigation_result(evaluation, references=references)
    files = write_report(tmp_path, result, evaluation, command="metarl", versions={})
    page = " ".join(files.markdown.read_text(encoding="utf-8").split())
    std = result.headline.evaluation_seed_std
    assert std is not None
    said = [f"| ± {value:.2f} |" for value in std]
    said += ["a mean over 3 evaluation seeds (7 to 9)", "± over evaluation seeds |"]
    said += ["(from_scratch) was measured with evaluation seed 7 alone", "show evaluation seed 7"]
    assert [words for words in said if words not in page] == []
    lines = printed_lines(print_table, result, 100)
    rows = [line.split() for line in lines if line.strip()[:1] in "0123"]
    assert [row[4] for row in rows] == [f"{value:.2f}" for value in std]
    assert "3 evaluation seeds (7 to 9)" in " ".join(lines)


def test_a_comparison_averages_training_seeds_each_over_evaluation_seeds() -> None:
    results = [navigation_result(three_seeds(), seeds=[1]), navigation_result(three_seeds())]
    other = three_seeds()
    results[1] = navigation_result(replace(other, returns=other.returns + 4.0), seeds=[2])
    runs = [MeasuredRun(f"runs/{i}", None, result) for i, result in enumerate(results)]
    data = json.loads(compare({"maml": runs}).to_json())
    (group,) = data["groups"]
    own = np.array(results[0].headline.evaluation_seed_means)
    np.testing.assert_allclose(group["evaluation_seed_means"], own + 2.0)
    np.testing.assert_allclose(group["evaluation_seed_std"], own.std(axis=1, ddof=1))
    assert data["evaluation_seeds"] == [7, 8, 9]
    one_seed = MeasuredRun("runs/2", None, navigation_result(navigation_evaluation()))
    with pytest.raises(ValueError, match="different evaluation seeds"):
        compare({"maml": runs, "other": [one_seed]})


def test_a_run_counts_as_evaluated_by_the_very_plan_alone(tmp_path: Path) -> None:
    plan = EvaluationPlan("held_out", 5, 3, modes=("stochastic",), seed=7, num_seeds=3)
    folder = tmp_path / "evaluation" / "held_out"
    folder.mkdir(parents=True)
    result = navigation_result(three_seeds())
    (folder / "evaluation.json").write_text(result.to_json())
    assert not is_evaluated(tmp_path, plan, 200)  # the page is not there
    (folder / "report.md").touch()
    (folder / "report.html").write_text("</html>")
    assert is_evaluated(tmp_path, plan, 200)
    assert not is_evaluated(tmp_path, plan, 201)
    for change in ({"num_seeds": 10}, {"seed": 0}, {"episodes": 4}, {"adaptation_steps": 1}):
        assert not is_evaluated(tmp_path, replace(plan, **change), 200)  # type: ignore[arg-type]
    assert not is_evaluated(tmp_path, replace(plan, modes=("stochastic", "deterministic")), 200)
