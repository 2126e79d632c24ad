"""Measure fast adaptation on held-out tasks: ``metarl evaluate runs/maml_navigation``."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from metarl.process import command_line, optional_output, say

if TYPE_CHECKING:
    from metarl.cli.command_line import EvaluateArguments
    from metarl.measuring.evaluating import Subject


def run(argv: Sequence[str]) -> int:
    """Evaluate one run and write its report, or compare several."""
    from metarl.cli.command_line import parse_evaluate_arguments

    arguments = parse_evaluate_arguments(argv)
    # Imported here and below, so that --help and wrong input answer at once.
    from metarl.config.trust import Trust
    from metarl.measuring.elsewhere import load_elsewhere
    from metarl.measuring.publishing import evaluate_and_report
    from metarl.measuring.user_agent import load_agent
    from metarl.runs.trained_run import load_run

    if len(arguments.run) > 1:
        _compare(arguments)
        return 0
    trust = Trust(arguments.trust_code)
    where = arguments.device, trust, arguments.backend
    subject: Subject
    if arguments.agent is not None and arguments.config is not None:
        subject = load_agent(arguments.agent, arguments.config, *where)
    elif arguments.config is not None:
        run, checkpoint = arguments.run[0], arguments.checkpoint
        subject = load_elsewhere(run, arguments.config, checkpoint, *where)
    else:
        subject = load_run(
            arguments.run[0],
            arguments.checkpoint,
            arguments.device,
            trust_code=arguments.trust_code,
            data=arguments.data,
            backend=arguments.backend,
        )
    try:
        plan = arguments.plan(subject.config.evaluation)
        evaluate_and_report(subject, plan, arguments.folder, video=arguments.video)
    finally:
        subject.worker.close()
    return 0


def _compare(arguments: EvaluateArguments) -> None:
    """Measure all runs, write the comparison, and print its table."""
    from metarl.config.trust import Trust
    from metarl.measuring import comparing
    from metarl.report.terminal import print_comparison
    from metarl.storage.run_folder import prepare_output

    trust = Trust(arguments.trust_code)
    groups = comparing.open_groups(arguments.run, arguments, arguments.checkpoint, trust)
    first = next(iter(groups.values()))[0]
    output = arguments.folder
    if output is None:
        output = comparing.default_output(map(Path, arguments.run), first.plan.folder)
    prepare_output(output, chosen=arguments.folder is not None)
    which = arguments.checkpoint, arguments.device
    comparison = comparing.measure_groups(
        groups, *which, say, data=arguments.data, backend=arguments.backend
    )
    # What the command leaves out is each run's own config.
    own = [name for name in ("episodes", "adaptation_steps") if getattr(arguments, name) is None]
    words = ["metarl", "evaluate", *arguments.run, *first.plan.arguments(without=own)]
    words += ["--checkpoint", str(arguments.checkpoint), "--output", str(output)]
    words += [] if arguments.data is None else ["--data", arguments.data]
    words += ["--trust-code"] if arguments.trust_code else []
    files = comparing.report_comparison(output, comparison, groups, command_line(words))
    with optional_output():
        print_comparison(comparison)
        print(f"Report: {files.markdown} and {files.html.name}; figures: {files.evaluation}")
