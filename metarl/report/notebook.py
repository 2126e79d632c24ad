"""What a notebook shows of runs, evaluations and comparisons; their numbers as arrays."""

from __future__ import annotations

import base64
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import fields
from html import escape

import numpy as np

from metarl.evaluation.comparison import Comparison
from metarl.evaluation.result import EvaluationResult
from metarl.report import adaptation_plots, comparison_plots, training_plots, words
from metarl.report.training_plots import Lines


class ShownEvaluation(EvaluationResult):
    """An evaluation that shows its verdict, its curve and its returns."""

    @classmethod
    def of(cls, result: EvaluationResult) -> ShownEvaluation:
        """The same result."""
        return cls(**{field.name: getattr(result, field.name) for field in fields(result)})

    def arrays(self) -> dict[str, np.ndarray]:
        """The headline's numbers: K+1 measurements of n tasks with d entries.

        Returns:
            ``returns`` [K+1, n], ``mean`` [K+1], ``ci95`` [K+1, 2], ``episodes_used`` [K+1],
            ``tasks`` [n, d].
        """
        mode = self.headline
        named = {"returns": mode.returns, "mean": mode.mean, "ci95": mode.ci95}
        named |= {"episodes_used": self.episodes_used, "tasks": self.tasks}
        return {name: np.array(values) for name, values in named.items()}

    def _repr_html_(self) -> str:
        mode = self.headline
        rows = [
            [words.step_name(self.x, k), used, words.estimate(mode.mean[k], mode.ci95[k])]
            for k, used in enumerate(self.episodes_used)
        ]
        rows += [[n, "", words.estimate(r.mean, r.ci95)] for n, r in self.references.items()]
        title = f"{self.algorithm} on {self.env}: {words.tasks_in_words(self)}"
        return _shown(
            [title, words.verdict_words(self)],
            ["", "episodes used", "mean return [95 %]"],
            rows,
            adaptation_plots.plot_adaptation_curve(self),
        )


class ShownComparison(Comparison):
    """A comparison that shows its verdicts, its curves and its returns."""

    @classmethod
    def of(cls, comparison: Comparison) -> ShownComparison:
        """The same comparison."""
        return cls(**{field.name: getattr(comparison, field.name) for field in fields(comparison)})

    def arrays(self) -> dict[str, np.ndarray]:
        """Label of a group -> the returns of its S seeds on the n tasks, [K+1, S, n]."""
        return {group.label: np.array(group.headline.returns) for group in self.groups}

    def _repr_html_(self) -> str:
        rows = [
            [
                group.label,
                words.step_name(group.first.x, k),
                used,
                words.estimate(group.headline.mean[k], group.headline.ci95[k]),
            ]
            for group in self.groups
            for k, used in enumerate(group.episodes_used)
        ]
        sentences = [*words.adaptation_sentences(self), *map(words.pair_sentence, self.last)]
        return _shown(
            [f"{self.first.env}: {words.tasks_in_words(self.first)}", *sentences],
            ["group", "", "episodes used", "mean return [95 %]"],
            rows,
            comparison_plots.plot_adaptation_curves(self),
        )


def training_arrays(lines: Lines) -> dict[str, np.ndarray]:
    """The columns of a `metrics.jsonl`, one value a meta-iteration, NaN where there is none."""
    names = dict.fromkeys(name for line in lines for name in line)
    return {
        name: np.array([np.nan if line.get(name) is None else line[name] for line in lines])
        for name in names
    }


def training_html(name: str, facts: Mapping[str, object], lines: Lines) -> str:
    """A run: what it is, and its training curve."""
    curves = {name: [lines]}
    plot = training_plots.plot_training_curves if training_plots.has_returns(curves) else None
    return _shown([name], ["", ""], facts.items(), plot and plot(curves))


def _shown(
    sentences: Sequence[str],
    header: Sequence[str],
    rows: Iterable[Sequence[object]],
    png: bytes | None,
) -> str:
    """The first sentence as a title, the others, a picture, a table."""
    title, *others = map(escape, sentences)
    parts = [f"<h4>{title}</h4>", *(f"<p>{sentence}</p>" for sentence in others)]
    if png is not None:
        data = base64.b64encode(png).decode()
        parts.append(f'<img style="max-width: 40em" src="data:image/png;base64,{data}">')
    cells = [[f"<th>{escape(name)}</th>" for name in header]] if any(header) else []
    cells += [[f"<td>{escape(str(value))}</td>" for value in row] for row in rows]
    lines = "".join(f"<tr>{''.join(row)}</tr>" for row in cells)
    return "\n".join([*parts, f"<table>{lines}</table>"])
