"""Measure fast adaptation on held-out tasks: ``python evaluate.py --run runs/maml_navigation``."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from metarl.cli.process import optional_output, run_program

if TYPE_CHECKING:
    from metarl.cli.command_line import EvaluateArguments
    from metarl.cli.user_agent import UserAgent
    from metarl.evaluation.protocol import Split
    from metarl.tracking import Tracker
    from metarl.training.runs import TrainedRun
    from metarl.types import ActionMode


def main(argv: Sequence[str]) -> int:
    """Evaluate, and return the exit code: 0 finished, 1 failed, 2 wrong input, 130 interrupted."""
    return run_program(lambda: evaluate(argv))


def evaluate(argv: Sequence[str]) -> int:
    """Evaluate one run and write its report, or compare several."""
    from metarl.cli.command_line import parse_evaluate_arguments

    arguments = parse_evaluate_arguments(argv)
    # Imported here, so that --help and wrong input answer at once.
    import torch

    from metarl.cli.user_agent import load_agent
    from metarl.storage.run_folder import prepare_output
    from metarl.training.runs import load_run

    both: tuple[ActionMode, ...] = ("stochastic", "deterministic")
    modes = both if arguments.mode == "both" else (arguments.mode,)
    if len(arguments.run) > 1:
        compare_and_report(arguments, modes)
        return 0
    output = Path(arguments.output) if arguments.output else None
    if output is not None:
        prepare_output(output, asked_for=True)
    agent = load_agent(arguments.agent, arguments.config, arguments.device)
    run_dir = agent.folder if agent else Path(arguments.run[0])
    run = agent or load_run(run_dir, arguments.checkpoint, arguments.device)
    defaults = run.config.evaluation
    torch.set_num_threads(run.config.rollout.torch_threads)  # as at the end of its training
    try:
        evaluate_and_report(
            run,
            run_dir,
            arguments.split or defaults.split,
            arguments.episodes or defaults.episodes,
            arguments.adaptation_steps or defaults.adaptation_steps,
            modes=modes,
            seed=arguments.seed,
            task_file=Path(arguments.tasks) if arguments.tasks else None,
            forget=arguments.forget,
            output=output,
            video=arguments.video,
        )
    finally:
        run.worker.close()
    return 0


def compare_and_report(arguments: EvaluateArguments, modes: tuple[ActionMode, ...]) -> None:
    """Measure all runs, write the comparison, and print its table."""
    import torch

    from metarl.cli.comparing import compare_runs
    from metarl.report.terminal import print_comparison

    def say(line: str) -> None:
        with optional_output():
            print(line)

    comparison, files = compare_runs(arguments, modes, torch.set_num_threads, say)
    with optional_output():
        print_comparison(comparison)
        print(f"Report: {files.markdown} and {files.html.name}; figures: {files.evaluation}")


def evaluate_and_report(
    run: TrainedRun | UserAgent,
    run_dir: Path,
    split: Split,
    episodes: int,
    adaptation_steps: int,
    *,
    modes: tuple[ActionMode, ...] = ("stochastic", "deterministic"),
    seed: int = 0,
    task_file: Path | None = None,
    forget: bool = False,
    output: Path | None = None,
    video: bool = False,
    tracker: Tracker | None = None,
) -> None:
    """Measure, write the report, print the table, write the video, and copy all to W&B."""
    from metarl.cli.publishing import publish
    from metarl.evaluation.task_sets import folder_of
    from metarl.report.terminal import print_table
    from metarl.training.runs import measure, report

    name = (folder_of(task_file) if task_file else split) + ("_forget" if forget else "")
    output = output or run_dir / "evaluation" / name
    result, evaluation = measure(
        run,
        split=split,
        episodes=episodes,
        adaptation_steps=adaptation_steps,
        modes=modes,
        seed=seed,
        task_file=task_file,
        forget=forget,
    )
    words = ["python", "evaluate.py", *run.command(run_dir)]
    words += ["--tasks", str(task_file)] if task_file else ["--split", split]
    words += ["--episodes", str(episodes), "--adaptation-steps", str(adaptation_steps)]
    words += ["--mode", modes[0] if len(modes) == 1 else "both", "--seed", str(seed)]
    words += ["--forget", "true"] if forget else []
    files = report(run, run_dir, output, result, evaluation, shlex.join(words))
    with optional_output():
        print_table(result)
        print(f"Report: {files.markdown} and {files.html.name}; figures: {files.evaluation}")
    publish(run, run_dir, result, evaluation, files, video=video, tracker=tracker)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
