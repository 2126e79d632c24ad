"""A plan's words, folder and tasks."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from metarl.cli.command_line import parse_evaluate_arguments
from metarl.config.fields import EvaluationConfig
from metarl.config.validation import validated
from metarl.envs import FiniteTasks, UniformInterval
from metarl.errors import UserError
from metarl.evaluation.plan import EvaluationPlan
from metarl.measuring.options import EvaluationOptions

PLAN = EvaluationPlan("held_out", 5, 2)


@pytest.mark.parametrize(
    "plan",
    [
        PLAN,
        replace(PLAN, split="validation", modes=("deterministic",), seed=7, num_seeds=3),
        replace(PLAN, task_file=Path("my goals.csv"), forget=True),
    ],
)
def test_the_words_of_a_plan_ask_for_it_again(plan: EvaluationPlan, tmp_path: Path) -> None:
    (tmp_path / "config.yaml").touch()
    arguments = parse_evaluate_arguments([str(tmp_path), *plan.arguments()])
    assert arguments.plan(EvaluationConfig()) == plan


def test_words_can_be_left_out() -> None:
    words = ["--split", "held_out", "--mode", "both", "--seed", "0", "--evaluation-seeds", "1"]
    assert PLAN.arguments(without=("episodes", "adaptation_steps")) == words


def test_what_is_not_asked_for_is_the_configs_own() -> None:
    options = validated(EvaluationOptions, {"adaptation_steps": 1, "mode": "stochastic"})
    own = EvaluationConfig(split="validation", episodes=3)
    plan = options.plan(own)
    assert plan == EvaluationPlan("validation", 3, 1, modes=("stochastic",))


def test_folders_tell_plans_apart() -> None:
    folders = [PLAN.folder, replace(PLAN, forget=True).folder]
    assert folders == ["held_out", "held_out_forget"]
    assert replace(PLAN, task_file=Path("a/my goals.csv")).folder == "tasks_my_goals"


def test_tasks_come_with_the_name_that_results_call_them_by(tmp_path: Path) -> None:
    distribution = UniformInterval(0.0, 3.0)
    tasks, name = PLAN.tasks(distribution), PLAN.split_name(distribution)
    assert (len(tasks), name) == (40, "held_out")
    own = tmp_path / "own.csv"
    own.write_text("velocity\n1\n2\n")
    plan = replace(PLAN, task_file=own)
    tasks, name = plan.tasks(distribution), plan.split_name(distribution)
    assert (tasks.tolist(), name) == ([[1.0], [2.0]], "tasks of own.csv")
    two = FiniteTasks([[-1.0], [1.0]], ("direction",), ("",))
    with pytest.raises(UserError, match=r"There is no split out_of_range: .*nothing out of range"):
        replace(PLAN, split="out_of_range").tasks(two)
