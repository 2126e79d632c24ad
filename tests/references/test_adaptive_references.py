"""Agents that an environment names play the very trials of the agent that they stand beside."""

from __future__ import annotations

import io
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from rich.console import Console

from metarl.envs.discrete.bandit import Bandit
from metarl.envs.discrete.bandit_agents import Thompson
from metarl.envs.faults import SimulationFailure
from metarl.evaluation.comparison import MeasuredRun, compare
from metarl.evaluation.evaluation_seeds import evaluate_over_seeds
from metarl.evaluation.measurements import Evaluation
from metarl.evaluation.plan import EvaluationPlan
from metarl.evaluation.result import EvaluationResult, Provenance
from metarl.evaluation.summary import summarize
from metarl.references.measurement import measure_adaptive_references
from metarl.report.comparison_plots import plot_adaptation_curves
from metarl.report.comparison_report import write_comparison
from metarl.report.evaluation_plots import plot_adaptation_curve
from metarl.report.evaluation_report import write_report
from metarl.report.terminal import print_comparison, print_table

TASKS = 30
PLAN = EvaluationPlan("held_out", 4, 1, seed=3, num_seeds=2)


@pytest.fixture(scope="module")
def env() -> Bandit:
    return Bandit(TASKS * PLAN.episodes, arms=3, pulls=4)


@pytest.fixture(scope="module")
def evaluation(env: Bandit) -> Evaluation:
    """Thompson sampling as the agent that is judged."""
    tasks = env.task_distribution.held_out()[:TASKS]
    return evaluate_over_seeds(lambda seed: Thompson(3, False, seed), env, tasks, PLAN)


@pytest.fixture(scope="module")
def result(env: Bandit, evaluation: Evaluation) -> EvaluationResult:
    known = measure_adaptive_references(env, evaluation, PLAN)
    judged = summarize(
        evaluation, provenance=Provenance("mine", [1], 5), env="bandit", env_config={}
    )
    return replace(judged, adaptive_references=known)


def test_they_share_tasks_resets_and_seeds(
    result: EvaluationResult, evaluation: Evaluation
) -> None:
    known = result.adaptive_references
    assert known is not None
    assert list(known) == ["thompson", "ucb1", "bayes_optimal"]
    same = known["thompson"]
    for reference, returns in zip(same.episodes, evaluation.task_returns, strict=True):
        np.testing.assert_array_equal(reference.returns, returns)
    assert (same.difference.delta, same.difference.ci95) == (0.0, (0.0, 0.0))
    best = known["bayes_optimal"]
    total = np.sum([each.returns for each in best.episodes], axis=0)
    gap = evaluation.task_returns.sum(axis=0) - total
    assert best.difference.delta == pytest.approx(gap.mean())
    assert best.difference.delta < 0.0
    assert best.episodes[1].mean > best.episodes[0].mean, "it remembers the first episode"


def test_they_stand_beside_trials_alone(env: Bandit, evaluation: Evaluation) -> None:
    for other in (
        replace(evaluation, adaptation_axis="gradient_step"),
        replace(evaluation, forgets=True),
    ):
        assert measure_adaptive_references(env, other, PLAN) is None


class Halting(Thompson):
    """Acts for one lane alone."""

    def act(self, observation: Any, active: Any) -> Any:
        return super().act(observation, active)[:1, :1]


class Failing(Thompson):
    """Has no plan."""

    def act(self, observation: Any, active: Any) -> Any:
        return self.plan  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("agent", "sentence"),
    [
        (
            Halting,
            r"^Of Names.reference_agents \(.*, 'own': The agent's act\(\) returned actions of",
        ),
        (Failing, "^The environment failed: AttributeError: 'Failing' object has no attribute"),
        (None, r"^Names.reference_agents \(.*, line \d+\) returned None: it must be a dict"),
    ],
)
def test_an_agent_that_fails_is_told_in_a_sentence(
    evaluation: Evaluation, agent: Any, sentence: str
) -> None:
    class Names(Bandit):
        def reference_agents(self, episodes: int) -> Any:
            return agent and {"own": lambda seed: agent(3, False, seed)}

    with pytest.raises(SimulationFailure, match=sentence):
        measure_adaptive_references(Names(TASKS * PLAN.episodes, arms=3, pulls=4), evaluation, PLAN)


def test_the_file_keeps_and_checks_them(result: EvaluationResult) -> None:
    data = json.loads(result.to_json())
    assert EvaluationResult.from_json(json.dumps(data)) == result
    data["adaptive_references"]["ucb1"]["episodes"].pop()
    with pytest.raises(ValueError, match="'adaptive_references' must hold 2 × 30 finite numbers"):
        EvaluationResult.from_json(json.dumps(data))
    del data["adaptive_references"]  # a file of before
    before = EvaluationResult.from_json(json.dumps(data))
    assert before == replace(result, adaptive_references=None)
    assert "adaptive_references" not in before.to_dict()


def test_a_comparison_shows_them_too(result: EvaluationResult, tmp_path: Path) -> None:
    """Of the longest trial, and each group beside those that played its own."""
    runs = [MeasuredRun(f"seed_{s}", None, replace(result, seeds=[s])) for s in (1, 2)]
    other = replace(result, algorithm="other", adaptive_references=None)
    found = compare({"mine": runs, "other": [MeasuredRun("c", None, other)]})
    mine, none = found.groups
    known = result.adaptive_references or {}
    for name, agent in mine.adaptive_references.items():
        assert agent.episodes == known[name].episodes
        assert agent.difference.delta == pytest.approx(known[name].difference.delta)
    assert none.adaptive_references == {}
    ours, others = json.loads(found.to_json())["groups"]
    assert list(ours["adaptive_references"]) == list(known)
    assert "adaptive_references" not in others
    options: Any = {"command": "c", "training_commands": [], "versions": {}, "training": {}}
    page = " ".join(write_comparison(tmp_path, found, **options).markdown.read_text().split())
    console = Console(width=100, record=True, file=io.StringIO())
    print_comparison(found, console)
    printed = " ".join(console.export_text().split())
    draw: Any = plot_adaptation_curves
    lines = {str(line.get_label()): line for line in draw.__wrapped__(found).axes[0].lines}
    for name, agent in known.items():
        assert f"{mine.adaptive_references[name].difference.verdict} |" in page
        assert f"{name}: {agent.episodes[0].mean:.2f} [" in printed
        means = [each.mean for each in agent.episodes]
        assert lines[name.replace("_", " ")].get_ydata().tolist() == means


def test_report_terminal_and_curve_show_them(
    result: EvaluationResult, evaluation: Evaluation, tmp_path: Path
) -> None:
    write_report(tmp_path, result, evaluation, command="metarl evaluate x", versions={})
    page = " ".join((tmp_path / "report.md").read_text(encoding="utf-8").split())
    console = Console(width=100, record=True, file=io.StringIO())
    print_table(result, console)
    printed = " ".join(console.export_text().split())
    draw: Any = plot_adaptation_curve
    labels = [str(line.get_label()) for line in draw.__wrapped__(result).axes[0].lines]
    for name, reference in (result.adaptive_references or {}).items():
        assert reference.difference.verdict in page
        assert f"{name}: {reference.episodes[0].mean:.2f} [" in printed
        assert name.replace("_", " ") in labels
