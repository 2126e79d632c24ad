"""Every plot is written, wide enough, and shows what its data say."""

from __future__ import annotations

import io
import json
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from metarl.envs.adapters.indexed_tasks import IndexedTasks
from metarl.envs.discrete.tabular_mdp import TabularMDP
from metarl.envs.tasks import TaskDistribution, UniformInterval
from metarl.evaluation.comparison import MeasuredRun, compare
from metarl.evaluation.measurements import Evaluation
from metarl.evaluation.task_sets import spread_tasks
from metarl.report import comparison_plots, evaluation_plots, training_plots
from metarl.report.evaluation_report import _pictures
from metarl.report.figures import AFTER, BEFORE
from metarl.report.words import step_name
from metarl.storage.json_lines import read_json_lines
from tests.evaluation.fakes import (
    in_episodes,
    navigation_evaluation,
    navigation_result,
    with_bayes_optimal,
)

pytestmark = pytest.mark.usefixtures("drawn_pictures")


def pixels(png: bytes) -> np.ndarray:
    """[height, width, 3], after checks that hold for every plot."""
    with Image.open(io.BytesIO(png)) as image:
        assert image.format == "PNG"
        colors = np.asarray(image.convert("RGB")).astype(int)
    assert colors.shape[1] >= 1000
    assert colors.std() > 10  # not blank
    assert (colors[0, 0] == 255).all()  # on white, so that it can be read on a dark page
    return colors


def share_of(colors: np.ndarray, hexadecimal: str) -> float:
    """Share of the pixels that have just this colour."""
    color = [int(hexadecimal[i : i + 2], 16) for i in (1, 3, 5)]
    return float((colors == color).all(axis=-1).mean())


def velocities(num_tasks: int = 12) -> Evaluation:
    """The made-up measurements with one-dimensional tasks and no positions."""
    return replace(
        navigation_evaluation(num_tasks),
        tasks=np.linspace(0.1, 2.9, num_tasks)[:, None],
        task_columns=("velocity",),
        task_units=("m/s",),
        paths=None,
    )


def metrics(iterations: int, keys: tuple[str, ...], level: float = 0.0) -> list[dict[str, Any]]:
    return [
        {"iteration": i, "env_steps": 1000 * (i + 1)}
        | {key: level + j + np.log1p(i) for j, key in enumerate(keys)}
        for i in range(iterations)
    ]


def test_adaptation_curve_shows_modes_and_references() -> None:
    evaluation = navigation_evaluation()
    other = replace(evaluation, action_mode="deterministic", returns=evaluation.returns + 3)
    result = navigation_result(evaluation, other=other)
    drawn = []
    first = replace(evaluation, returns=evaluation.returns[:1], env_steps_used=np.zeros(1))
    for each in (
        result,
        replace(result, other=None),
        replace(result, references={}),
        navigation_result(first),
    ):
        colors = pixels(evaluation_plots.plot_adaptation_curve(each))
        assert share_of(colors, AFTER) > 1e-4
        drawn.append(colors)
    assert len({colors.tobytes() for colors in drawn}) == 4


def test_both_adaptation_curves_show_the_bayes_adaptive_line() -> None:
    result = with_bayes_optimal(in_episodes(navigation_evaluation()))
    bare = replace(result, bayes_optimal=None)
    assert result.bayes_optimal is not None
    means = [ref.mean for ref in result.bayes_optimal]
    curve, curves = evaluation_plots.plot_adaptation_curve, comparison_plots.plot_adaptation_curves
    for draw in (
        lambda one: curve.__wrapped__(one),  # type: ignore[attr-defined]
        lambda one: curves.__wrapped__(compare({"rl2": [MeasuredRun("a", None, one)]})),  # type: ignore[attr-defined]
    ):
        (ax,) = draw(result).axes
        (line,) = [line for line in ax.lines if "Bayes-adaptive" in str(line.get_label())]
        assert "lower bound" in str(line.get_label())
        np.testing.assert_allclose(line.get_xydata(), list(enumerate(means)))
        (ax,) = draw(bare).axes
        assert not any("Bayes" in str(line.get_label()) for line in ax.lines)


@pytest.mark.parametrize("make", [navigation_evaluation, velocities])
def test_return_by_task(make: Callable[[], Evaluation]) -> None:
    evaluation = make()
    result = navigation_result(evaluation)
    colors = pixels(evaluation_plots.plot_return_by_task(result, evaluation))
    same = np.array_equal(colors, pixels(evaluation_plots.plot_return_by_task(result)))
    assert same == (len(result.task_columns) == 2)  # a line has bars, a map has none
    if len(result.task_columns) == 1:
        assert min(share_of(colors, BEFORE), share_of(colors, AFTER)) > 1e-3


def test_return_by_task_in_three_dimensions_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    evaluation = replace(
        velocities(), tasks=np.zeros((12, 3)), task_columns=tuple("abc"), task_units=("",) * 3
    )
    assert not evaluation_plots.plot_return_by_task(navigation_result(evaluation))
    assert "tasks of 3 dimensions" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("distribution", "said"),
    [
        (TabularMDP(1).task_distribution, "mdp 103"),
        (IndexedTasks(100, 50), "index 103"),
        (UniformInterval(0.0, 200.0, "speed", "m/s"), "speed 103 m/s"),
    ],
)
def test_what_only_numbers_its_tasks_is_no_axis(distribution: TaskDistribution, said: str) -> None:
    """A histogram shows them; and nobody reads the unit."""
    columns, units = tuple(distribution.columns), tuple(distribution.units)
    evaluation = replace(velocities(), task_columns=columns, task_units=units)
    drawn = _pictures(navigation_result(evaluation), evaluation, {})
    names = {picture.name for picture in drawn}
    shown = "return_by_task" if units == ("m/s",) else "tasks"
    assert names & {"return_by_task", "tasks"} == {shown}
    assert distribution.in_words([103.0]) == said


