"""The report says what the JSON says, loads nothing from elsewhere, and names what is missing."""

from __future__ import annotations

import re
from dataclasses import replace
from html import escape, unescape
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from markdown_it import MarkdownIt

from metarl.errors import EnvironmentFailure
from metarl.evaluation.measurements import Evaluation
from metarl.evaluation.result import EvaluationResult
from metarl.report.evaluation_report import write_report
from metarl.report.page import ReportFiles, code, literal
from metarl.report.words import estimate
from tests.evaluation.fakes import (
    in_episodes,
    navigation_evaluation,
    navigation_result,
    with_bayes_optimal,
)

COMMAND = "python evaluate.py --run runs/navigation --seed 7"


def write(
    folder: Path, evaluation: Evaluation, result: EvaluationResult | None = None, **changes: Any
) -> ReportFiles:
    training = [
        {"env_steps": 100 * i, "return/pre": -50.0 + i, "return/post": -40.0 + i} for i in range(9)
    ]
    return write_report(
        folder,
        result or navigation_result(evaluation, **changes),
        evaluation,
        command=COMMAND,
        versions={"metarl": "0.1.0", "numpy": "2.0 <own & build>", "wandb": None},
        training={"navigation": training},
    )


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> ReportFiles:
    evaluation = navigation_evaluation()
    other = replace(evaluation, action_mode="deterministic", returns=evaluation.returns + 1.5)
    return write(
        tmp_path_factory.mktemp("run") / "evaluation" / "held_out", evaluation, other=other
    )


def pages(files: ReportFiles) -> list[str]:
    html = files.html.read_text(encoding="utf-8")
    return [files.markdown.read_text(encoding="utf-8"), html]


def test_both_pages_hold_every_number_of_the_headline(files: ReportFiles) -> None:
    result = EvaluationResult.read(files.evaluation)
    assert result.other is not None
    assert result.headline.adaptation_helps is not None
    wanted = [result.headline.adaptation_helps.verdict.split(": ")[1]]
    for mode in (result.headline, result.other):
        wanted += [f"{value:.2f}" for value in (*mode.mean, *mode.iqm, *mode.se95)]
        wanted += [f"[{low:.2f}, {high:.2f}]" for low, high in (*mode.ci95, *mode.iqm_ci95)]
        wanted += [f"{steps:,.0f}" for steps in mode.env_steps_used]
    wanted += [f"{result.references['optimum'].mean:.2f}", "12 held-out tasks", "0.5, 0.25, 0.25"]
    wanted += ["after 3 gradient steps", "seed 7", "200 meta-iterations", COMMAND, "0.1.0"]
    for page in pages(files):
        assert [text for text in wanted if text not in page] == []
        assert "None" not in page  # what is not installed has no version


