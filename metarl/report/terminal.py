"""What an evaluation and a comparison print on the terminal: tables that fit its width."""

from __future__ import annotations

import re
import textwrap
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from metarl.report.words import (
    adaptation_sentences,
    adaptive_sentences,
    calibration_errors,
    estimate,
    mode_words,
    notes,
    pair_sentences,
    success_words,
    tasks_in_words,
    transductive_words,
    verdict_meaning,
    verdict_words,
)

if TYPE_CHECKING:
    from rich.console import Console

    from metarl.evaluation.comparison import Comparison, GroupMode
    from metarl.evaluation.measures import Measure
    from metarl.evaluation.result import EvaluationResult, ModeResult, Reference

# Headings of columns over two lines, those first that a narrow terminal loses first.
_STEPS, _SPREAD = ("env steps", "used"), ("± over", "eval. seeds")
_ECE, _BAYES = ("calibration", "error"), ("Bayes-", "adaptive")
_DROPPED = (_STEPS, ("IQM", "[95 %]"), ("normal-", "ised"))


def print_table(result: EvaluationResult, console: Console | None = None) -> None:
    """Print the returns, references and verdict on the terminal."""
    page = _Page(console)
    title = f"{result.algorithm} on {result.env}: {tasks_in_words(result)}"
    page.print(f"{title}{mode_words(result)}")
    page.print_returns(result, result.headline, calibration_errors(result))
    page.print_notes(result, result.bayes_optimal)
    if result.few_shot is not None:
        page.print(transductive_words(result.few_shot))
    page.print_references(result.references, result.by)
    for sentence in adaptive_sentences(result.algorithm, result.adaptive_references):
        page.print(sentence)
    page.print(verdict_words(result), style="bold")
    page.print(verdict_meaning(result))


def print_comparison(comparison: Comparison, console: Console | None = None) -> None:
    """Print a table a group, the references, and the verdicts."""
    page = _Page(console)
    page.print(f"{comparison.first.env}: {tasks_in_words(comparison.first)}")
    for group in comparison.groups:
        seeds = ", ".join(str(run.result.seeds[0]) for run in group.runs)
        few = " (few seeds)" if group.few_seeds else ""
        page.print(f"{group.label}{mode_words(group.first)}, seeds {seeds}{few}")
        page.print_returns(group.first, group.headline, group.calibration_error)
    page.print_notes(comparison.first, comparison.bayes_optimal)
    page.print_references(comparison.references, comparison.first.by)
    for group in comparison.groups:
        for sentence in adaptive_sentences(group.label, group.adaptive_references):
            page.print(sentence)
    for sentence in [*adaptation_sentences(comparison), *pair_sentences(comparison)]:
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

    def print_returns(
        self,
        result: EvaluationResult,
        mode: ModeResult | GroupMode,
        calibration_error: Sequence[float] | None,
    ) -> None:
        """A row a measurement, with as many columns as the terminal has room for."""
        first, by = 1 if result.x == "episode" else 0, result.by
        rounds, used = range(len(mode.mean)), (by.used[:-5], "used")
        columns = {
            ("", "step" if first == 0 else "episode"): [str(k + first) for k in rounds],
            (f"mean {by.noun}", "[95 %]"): [
                estimate(mode.mean[k], mode.ci95[k], by) for k in rounds
            ],
            **self._success_column(mode),
            **self._own_columns(mode),
            **self._spread_column(mode, by),
            **_bayes_column(result.bayes_optimal),
            **({_ECE: [f"{x:.3f}" for x in calibration_error]} if calibration_error else {}),
            used: [str(used) for used in result.episodes_used],
            _STEPS: [f"{steps:,.0f}" for steps in mode.env_steps_used],
            ("IQM", "[95 %]"): [estimate(mode.iqm[k], mode.iqm_ci95[k], by) for k in rounds],
        }
        if result.few_shot is not None:
            del columns[_STEPS]
        if mode.normalised:
            columns["normal-", "ised"] = [f"{score:.2f}" for score in mode.normalised]

        def widths() -> list[int]:
            return [max(map(len, (*head, *cells))) for head, cells in columns.items()]

        for head in (*_DROPPED, used, _SPREAD, _BAYES):
            if sum(widths()) + len(columns) - 1 > self.console.width:
                columns.pop(head, None)
        across = zip(*([*head, *cells] for head, cells in columns.items()), strict=True)
        lines = [
            " ".join(cell.rjust(width) for cell, width in zip(row, widths(), strict=True))
            for row in across
        ]
        self.lines([*lines[:2], "─" * len(lines[0]), *lines[2:]])

    def print_notes(
        self, result: EvaluationResult, bayes_optimal: Sequence[Reference] | None
    ) -> None:
        for note in notes(result, bayes_optimal):
            self.print(note)

    def _success_column(self, mode: ModeResult | GroupMode) -> dict[tuple[str, str], list[str]]:
        if mode.success_rate is None:
            return {}
        return {("success", "[95 %]"): [success_words(mode, k) for k in range(len(mode.mean))]}

    def _own_columns(self, mode: ModeResult | GroupMode) -> dict[tuple[str, str], list[str]]:
        """The environment's own measures."""
        own: Mapping[str, Sequence[float]] = getattr(mode, "episode_measures", None) or {}
        return {(name, ""): [f"{x:.2f}" for x in values] for name, values in own.items()}

    def _spread_column(
        self, mode: ModeResult | GroupMode, by: Measure
    ) -> dict[tuple[str, str], list[str]]:
        if mode.evaluation_seed_std is None:
            return {}
        return {_SPREAD: [f"{std:.{by.decimals}f}" for std in mode.evaluation_seed_std]}

    def print_references(self, references: Mapping[str, Reference], by: Measure) -> None:
        for name, reference in references.items():
            self.print(f"{name}: {estimate(reference.mean, reference.ci95, by)}")


def _bayes_column(bayes_optimal: Sequence[Reference] | None) -> dict[tuple[str, str], list[str]]:
    """What the best adaptive agent earns at least."""
    if bayes_optimal is None:
        return {}
    return {_BAYES: [f"{reference.mean:.2f}" for reference in bayes_optimal]}