def test_reward_within_episode() -> None:
    colors = pixels(evaluation_plots.plot_reward_within_episode(navigation_evaluation()))
    assert min(share_of(colors, BEFORE), share_of(colors, AFTER)) > 1e-3


@pytest.mark.parametrize("with_goals", [True, False])
def test_paths(with_goals: bool, capsys: pytest.CaptureFixture[str]) -> None:
    evaluation = navigation_evaluation()
    if not with_goals:
        evaluation = replace(evaluation, task_columns=("mass", "drag"))
    paths = pixels(evaluation_plots.plot_paths(evaluation))
    picture = pixels(evaluation_plots.plot_adaptation_picture(evaluation))
    assert picture.shape[1] / picture.shape[0] > 2 > paths.shape[1] / paths.shape[0]
    assert not evaluation_plots.plot_paths(velocities())
    assert "no paths to draw" in capsys.readouterr().err


def test_shown_tasks_are_spread_and_chosen_without_their_returns() -> None:
    line = np.array([[0.0], [0.1], [0.2], [5.0], [9.9], [10.0]])
    # The farthest from the middle, the farthest from it, then the one between.
    assert spread_tasks(line, 3).tolist() == [5, 0, 3]
    twins = np.array([[0.0], [0.0], [1.0], [1.0]])
    for tasks in (line, twins):
        assert sorted(spread_tasks(tasks, 99).tolist()) == list(range(len(tasks)))


@pytest.mark.parametrize(
    ("iterations", "keys"),
    [
        (3, ("return/pre", "return/post")),
        (200, ("return/pre", "return/post")),
        (50, ("return/episode_1", "return/episode_2")),
        (50, ("return/step_0", "return/step_1", "return/step_2")),
        (50, ("return/episode_1",)),
    ],
)
def test_training_curves(iterations: int, keys: tuple[str, ...]) -> None:
    seeds = [metrics(iterations, keys, level=3.0 * s) for s in range(3)]
    pixels(training_plots.plot_training_curves({"one": seeds[:1], "two": seeds[1:]}))


def test_training_curves_of_one_run_of_seeds_of_groups_and_against_time() -> None:
    seeds = [metrics(50, ("return/step_0", "return/step_1"), level=3.0 * s) for s in range(3)]
    timed = [[line | {"wall_time_s": 2.0 * line["env_steps"]} for line in lines] for lines in seeds]
    drawn = []
    for groups in (
        {"one": seeds[:1]},
        {"one": seeds},
        {"one": seeds[:1], "two": seeds[1:]},
        {"one": timed},
    ):
        drawn.append(pixels(training_plots.plot_training_curves(groups)))
    assert len({colors.tobytes() for colors in drawn}) == 4
    assert drawn[3].shape[0] > drawn[1].shape[0]  # a second pair of axes, against time


def test_returns_are_read_under_their_old_and_their_new_names() -> None:
    """A run that went on with a newer version has both; one that ends at step 10 has ten."""
    old = [
        {"env_steps": i, "return/pre": -9.0, "return/step_1": 0.0, "return/post": i} for i in (1, 2)
    ]
    new = [{"env_steps": i, "return/step_0": -9.0, "return/step_10": i} for i in (1, 2)]
    new = [line | {f"return/step_{k}": 7.0 for k in range(1, 10)} for line in new]
    draw = training_plots.plot_training_curves
    assert draw({"a": [old]}) == draw({"a": [new]}) == draw({"a": [[old[0], new[1]]]})
    trial = [{"env_steps": i, "return/episode_1": -9.0, "return/episode_10": i} for i in (1, 2)]
    assert draw({"a": [trial]}) != draw({"a": [new]})  # its legend says "episode"


def test_metrics_of_a_stranger_may_have_any_names() -> None:
    huge, alike = {f"return/step_{'9' * 5000}": 1.0}, {"return/step_1": None, "return/step_01": 1.0}
    assert not training_plots.curve_of({"a": [[huge]]})
    assert training_plots.curve_of({"a": [[alike]]})


def test_training_curves_without_returns(capsys: pytest.CaptureFixture[str]) -> None:
    for runs in ({}, {"run": []}, {"run": [[{"iteration": 0, "env_steps": 5}]]}):
        assert not training_plots.plot_training_curves(runs)
        assert "no curve to draw" in capsys.readouterr().err


def test_reading_metrics_leaves_out_a_half_written_line(tmp_path: Path) -> None:
    lines = metrics(2, ("return/pre", "return/post"))
    path = tmp_path / "metrics.jsonl"
    path.write_text("".join(json.dumps(line) + "\n" for line in lines) + '{"iteration": 2, "env')
    assert read_json_lines(path) == lines


def test_step_names() -> None:
    names = [step_name("gradient_step", k) for k in range(3)]
    assert names == ["before adaptation", "after 1 gradient step", "after 2 gradient steps"]
    assert [step_name("episode", k) for k in range(2)] == ["episode 1", "episode 2"]


def test_plotting_leaves_matplotlib_as_it_was() -> None:
    code = (
        "import sys, matplotlib\n"
        "keys = [key for key in matplotlib.rcParams if not key.startswith('backend')]\n"
        "before = {key: matplotlib.rcParams[key] for key in keys}\n"
        "from metarl.report import evaluation_plots\n"
        "from tests.evaluation.fakes import navigation_evaluation\n"
        "evaluation_plots.plot_reward_within_episode(navigation_evaluation())\n"
        "print(all(matplotlib.rcParams[key] == before[key] for key in keys))\n"
        "print('matplotlib.pyplot' in sys.modules)\n"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout.split() == ["True", "False"]
