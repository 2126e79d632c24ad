"""Measure fast adaptation on held-out tasks: ``metarl evaluate runs/maml_navigation``."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from metarl.cli.process import optional_output, run_program, say

if TYPE_CHECKING:
    from metarl.cli.command_line import EvaluateArguments
    from metarl.evaluation.plan import EvaluationPlan
    from metarl.tracking import Tracker
    from metarl.training.measuring import Subject


def main(argv: Sequence[str]) -> int:
    """Evaluate, and return the exit code: 0 finished, 1 failed, 2 wrong input, 130 interrupted."""
    return run_program(lambda: evaluate(argv))


def evaluate(argv: Sequence[str]) -> int:
    """Evaluate one run and write its report, or compare several."""
    from metarl.cli.command_line import parse_evaluate_arguments

    arguments = parse_evaluate_arguments(argv)
    if len(arguments.run) > 1:
        compare_and_report(arguments)
        return 0
    # Imported here, so that --help and wrong input answer at once.
    from metarl.evaluation.plan import EvaluationPlan
    from metarl.storage.run_folder import prepare_output
    from metarl.training.runs import load_run
    from metarl.training.user_agent import load_agent

    output = Path(arguments.output) if arguments.output else None
    if output is not None:
        prepare_output(output, asked_for=True)
    subject: Subject
    if arguments.agent is not None and arguments.config is not None:
        subject = load_agent(arguments.agent, arguments.config, arguments.device)
    else:
        subject = load_run(arguments.run[0], arguments.checkpoint, arguments.device)
    plan = EvaluationPlan.asked(subject.config.evaluation, **arguments.asked)
    try:
        evaluate_and_report(subject, plan, output, video=arguments.video)
    finally:
        subject.worker.close()
    return 0


def evaluate_and_report(
    subject: Subject,
    plan: EvaluationPlan,
    output: Path | None = None,
    *,
    video: bool = False,
    tracker: Tracker | None = None,
) -> None:
    """Measure, write the report, print the table, write the video, and copy all to W&B."""
    from metarl.cli.publishing import publish
    from metarl.report.terminal import print_table
    from metarl.training.measuring import measure, report

    result, evaluation = measure(subject, plan)
    output = output or subject.folder / "evaluation" / plan.folder
    files = report(subject, plan, output, result, evaluation)
    with optional_output():
        print_table(result)
        print(f"Report: {files.markdown} and {files.html.name}; figures: {files.evaluation}")
    publish(subject, result, evaluation, files, video=video, tracker=tracker)


def compare_and_report(arguments: EvaluateArguments) -> None:
    """Measure all runs, write the comparison, and print its table."""
    from metarl.report.terminal import print_comparison
    from metarl.storage.run_folder import prepare_output
    from metarl.training.comparing import (
        default_output,
        measure_groups,
        open_groups,
        report_comparison,
    )

    groups = open_groups(arguments.run, **arguments.asked)
    first = next(iter(groups.values()))[0]
    asked_for = Path(arguments.output) if arguments.output else None
    output = asked_for or default_output(map(Path, arguments.run), first.plan.folder)
    prepare_output(output, asked_for is not None)
    comparison = measure_groups(groups, arguments.checkpoint, arguments.device, say)
    # What the command leaves out is each run's own config.
    own = [name for name in ("episodes", "adaptation_steps") if getattr(arguments, name) is None]
    words = ["metarl", "evaluate", *arguments.run, *first.plan.words(without=own)]
    words += ["--checkpoint", str(arguments.checkpoint), "--output", str(output)]
    files = report_comparison(output, comparison, groups, shlex.join(words))
    with optional_output():
        print_comparison(comparison)
        print(f"Report: {files.markdown} and {files.html.name}; figures: {files.evaluation}")
