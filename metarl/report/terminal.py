"""What an evaluation and a comparison print on the terminal: tables that fit its width."""

from __future__ import annotations

import re
import textwrap
from collections.abc import Mapping
from typing import TYPE_CHECKING

from metarl.report.words import (
    adaptation_sentences,
    estimate,
    notes,
    pair_sentence,
    success_words,
    tasks_in_words,
    verdict_meaning,
    verdict_words,
)

if TYPE_CHECKING:
    from rich.console import Console

    from metarl.evaluation.comparison import Comparison, GroupMode
    from metarl.evaluation.result import EvaluationResult, ModeResult, Reference

# Headings of the columns over two lines, those first that a narrow terminal loses first.
_SPREAD = ("± over", "eval. seeds")
_DROPPED = (
    *(("env steps", "used"), ("IQM", "[95 %]"), ("normal-", "ised"), ("episodes", "used")),
    _SPREAD,
)


def print_table(result: EvaluationResult, console: Console | None = None) -> None:
    """Print the returns, references and verdict on the terminal."""
    page = _Page(console)
    title = f"{result.algorithm} on {result.env}: {tasks_in_words(result)}"
    page.print(f"{title}, {result.headline.action_mode}")
    page.print_returns(result, result.headline)
    page.print_notes(result)
    page.print_references(result.references)
    page.print(verdict_words(result), style="bold")
    page.print(verdict_meaning(result))


def print_comparison(comparison: Comparison, console: Console | None = None) -> None:
    """Print a table a group, the references, and the verdicts."""
    page = _Page(console)
    page.print(f"{comparison.first.env}: {tasks_in_words(comparison.first)}")
    for group in comparison.groups:
        seeds = ", ".join(str(run.result.seeds[0]) for run in group.runs)
        few = " (few seeds)" if group.few_seeds else ""
        page.print(f"{group.label}, {group.headline.action_mode}, seeds {seeds}{few}")
        page.print_returns(group.first, group.headline)
    page.print_notes(comparison.first)
    page.print_references(comparison.references)
    for sentence in [*adaptation_sentences(comparison), *map(pair_sentence, comparison.last)]:
        page.print(sentence, style="bold")


class _Page:
    """Prints literal text: a name with brackets or colons is no markup and no emoji."""

    def __init__(self, console: Console | None) -> None:
        from rich.console import Console

        self.console = console or Console()

    def print(self, words: str, style: str = "") -> None:
        """A paragraph, broken between words but not within an interval."""
        whole = re.sub(r"\[[^\]]*\]", lambda interval: interval[0].replace(" ", "\xa0"), words)
        width = self.console.width
        lines = textwrap.wrap(whole, width, break_long_words=False, break_on_hyphens=False)
        self.lines([line.replace("\xa0", " ") for line in lines], style)

    def lines(self, lines: list[str], style: str = "") -> None:
        from rich.text import Text

        text = Text("\n".join(lines), style)
        self.console.print(text, no_wrap=True, crop=False, overflow="ignore")

    def print_returns(self, result: EvaluationResult, mode: ModeResult | GroupMode) -> None:
        """A row a measurement, with as many columns as the terminal has room for."""
        first = 0 if result.x == "gradient_step" else 1
        rounds = range(len(mode.mean))
        columns = {
            ("", "step" if first == 0 else "episode"): [str(k + first) for k in rounds],
            ("mean return", "[95 %]"): [estimate(mode.mean[k], mode.ci95[k]) for k in rounds],
            **self._success_column(mode),
            **self._spread_column(mode),
            ("episodes", "used"): [str(used) for used in result.episodes_used],
            ("env steps", "used"): [f"{steps:,.0f}" for steps in mode.env_steps_used],
            ("IQM", "[95 %]"): [estimate(mode.iqm[k], mode.iqm_ci95[k]) for k in rounds],
        }
        if mode.normalised:
            columns["normal-", "ised"] = [f"{score:.2f}" for score in mode.normalised]

        def widths() -> list[int]:
            return [max(map(len, (*head, *cells))) for head, cells in columns.items()]

        for head in _DROPPED:
            if sum(widths()) + len(columns) - 1 > self.console.width:
                columns.pop(head, None)
        across = zip(*([*head, *cells] for head, cells in columns.items()), strict=True)
        lines = [
            " ".join(cell.rjust(width) for cell, width in zip(row, widths(), strict=True))
            for row in across
        ]
        self.lines([*lines[:2], "─" * len(lines[0]), *lines[2:]])

    def print_notes(self, result: EvaluationResult) -> None:
        for note in notes(result):
            self.print(note)

    def _success_column(self, mode: ModeResult | GroupMode) -> dict[tuple[str, str], list[str]]:
        if mode.success_rate is None:
            return {}
        return {("success", "[95 %]"): [success_words(mode, k) for k in range(len(mode.mean))]}

    def _spread_column(self, mode: ModeResult | GroupMode) -> dict[tuple[str, str], list[str]]:
        if mode.evaluation_seed_std is None:
            return {}
        return {_SPREAD: [f"{std:.2f}" for std in mode.evaluation_seed_std]}

    def print_references(self, references: Mapping[str, Reference]) -> None:
        for name, reference in references.items():
            self.print(f"{name}: {estimate(reference.mean, reference.ci95)}")
