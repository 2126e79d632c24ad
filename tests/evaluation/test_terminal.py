"""The terminal: whole numbers at any width, and names that are nothing but text."""

from __future__ import annotations

import io
import re
from dataclasses import replace
from typing import Any

import pytest
from rich.console import Console

from metarl.evaluation.comparison import MeasuredRun, compare
from metarl.report.terminal import print_comparison, print_table
from tests.evaluation.fakes import (
    in_episodes,
    navigation_evaluation,
    navigation_result,
    with_bayes_optimal,
)

INTERVAL = re.compile(r"-?\d+\.\d+ \[-?\d+\.\d+, -?\d+\.\d+\]")


def printed(width: int, algorithm: str = "maml", scale: float = 1.0) -> list[list[str]]:
    """Lines of an evaluation and of a comparison, on a console that knows emoji and markup."""
    evaluation = navigation_evaluation()
    evaluation = replace(evaluation, returns=evaluation.returns * scale)
    result = navigation_result(evaluation, algorithm=algorithm)
    runs = [MeasuredRun(f"runs/{seed}", None, replace(result, seeds=[seed])) for seed in (1, 2)]
    lines = []
    for show, what in (
        (print_table, result),
        (print_comparison, compare({algorithm: runs, "other": runs[:1]})),
    ):
        lines.append(printed_lines(show, what, width))
    return lines


def printed_lines(show: Any, what: object, width: int) -> list[str]:
    text = io.StringIO()
    show(what, Console(file=text, width=width))
    return text.getvalue().splitlines()


@pytest.mark.parametrize("width", [40, 80, 120])
@pytest.mark.parametrize("scale", [1.0, 30.0])
def test_tables_fit_and_intervals_are_whole(width: int, scale: float) -> None:
    result = navigation_result(navigation_evaluation())
    for lines in printed(width, scale=scale):
        assert max(map(len, lines)) <= width
        assert "…" not in "".join(lines)
        for line in lines:
            assert line.count("[") == line.count("]")
        rows = [line for line in lines if re.match(r" +\d +-", line)]
        assert len(rows) in (4, 8)
        for k, row in enumerate(rows):
            assert row.split()[0] == str(k % 4)
            assert INTERVAL.search(row)
            if scale == 1.0:
                assert row.split()[4] == str(result.episodes_used[k % 4])
            if width >= 80:
                assert len(INTERVAL.findall(row)) == 2  # the IQM too
        text = " ".join(lines)
        assert re.search(r"optimum: -0\.\d\d \[", text)
        assert "daptation helps: +" in text
    assert "few seeds" in text


def test_the_bayes_adaptive_line_has_a_column_and_is_called_a_lower_bound() -> None:
    result = with_bayes_optimal(in_episodes(navigation_evaluation()))
    assert result.bayes_optimal is not None
    maml = MeasuredRun("runs/maml", None, navigation_result(navigation_evaluation()))
    both = compare({"maml": [maml], "rl2": [MeasuredRun("runs/rl2", None, result)]})
    for show, what in ((print_table, result), (print_comparison, both)):
        lines = printed_lines(show, what, 100)
        assert sum("Bayes-" in line for line in lines) == 2  # a column's heading, the sentence
        rows = [line.split() for line in lines if re.match(r" +\d +-", line)][-4:]
        assert [row[4] for row in rows] == [f"{ref.mean:.2f}" for ref in result.bayes_optimal]
        assert "what the best adaptive agent earns, or a lower bound of that" in " ".join(lines)
    assert "Bayes" not in "".join(printed_lines(print_table, maml.result, 100))


@pytest.mark.parametrize("name", ["ants:Ant", ":ant:", "[red]x[/red]", "[/]", "a:smile:b"])
def test_names_are_no_markup_and_no_emoji(name: str) -> None:
    for lines in printed(80, algorithm=name):
        text = " ".join(lines)
        assert name in text
        assert text.isascii() or not re.search("[\U0001f300-\U0001ffff]", text)
