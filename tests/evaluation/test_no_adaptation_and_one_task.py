"""What is left of an evaluation without adaptation steps, and of one on a single task."""

from __future__ import annotations

import json
import warnings
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import evaluate
import metarl
import train
from metarl.cli import references
from metarl.envs import FiniteTasks
from metarl.errors import UserError
from metarl.evaluation.comparison import Comparison, MeasuredRun, compare
from metarl.evaluation.measurements import Evaluation
from metarl.evaluation.result import EvaluationResult
from metarl.measuring.publishing import _tables
from metarl.report import comparison_plots, evaluation_plots
from metarl.report.comparison_report import write_comparison
from metarl.report.evaluation_report import write_report
from metarl.report.notebook import ShownComparison, ShownEvaluation
from metarl.report.terminal import print_comparison, print_table
from metarl.report.video import write_video
from tests.evaluation.fakes import navigation_evaluation, navigation_result
from tests.evaluation.test_terminal import printed_lines
from tests.programs import write_config

HERE = "tests.evaluation.test_no_adaptation_and_one_task"


class OneGoal(FiniteTasks):
    """A distribution of one task."""

    def __init__(self, **region: Any) -> None:
        super().__init__([[0.3, 0.1]], ("goal_x", "goal_y"), ("m", "m"))


def unadapted(evaluation: Evaluation) -> Evaluation:
    names = ("returns", "rewards", "env_steps_used", "paths")
    first = {name: getattr(evaluation, name)[:1] for name in names}
    return replace(evaluation, step_sizes=[], **first)


SHAPES = {
    "one task": navigation_evaluation(num_tasks=1),
    "no adaptation": unadapted(navigation_evaluation()),
    "neither": unadapted(navigation_evaluation(num_tasks=1)),
}


def compared(evaluation: Evaluation) -> Comparison:
    """Two seeds of one algorithm, and one of another."""
    higher = replace(evaluation, returns=evaluation.returns + 3.0)
    runs = [
        MeasuredRun(f"runs/{seed}", None, navigation_result(each, seeds=[seed]))
        for seed, each in enumerate((evaluation, higher, higher))
    ]
    return compare({"maml": runs[:2], "rl2": runs[2:]})


def test_one_task_gives_means_and_no_intervals() -> None:
    evaluation = SHAPES["one task"]
    result = navigation_result(evaluation)
    head, mean = result.headline, evaluation.task_returns[:, 0]
    assert head.mean == head.iqm == mean.tolist()
    assert head.ci95 == head.se95 == head.iqm_ci95 == [None] * 4
    assert head.adaptation_helps is not None
    assert head.adaptation_helps.ci95 is None
    assert head.adaptation_helps.delta == pytest.approx(mean[3] - mean[0])
    assert head.adaptation_helps.verdict == f"no verdict from one task: +{mean[3] - mean[0]:.0f}"
    assert result.references["optimum"].ci95 is None
    assert EvaluationResult.from_json(result.to_json()) == result


def test_null_intervals_are_for_one_task_only() -> None:
    data = json.loads(navigation_result(navigation_evaluation()).to_json())
    for name, shape in (("ci95", "4 × 2"), ("se95", "4"), ("iqm_ci95", "4 × 2")):
        with pytest.raises(ValueError, match=f"'{name}' must hold {shape} finite numbers"):
            EvaluationResult.from_json(json.dumps(data | {name: [None] * 4}))


def test_a_comparison_on_one_task() -> None:
    comparison = compared(SHAPES["one task"])
    data = json.loads(comparison.to_json())
    maml, rl2 = data["groups"]
    assert maml["ci95"] == rl2["iqm_ci95"] == [None] * 4
    assert maml["intervals_over"] is rl2["intervals_over"] is None
    (pair,) = data["pairs_after_the_last_step"]
    assert pair["difference"]["ci95"] is pair["improvement"]["ci95"] is None
    assert pair["difference"]["delta"] == pytest.approx(-1.5)
    assert pair["improvement"]["value"] == 0.25  # one seed of two is as good, the other worse


@pytest.mark.usefixtures("without_plots")
@pytest.mark.parametrize("shape", SHAPES)
def test_pages_terminal_notebook_and_tables(shape: str, tmp_path: Path) -> None:
    evaluation = SHAPES[shape]
    result = navigation_result(evaluation)
    files = write_report(tmp_path, result, evaluation, command="metarl", versions={})
    shown = files.markdown.read_text(encoding="utf-8")
    lines = printed_lines(print_table, result, 80)
    for text in map(str.split, (shown, " ".join(lines))):
        words = " ".join(text)
        one = len(result.tasks) == 1
        assert ("There is one task, so there are no intervals" in words) == one
        assert ("No adaptation step was measured" in words) == (result.adaptation_steps == 0)
        assert "nan" not in words.lower().split()
    does_not = "and does not adapt." in " ".join(shown.split())
    assert does_not == (result.adaptation_steps == 0)
    assert ("[–]" in shown) == (len(result.tasks) == 1)
    ci95 = ShownEvaluation(**vars(result)).arrays()["ci95"]
    assert ci95.shape == (result.adaptation_steps + 1, 2)
    assert np.isnan(ci95).all() == (len(result.tasks) == 1)
    columns, rows = _tables(result)["summary"]
    assert {len(row) for row in rows} == {len(columns)}


