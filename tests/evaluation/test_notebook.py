"""Evaluations and comparisons show themselves in a notebook, whatever they are called."""

from __future__ import annotations

from dataclasses import replace

from metarl.evaluation.comparison import MeasuredRun, compare
from metarl.report.notebook import ShownComparison, ShownEvaluation
from tests.evaluation.fakes import navigation_evaluation, navigation_result
from tests.evaluation.test_report import Reader


def test_a_result_and_a_comparison_show_themselves() -> None:
    result = navigation_result(navigation_evaluation(), algorithm="<b>my|own</b>")
    runs = [MeasuredRun("r", None, replace(result, seeds=[seed])) for seed in (1, 2)]
    compared = compare({"<b>my|own</b>": runs, "other": runs[:1]})
    for shown in (ShownEvaluation(**vars(result)), ShownComparison(**vars(compared))):
        reader = Reader()
        reader.feed(shown._repr_html_())
        assert reader.open == []
        assert "b" not in reader.tags
        assert {"table", "img"} <= reader.tags
        assert "<b>my|own</b>" in reader.text
        assert "daptation helps: +" in reader.text
        assert f"{result.headline.mean[-1]:.2f} [" in reader.text
        (picture,) = reader.links
        assert picture.startswith("data:image/png;base64,")