class Reader(HTMLParser):
    """Collects what a page would load, and checks that its tags close."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.links: list[str] = []
        self.tags: set[str] = set()
        self.text = ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        self.links += [value or "" for name, value in attrs if name in ("src", "href", "srcset")]
        if tag not in ("meta", "img", "link", "br", "hr"):
            self.open.append(tag)

    def handle_data(self, data: str) -> None:
        self.text += data

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


def test_html_is_whole_and_loads_nothing(files: ReportFiles) -> None:
    page = files.html.read_text(encoding="utf-8")
    reader = Reader()
    reader.feed(page)
    assert reader.open == []
    assert len(reader.links) == 5
    assert all(link.startswith("data:image/png;base64,") for link in reader.links)
    assert not reader.tags & {"script", "link", "iframe", "object"}
    assert not re.search(r"https?:|url\(|@import", page)
    assert 'name="viewport"' in page
    assert "prefers-color-scheme: dark" in page


def test_markdown_links_to_pictures_beside_it(files: ReportFiles) -> None:
    links = re.findall(r"!\[[^\]]+\]\(([^)]+)\)", files.markdown.read_text(encoding="utf-8"))
    assert len(links) == 5
    assert all((files.markdown.parent / link).is_file() for link in links)
    names = {path.name for path in files.plots}
    assert names == {*links, "adaptation_picture.png"}


def test_missing_references_are_named(files: ReportFiles, tmp_path: Path) -> None:
    for page in pages(files):
        assert "Not measured for this environment: oracle (" in page
        assert "multitask (" in page
        assert "random (" in page
        assert "there is none" in page
    references = {"oracle": -2.0, "multitask": -41.0, "random": -80.0}
    everything = {name: np.full(12, value) for name, value in references.items()}
    page, _ = pages(write(tmp_path, navigation_evaluation(), references=everything))
    assert "Not measured" not in page
    assert "normalised" in page


def test_the_verdict_is_said_at_either_sign(tmp_path: Path) -> None:
    for gain, words in ((10.0, "Adaptation helps: +"), (-10.0, "Adaptation hurts: -")):
        for page in pages(write(tmp_path, navigation_evaluation(gain=gain))):
            assert words in page
    for page in pages(write(tmp_path, navigation_evaluation(gain=0.0, num_tasks=4))):
        assert "No clear effect: " in page
        assert "With only 4 tasks they are coarse" in page


def test_training_tasks_are_called_so(tmp_path: Path) -> None:
    evaluation = replace(navigation_evaluation(), split="training tasks")
    for page in pages(write(tmp_path, evaluation)):
        assert "evaluated on 12 training tasks" in page
        assert "the very tasks trained on" in page


def test_in_context_agents_are_described_by_episodes(tmp_path: Path) -> None:
    evaluation = replace(navigation_evaluation(), adaptation_axis="episode", step_sizes=[])
    page, _ = pages(write(tmp_path, evaluation))
    assert re.search(r"\| episode 4 \| [^|]+ \| 3 \|", page)
    assert "4 consecutive episodes" in page
    assert "gradient" not in page


def test_policies_that_are_trained_anew_are_described_by_rounds(tmp_path: Path) -> None:
    evaluation = replace(navigation_evaluation(), adaptation_axis="env_steps", step_sizes=[])
    for page in pages(write(tmp_path, evaluation)):
        told = " ".join(page.split())
        assert "after 3 rounds of training" in told
        assert "A policy with random weights begins on every task. In each of 3 rounds it" in told
        assert "memory" not in told


def test_of_a_finite_distribution_policies_trained_anew_are_told_nothing(tmp_path: Path) -> None:
    """What trained the objective may have been another environment altogether."""
    evaluation = replace(navigation_evaluation(), split="training tasks", step_sizes=[])
    for page in pages(write(tmp_path, replace(evaluation, adaptation_axis="env_steps"))):
        assert "evaluated on 12 tasks with" in page
        assert "the very tasks trained on" not in page


def test_of_many_measurements_the_first_and_the_last_tell_how_fast(tmp_path: Path) -> None:
    evaluation = in_episodes(navigation_evaluation())
    many = [np.concatenate([x] * 4) for x in (evaluation.returns, evaluation.rewards)]
    longer = replace(evaluation, returns=many[0], rewards=many[1], paths=None)
    longer = replace(longer, env_steps_used=np.arange(16.0) * 20)
    for page in pages(write(tmp_path, longer)):
        how_fast = page[page.index("How fast within an episode: ") :].split("That is")[0]
        assert re.findall(r"episode (\d+) (?:from|never)", how_fast) == ["1", "16"]


def test_the_bayes_adaptive_line_is_in_the_table(tmp_path: Path) -> None:
    trial = in_episodes(navigation_evaluation())
    result = with_bayes_optimal(trial)
    assert result.bayes_optimal is not None
    for page in pages(write(tmp_path, trial, result)):
        for reference in result.bayes_optimal:
            assert estimate(reference.mean, reference.ci95) in page
        assert "what the best adaptive agent earns, or a lower bound of that" in " ".join(
            page.split()
        )


@pytest.mark.usefixtures("drawn_pictures")
def test_strange_tasks_and_names_do_not_break_it(tmp_path: Path) -> None:
    evaluation = replace(
        navigation_evaluation(),
        tasks=np.ones((12, 3)) * np.arange(12)[:, None],
        task_columns=("a", "b", "c"),
        task_units=("", "", ""),
        paths=None,
    )
    files = write(tmp_path, evaluation, algorithm="<my> & | own")
    reader = Reader()
    reader.feed(files.html.read_text(encoding="utf-8"))
    assert reader.open == []
    assert not {"my", "own"} & reader.tags
    assert {path.name for path in files.plots} == {
        "adaptation_curve.png",
        "reward_within_episode.png",
        "tasks.png",
        "training_curve.png",
    }


def test_an_evaluation_without_adaptation_is_reported(tmp_path: Path) -> None:
    whole = navigation_evaluation()
    assert whole.paths is not None
    evaluation = replace(
        whole,
        returns=whole.returns[:1],
        rewards=whole.rewards[:1],
        paths=whole.paths[:1],
        env_steps_used=np.zeros(1),
        step_sizes=[],
    )
    page, _ = pages(write(tmp_path, evaluation))
    assert "No adaptation step was measured." in page


def test_the_page_shows_before_it_tells(files: ReportFiles) -> None:
    page, html = pages(files)
    order = ["Adaptation helps", "adaptation_curve.png", "paths.png", "## Returns", "## Protocol"]
    assert sorted(order, key=page.index) == order
    assert html.index("<blockquote>") < html.index("<img") < html.index("<table>")


NASTY = [
    *("<script>alert(1)</script>", "a|b", "`code` ``", "[x](javascript:y)", "![x](y.png)"),
    *("**b**", "# head", "- item", "1. item", "> quote", "&lt;b&gt;", "_em_", "[x]: y"),
    *("\\|", "a\n\nb", "---", "$\\bad$"),
]


@pytest.mark.parametrize("name", NASTY)
def test_what_users_supply_is_text(name: str, tmp_path: Path) -> None:
    """Under any Markdown parser, however permissive, and in the HTML."""
    measured = navigation_evaluation(num_tasks=4)
    measured = replace(
        measured, split=f"tasks of {name}", task_columns=(name, "b"), task_units=("", "")
    )
    references = {name: np.zeros(4)}
    missing = {"x": f"python {name} ```"}
    files = write(
        tmp_path,
        measured,
        algorithm=name,
        env=name,
        references=references,
        missing_references=missing,
        env_config={"name": name},
    )
    page, html = pages(files)
    shown = " ".join(name.split())
    permissive = MarkdownIt("commonmark", {"html": True, "xhtmlOut": False})
    permissive.enable(["table", "strikethrough"])
    for body in (permissive.render(page), html):
        reader = Reader()
        reader.feed(body)
        assert reader.open == []
        assert not reader.tags & {"script", "a", "b", "ul", "ol", "hr", "del"}
        assert reader.text.count(shown) >= 6  # title, what was run, tasks, table, settings, command
        assert len(reader.links) == 5  # the pictures
    assert "<h1>" in html
    cells = [line for line in permissive.render(page).splitlines() if line.startswith("<td>")]
    assert f"<td>{escape(shown, quote=False)}</td>".replace('"', "&quot;") in cells


@pytest.mark.parametrize(
    "name", [*NASTY, "https://evil.org/x", "see www.evil.org", "\\<i>", "a\x1b[31mb", "half \udc80"]
)
def test_literal_text_under_programs_that_know_less_or_more(name: str) -> None:
    """Than CommonMark: no backslash before HTML, no fences; but addresses that become links."""
    said = literal(name)
    assert "<" not in said
    assert "://" not in said
    assert "www." not in said
    assert said.isprintable()
    shown = "".join(c if c.isprintable() else repr(c)[1:-1] for c in " ".join(name.split()))
    assert unescape(MarkdownIt("commonmark").render(said)) == f"<p>{shown}</p>\n"
    lines = code(f"{name}\n```").split("\n")
    assert all(line.startswith("    ") for line in lines)


def test_a_report_is_whole_or_not_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(tmp_path, navigation_evaluation())
    written = []

    def replaced(path: Path, data: bytes) -> None:
        written.append(path.name)
        if path.name == "report.md":
            raise OSError("no space")

    monkeypatch.setattr("metarl.report.page.replace_file", replaced)
    with pytest.raises(EnvironmentFailure, match="no space"):
        write(tmp_path, navigation_evaluation())
    assert not (tmp_path / "report.html").exists()
    assert written[0] == "evaluation.json"
    assert all(name.endswith(".png") for name in written[1:-1])
