"""Several runs on one axis: numbers by hand, both axes, the page, the plots, the terminal."""

from __future__ import annotations

import io
import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from rich.console import Console

from metarl.evaluation.comparison import Comparison, MeasuredRun, compare
from metarl.evaluation.measurements import Evaluation
from metarl.report.comparison_plots import on_one_axis, plot_returns_by_group
from metarl.report.comparison_report import write_comparison
from metarl.report.figures import SERIES
from metarl.report.page import ReportFiles
from metarl.report.terminal import print_comparison, print_table
from metarl.report.words import estimate
from tests.evaluation.fakes import (
    in_episodes,
    navigation_evaluation,
    navigation_result,
    with_bayes_optimal,
)
from tests.evaluation.test_plots import pixels
from tests.evaluation.test_report import Reader
from tests.pictures import drawn

GOALS = navigation_evaluation().tasks
COMMAND = "python evaluate.py --run runs/a --run runs/b"


def evaluation(shift: float, seed: int, axis: str = "gradient_step") -> Evaluation:
    """Made-up measurements on the same 12 tasks, better by `shift`."""
    made = navigation_evaluation(seed=seed)
    changes: dict[str, Any] = {} if axis == "gradient_step" else {"step_sizes": []}
    mode: Any = "stochastic" if axis == "gradient_step" else "deterministic"
    return replace(
        made,
        tasks=GOALS,
        returns=made.returns + shift,
        adaptation_axis=axis,
        action_mode=mode,
        **changes,
    )


def run(
    folder: str, shift: float = 0.0, seed: int = 1, axis: str = "gradient_step", **changes: Any
) -> MeasuredRun:
    measured = evaluation(shift, seed, axis)
    mode: Any = "deterministic" if axis == "gradient_step" else "stochastic"
    other = replace(measured, action_mode=mode, returns=measured.returns + 1)
    algorithm = "maml" if axis == "gradient_step" else "rl2"
    settings = {"seeds": [seed], "algorithm": algorithm, "other": other, **changes}
    return MeasuredRun(folder, 1000 * seed, navigation_result(measured, **settings))


@pytest.fixture(scope="module")
def comparison() -> Comparison:
    return compare(
        {
            "maml": [run(f"runs/maml_{s}", seed=s) for s in (1, 2, 3)],
            "rl2": [run("runs/rl2", shift=8.0, axis="episode")],
        }
    )


@pytest.fixture(scope="module")
def files(comparison: Comparison, tmp_path_factory: pytest.TempPathFactory) -> ReportFiles:
    lines = [
        {"env_steps": 100 * i, "wall_time_s": 7.0 * i, "return/pre": -50.0 + i, "return/post": i}
        for i in range(9)
    ]
    with drawn():
        return write_comparison(
            tmp_path_factory.mktemp("comparison") / "held_out",
            comparison,
            command=COMMAND,
            training_commands=["python train.py --config <my>.yaml"],
            versions={"metarl": "0.1.0"},
            training={"maml": [lines] * 3, "rl2": []},
        )


def test_both_axes_meet_on_episodes_of_experience(comparison: Comparison) -> None:
    maml, rl2 = comparison.groups
    assert maml.episodes_used == [0, 5, 10, 15]
    assert rl2.episodes_used == [0, 1, 2, 3]
    assert (maml.headline.action_mode, rl2.headline.action_mode) == ("stochastic", "deterministic")
    assert maml.few_seeds
    assert [(p.a_episodes_used, p.b_episodes_used) for p in comparison.last] == [(15, 3)]
    assert [(p.a_episodes_used, p.b_episodes_used) for p in comparison.equal_experience] == [(0, 0)]


def test_numbers_by_hand(comparison: Comparison) -> None:
    maml, rl2 = comparison.groups
    seeds = np.stack([r.result.headline.returns for r in maml.runs])  # [S, K+1, n]
    assert maml.headline.mean == pytest.approx(seeds.mean(axis=(0, 2)))
    np.testing.assert_allclose(maml.headline.seed_means, seeds.mean(axis=2).T)
    middle = np.sort(seeds[:, -1].reshape(-1))[9:27]  # 36 returns, a quarter off either end
    assert maml.headline.iqm[-1] == pytest.approx(middle.mean())
    assert rl2.headline.ci95 == rl2.first.headline.ci95  # one seed: as its own evaluation says
    (pair,) = comparison.last
    own = np.array(rl2.first.headline.returns[-1])
    assert pair.difference.delta == pytest.approx(seeds[:, -1].mean() - own.mean())
    wins = (seeds[:, -1] > own) + 0.5 * (seeds[:, -1] == own)
    assert pair.improvement.value == pytest.approx(wins.mean())
    assert pair.difference.verdict.startswith("worse: -")


