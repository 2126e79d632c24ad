"""What a notebook shows of runs, evaluations and comparisons; their numbers as arrays."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from markupsafe import Markup

from metarl.evaluation.comparison import Comparison
from metarl.evaluation.result import EvaluationResult
from metarl.report import comparison_plots, evaluation_plots, training_plots, words
from metarl.report.comparison_report import group_returns_table, title
from metarl.report.evaluation_report import returns_table
from metarl.report.page import Picture, drawn, filled, html_body, table
from metarl.report.training_plots import Lines

CAPTION = "Mean {} over tasks with its 95 % interval."


class ShownEvaluation(EvaluationResult):
    """An evaluation that shows its verdict, its curve and its returns."""

    def arrays(self) -> dict[str, np.ndarray]:
        """The headline's numbers: K+1 measurements of n tasks with d entries.

        Returns:
            ``returns`` [K+1, n], ``mean`` [K+1], ``ci95`` [K+1, 2], NaN where there is one task,
            ``episodes_used`` [K+1], ``tasks`` [n, d].
        """
        mode = self.headline
        ci95 = [interval or (np.nan, np.nan) for interval in mode.ci95]
        named = {"returns": mode.returns, "mean": mode.mean, "ci95": ci95}
        named |= {"episodes_used": self.episodes_used, "tasks": self.tasks}
        return {name: np.array(values) for name, values in named.items()}

    def _repr_html_(self) -> str:
        name = f"{self.algorithm} on {self.env}: {words.tasks_in_words(self)}"
        sentences = [words.verdict_words(self), words.verdict_meaning(self)]
        caption = CAPTION.format(self.by.noun)
        curve = Picture("curve", caption, evaluation_plots.plot_adaptation_curve(self))
        return _shown(name, sentences, [curve], returns_table(self, self.headline))


class ShownComparison(Comparison):
    """A comparison that shows its verdicts, its curves and its returns."""

    def arrays(self) -> dict[str, np.ndarray]:
        """Label of a group -> the returns of its S seeds on the n tasks, [K+1, S, n]."""
        return {group.label: np.array(group.headline.returns) for group in self.groups}

    def _repr_html_(self) -> str:
        name = f"{title(self)}: {words.tasks_in_words(self.first)}"
        sentences = [*words.pair_sentences(self), *words.adaptation_sentences(self)]
        caption = CAPTION.format(self.first.by.noun)
        curves = Picture("curves", caption, comparison_plots.plot_adaptation_curves(self))
        headlines = [group.headline for group in self.groups]
        return _shown(name, sentences, [curves], group_returns_table(self.groups, headlines))


def training_arrays(lines: Lines) -> dict[str, np.ndarray]:
    """The columns of a `metrics.jsonl`, one value a meta-iteration, NaN where there is none."""
    names = dict.fromkeys(name for line in lines for name in line)
    return {
        name: np.array([np.nan if line.get(name) is None else line[name] for line in lines])
        for name in names
    }


def training_html(name: str, facts: Mapping[str, object], lines: Lines) -> str:
    """A run: what it is, and its training curve."""
    curves, pictures = {name: [lines]}, []
    if (by := training_plots.curve_of(curves)) is not None:
        curve = training_plots.plot_training_curves(curves)
        pictures = [Picture("curve", f"Training: {by.noun} against {by.steps} and time.", curve)]
    return _shown(name, [], pictures, table(["", ""], list(facts.items()), left=2))


def _shown(
    name: str, sentences: Sequence[str], pictures: Sequence[Picture], numbers: Markup
) -> str:
    """HTML that loads nothing: a title, sentences, pictures, a table."""
    pictures = drawn(pictures)
    page = filled(
        "notebook.md.j2", name=name, sentences=sentences, pictures=pictures, table=numbers
    )
    html = html_body(page, pictures).replace("<img ", '<img style="max-width: 100%" ')
    return f'<div style="max-width: 45em">{html}</div>'
