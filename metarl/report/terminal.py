"""What an evaluation and a comparison print on the terminal: tables that fit 80 columns."""

from __future__ import annotations

from typing import TYPE_CHECKING

from metarl.report.comparison_report import pair_sentence, verdict_sentences
from metarl.report.evaluation_report import (
    estimate,
    returns_table,
    tasks_in_words,
    verdict_meaning,
    verdict_words,
)

if TYPE_CHECKING:
    from rich.console import Console

    from metarl.evaluation.comparison import Comparison
    from metarl.evaluation.result import EvaluationResult


def print_table(result: EvaluationResult, console: Console | None = None) -> None:
    """Print the returns, references and verdict on the terminal."""
    from rich.box import SIMPLE_HEAD
    from rich.console import Console
    from rich.table import Table as RichTable

    console = console or Console()
    title = f"{result.algorithm} on {result.env}: {tasks_in_words(result)}"
    console.print(f"{title}, {result.headline.action_mode}", markup=False, highlight=False)
    _, rows = returns_table(result, result.headline)
    by_step = result.x == "gradient_step"
    header = ["step" if by_step else "episode", "mean return\n[95 %]", "episodes\nused"]
    header += ["env steps\nused", "IQM\n[95 %]", "normal-\nised"]
    table = RichTable(box=SIMPLE_HEAD, padding=(0, 1, 0, 0), show_edge=False)
    for k, row in enumerate(rows):
        # A number for the step's words, and no ± column: so the table fits 80 columns.
        cells = [str(k if by_step else k + 1), *row[1:5], *row[6:]]
        if not table.columns:
            for name in header[: len(cells)]:
                table.add_column(name, justify="right")
        table.add_row(*cells)
    console.print(table)
    for name, reference in result.references.items():
        line = f"{name}: {estimate(reference.mean, reference.ci95)}"
        console.print(line, markup=False, highlight=False)
    console.print(verdict_words(result), style="bold", markup=False, highlight=False)
    console.print(verdict_meaning(result), markup=False, highlight=False)


def print_comparison(comparison: Comparison, console: Console | None = None) -> None:
    """Print a table of all groups, the references, and the verdicts."""
    from rich.box import SIMPLE_HEAD
    from rich.console import Console
    from rich.table import Table as RichTable

    console = console or Console()
    shared = comparison.first
    title = f"{shared.env}: {tasks_in_words(shared)}"
    console.print(title, markup=False, highlight=False)
    for group in comparison.groups:
        mode = group.headline
        seeds = ", ".join(str(run.result.seeds[0]) for run in group.runs)
        few = " (few seeds)" if group.few_seeds else ""
        console.print(
            f"{group.label}, {mode.action_mode}, seeds {seeds}{few}", markup=False, highlight=False
        )
        table = RichTable(box=SIMPLE_HEAD, padding=(0, 1, 0, 0), show_edge=False)
        by_step = group.first.x == "gradient_step"
        header = ["step" if by_step else "episode", "episodes\nused", "mean return\n[95 %]"]
        for name in [*header, "IQM\n[95 %]"]:
            table.add_column(name, justify="right")
        for k, used in enumerate(group.episodes_used):
            estimates = [
                estimate(mode.mean[k], mode.ci95[k]),
                estimate(mode.iqm[k], mode.iqm_ci95[k]),
            ]
            table.add_row(str(k if by_step else k + 1), str(used), *estimates)
        console.print(table)
    for name, reference in comparison.references.items():
        line = f"{name}: {estimate(reference.mean, reference.ci95)}"
        console.print(line, markup=False, highlight=False)
    sentences = [*verdict_sentences(comparison), *map(pair_sentence, comparison.last)]
    for sentence in sentences:
        console.print(sentence, style="bold", markup=False, highlight=False)
