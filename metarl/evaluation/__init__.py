"""Evaluation: measure how any learner adapts to tasks, and write down what was found."""

from metarl.evaluation.protocol import Evaluation, evaluate, split_tasks
from metarl.evaluation.report import ReportFiles, write_report
from metarl.evaluation.result import EvaluationResult
from metarl.evaluation.summary import summarize
from metarl.evaluation.terminal import print_table

__all__ = [
    "Evaluation",
    "EvaluationResult",
    "ReportFiles",
    "evaluate",
    "print_table",
    "split_tasks",
    "summarize",
    "write_report",
]