def test_normalised_scores_need_both_references() -> None:
    references = {"oracle": np.full(12, -2.0), "multitask": np.full(12, -42.0)}
    found = compare({"maml": [run("a", references=references), run("b", seed=2)]})
    (group,) = found.groups
    assert group.headline.normalised == pytest.approx([(m + 42) / 40 for m in group.headline.mean])
    assert compare({"maml": [run("a")]}).groups[0].headline.normalised is None


def test_references_that_depend_on_the_group_stand_once_a_group() -> None:
    shared, own = np.full(12, -2.0), np.full(12, -30.0)
    a = run("a", references={"oracle": shared, "from_scratch": own})
    b = run("b", axis="episode", references={"oracle": shared, "from_scratch": own - 1})
    found = compare({"maml": [a], "rl2": [b]}).references
    assert list(found) == ["oracle", "from_scratch (maml)", "from_scratch (rl2)"]
    assert [ref.mean for ref in found.values()] == [-2.0, -30.0, -31.0]


def test_the_bayes_adaptive_line_is_that_of_the_longest_trial(tmp_path: Path) -> None:
    long = with_bayes_optimal(in_episodes(evaluation(0.0, 1)))
    short = evaluation(0.0, 1)
    short = replace(short, returns=short.returns[:2], env_steps_used=short.env_steps_used[:2])
    short = replace(short, rewards=short.rewards[:2])
    found = compare(
        {
            "maml": [run("a")],
            "short": [MeasuredRun("b", None, with_bayes_optimal(in_episodes(short)))],
            "long": [MeasuredRun("c", None, long)],
        }
    )
    assert found.bayes_optimal == long.bayes_optimal
    data = json.loads(found.to_json())
    assert [ref["returns"] for ref in data["bayes_optimal"]] == [
        ref.returns for ref in found.bayes_optimal or ()
    ]
    page = write_comparison(
        tmp_path, found, command="c", training_commands=[], versions={}, training={}
    ).markdown.read_text(encoding="utf-8")
    first, *_, last = found.bayes_optimal or ()
    for reference in (first, last):
        assert page.count(f"| {estimate(reference.mean, reference.ci95)} |") >= 2
    assert "what the best adaptive agent earns, or a lower bound of that" in page
    bare = compare({"maml": [run("a")]})
    assert bare.bayes_optimal is None
    assert json.loads(bare.to_json())["bayes_optimal"] is None


def test_what_cannot_be_compared() -> None:
    moved = navigation_result(replace(evaluation(0.0, 1), tasks=GOALS + 0.1))
    with pytest.raises(ValueError, match="different tasks"):
        compare({"a": [run("a")], "b": [MeasuredRun("b", None, moved)]})
    with pytest.raises(ValueError, match="seeds of a were not measured alike"):
        compare({"a": [run("a"), run("b", axis="episode")]})


def test_json_holds_every_return_and_repeats(comparison: Comparison, files: ReportFiles) -> None:
    text = files.evaluation.read_text(encoding="utf-8")
    assert text == comparison.to_json()
    data = json.loads(text)
    assert data["format"] == 1
    assert [group["x"] for group in data["groups"]] == ["gradient_step", "episode"]
    assert data["groups"][0]["runs"][2] == {
        "run": "runs/maml_3",
        "seed": 3,
        "checkpoint": 200,
        "training_env_steps": 3000,
    }
    assert np.shape(data["groups"][0]["returns"]) == (4, 3, 12)
    assert data["groups"][0]["intervals_over"] == "seeds and tasks"
    assert data["groups"][1]["intervals_over"] == "tasks"
    assert data["groups"][1]["other_mode"]["action_mode"] == "stochastic"
    assert sorted(data["pairs_after_the_last_step"][0]["improvement"]) == ["ci95", "value"]
    again = compare({g.label: g.runs for g in comparison.groups})
    assert again.to_json() == text