@pytest.mark.usefixtures("without_plots")
@pytest.mark.parametrize("shape", SHAPES)
def test_comparisons_in_words(shape: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("metarl.report.comparison_report._pictures", lambda *args: [])
    comparison = compared(SHAPES[shape])
    written: dict[str, Any] = {"command": "metarl", "training_commands": [], "versions": {}}
    files = write_comparison(tmp_path, comparison, **written, training={})
    for text in (
        files.markdown.read_text(encoding="utf-8"),
        " ".join(printed_lines(print_comparison, comparison, 80)),
    ):
        one = len(comparison.first.tasks) == 1
        assert ("There is one task, so there are no intervals" in " ".join(text.split())) == one
    assert ShownComparison(**vars(comparison)).arrays()["maml"].shape[1] == 2


@pytest.mark.parametrize("shape", SHAPES)
def test_plots_are_drawn_without_a_warning(shape: str) -> None:
    evaluation, comparison = SHAPES[shape], compared(SHAPES[shape])
    result = navigation_result(evaluation)
    # The figures alone: as PNG, which takes most of the time, they are drawn elsewhere.
    plots: list[tuple[Any, Any]] = [
        (evaluation_plots.plot_adaptation_curve, result),
        (evaluation_plots.plot_reward_within_episode, evaluation),
        (evaluation_plots.plot_return_by_task, result),
        (evaluation_plots.plot_paths, evaluation),
        (comparison_plots.plot_adaptation_curves, comparison),
        (comparison_plots.plot_returns_by_group, comparison),
        (comparison_plots.plot_returns_by_task, comparison),
    ]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        figures = [plot.__wrapped__(what) for plot, what in plots]
    bands = [len(figure.axes[0].collections) for figure in (figures[0], figures[1], figures[4])]
    one, steps = len(evaluation.tasks) == 1, evaluation.adaptation_steps
    assert bands == ([0, 0, 0] if one else [1, 2, 2] if steps else [0, 1, 0])


def test_a_video_without_adaptation_shows_every_picture_once(tmp_path: Path) -> None:
    evaluation = SHAPES["neither"]
    gif, _ = write_video(evaluation, None, tmp_path)  # type: ignore[arg-type]
    with Image.open(gif) as picture:
        assert picture.width == 300 + 2 * 8


@pytest.mark.usefixtures("without_plots")
def test_a_run_is_trained_evaluated_and_compared_so(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    none = {"adaptation_steps": 0}
    config = write_config(
        tmp_path,
        iterations=1,
        env={"tasks": f"{HERE}:OneGoal"},
        validation=none | {"enabled": True},
        evaluation=none | {"at_end": True, "seeds": 2},
    )
    runs = [tmp_path / f"run_{seed}" for seed in (1, 2)]
    for seed, run in enumerate(runs, 1):
        words = ["--config", str(config), "--run-dir", str(run), "--seed", str(seed)]
        assert train.main(words) == 0
    at_end = EvaluationResult.read(runs[0] / "evaluation/held_out/evaluation.json")
    assert (at_end.adaptation_steps, len(at_end.tasks)) == (0, 1)
    assert at_end.evaluation_seeds == [0, 1]
    said = capsys.readouterr().out
    for number in (1, 2, 3, 4):  # two seeds in two modes
        assert f"Evaluation {number} of 4: evaluation seed {(number - 1) % 2}, " in said
    assert train.main(["--run-dir", str(runs[0]), "--resume", "--trust-code"]) == 0
    assert "is finished" in capsys.readouterr().out
    assert at_end.headline.adaptation_helps is None
    assert "from_scratch" not in at_end.missing_references
    validation = json.loads((runs[0] / "validation.jsonl").read_text())
    assert sorted(validation) == ["env_steps", "iteration", "return/step_0"]

    own = tmp_path / "own.csv"
    own.write_text("goal_x,goal_y\n0.3,0.1\n")
    words = ["--run", str(runs[0]), "--adaptation-steps", "1", "--tasks", str(own), "--trust-code"]
    assert evaluate.main([*words, "--output", str(tmp_path / "one")]) == 0
    one = EvaluationResult.read(tmp_path / "one" / "evaluation.json")
    assert (one.adaptation_steps, one.headline.ci95) == (1, [None, None])
    both = metarl.compare(runs, adaptation_steps=0, trust_code=True)
    assert both.groups[0].headline.adaptation_helps is None
    with pytest.raises(UserError, match="adaptation_steps is 0: give --adaptation-steps"):
        references.run(["--config", str(config), "--kind", "from_scratch"])
    assert "There is one task" in capsys.readouterr().out