def test_both_pages_say_what_the_json_says(comparison: Comparison, files: ReportFiles) -> None:
    maml, rl2 = comparison.groups
    wanted = [f"{value:.2f}" for group in (maml, rl2) for value in group.headline.mean]
    wanted += [f"[{a:.2f}, {b:.2f}]" for a, b in (*maml.headline.ci95, *rl2.headline.iqm_ci95)]
    wanted += [f"{mean:.2f}" for means in maml.headline.seed_means for mean in means]
    wanted += ["after 3 gradient steps", "episode 4", "15 and 3 episodes of experience"]
    wanted += [comparison.last[0].difference.verdict, "Few seeds (fewer than 5): maml, rl2"]
    wanted += ["One seed only (rl2)", COMMAND, "runs/maml_2", "3,000", "consecutive episodes"]
    for page in (files.markdown, files.html):
        text = page.read_text(encoding="utf-8")
        assert [words for words in wanted if words not in text] == []
    reader = Reader()
    reader.feed(files.html.read_text(encoding="utf-8"))
    assert reader.open == []
    assert len(reader.links) == 3
    assert all(link.startswith("data:image/png;base64,") for link in reader.links)
    links = re.findall(r"!\[[^\]]+\]\(([^)]+)\)", files.markdown.read_text(encoding="utf-8"))
    assert {path.name for path in files.plots} == set(links)
    for path in files.plots:
        with Image.open(path) as image:
            assert image.width >= 1000
            assert np.asarray(image.convert("RGB")).std() > 10


def test_an_in_context_agent_alone_has_no_gradient_steps(tmp_path: Path) -> None:
    """Not on its pages, nor on the terminal, nor in the keys that trackers get."""
    alone = compare({"rl2": [run("a", axis="episode"), run("b", seed=2, axis="episode")]})
    made = write_comparison(
        tmp_path, alone, command="c", training_commands=[], versions={}, training={"rl2": []}
    )
    text = io.StringIO()
    print_comparison(alone, Console(file=text, width=80))
    print_table(alone.first, Console(file=text, width=80))
    for words in (made.markdown.read_text(encoding="utf-8"), text.getvalue()):
        assert "gradient" not in words
        assert "step_" not in words
    assert alone.first.measurement_keys == ["episode_1", "episode_2", "episode_3", "episode_4"]
    assert run("a").result.measurement_keys == ["step_0", "step_1", "step_2", "step_3"]
    assert "Group against group" not in made.markdown.read_text(encoding="utf-8")


@pytest.mark.parametrize("dimensions", [1, 3])
def test_other_tasks(dimensions: int, tmp_path: Path) -> None:
    tasks = np.arange(12.0)[:, None] * np.ones(dimensions)
    columns, units = tuple("abc"[:dimensions]), ("m/s",) * dimensions
    runs = []
    for seed in (1, 2):
        made = replace(
            evaluation(0.0, seed), tasks=tasks, task_columns=columns, task_units=units, paths=None
        )
        runs.append(MeasuredRun("r", None, navigation_result(made, references={})))
    made = write_comparison(
        tmp_path,
        compare({"maml": runs}),
        command="c",
        training_commands=[],
        versions={},
        training={},
    )
    expected = {"adaptation_curves.png"} | ({"return_by_task.png"} if dimensions == 1 else set())
    assert {path.name for path in made.plots} == expected


@pytest.mark.usefixtures("drawn_pictures")
def test_groups_side_by_side(comparison: Comparison, capsys: pytest.CaptureFixture[str]) -> None:
    """Seven groups, each in a colour of its own; where one is better, it stands further right."""
    groups = {f"m{i}": [run("r", shift=4.0 * i, seed=s) for s in (1, 2)] for i in range(7)}
    colors = pixels(plot_returns_by_group(compare(groups)))
    assert len(set(SERIES)) == 7
    places = []
    for color in SERIES[:-1]:  # the last is black, as the text is
        rgb = [int(color[i : i + 2], 16) for i in (1, 3, 5)]
        rows, columns = np.nonzero((colors == rgb).all(axis=-1))
        assert len(rows) > 400
        places.append((rows.mean(), columns.mean()))
    assert np.all(np.diff(np.array(places), axis=0) > 0)  # downwards, and to the right
    assert not on_one_axis(comparison)
    assert not plot_returns_by_group(comparison)
    assert "after the same adaptation" in capsys.readouterr().err
