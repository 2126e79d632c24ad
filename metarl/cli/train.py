"""Meta-train an agent: ``metarl train maml_navigation``."""

from __future__ import annotations

import json
from collections.abc import Sequence
from contextlib import ExitStack
from shlex import quote
from typing import TYPE_CHECKING

from metarl.cli.process import run_program, stop_requests

if TYPE_CHECKING:
    from metarl.config.fields import Config
    from metarl.training.runs import TrainedRun

_FINISHED = (
    "The run in {run.folder} is finished: {run.iteration} iterations, {run.env_steps} env steps. "
    "A larger --iterations trains on; metarl evaluate {place} measures again."
)


def main(argv: Sequence[str]) -> int:
    """Train, and return the exit code: 0 finished, 1 failed, 2 wrong input, 130 interrupted."""
    return run_program(lambda: train(argv))


def train(argv: Sequence[str]) -> int:
    """Train as the command line says."""
    from metarl.cli.command_line import parse_train_arguments

    return 130 if train_run(*parse_train_arguments(argv)) is None else 0


def train_run(config: Config, resume: bool = False) -> TrainedRun | None:
    """Train in the config's run folder, with all files, and evaluate at the end.

    Args:
        config: Resolved.
        resume: Go on with the run in its folder.

    Returns:
        The run as it was at its last iteration; None when the user has asked to stop before.

    Raises:
        UserError: the folder or the config is not fit for it.
        EnvironmentFailure: training diverged, the environment failed, or nothing can be written.
    """
    # Imported here, so that --help and wrong input answer at once.
    from metarl.cli.evaluate import evaluate_and_report
    from metarl.config.loading import config_to_yaml
    from metarl.evaluation.plan import EvaluationPlan
    from metarl.storage.files import write_atomically
    from metarl.storage.run_folder import prepare_run_dir
    from metarl.tracking import Tracker
    from metarl.training.measuring import is_evaluated
    from metarl.training.trainer import Interrupted, Trainer

    run_dir = config.run_folder
    at_end = EvaluationPlan.asked(config.evaluation) if config.evaluation.at_end else None
    if not resume:
        prepare_run_dir(run_dir)
    with ExitStack() as stack:
        trainer = Trainer(config, resume)
        stack.callback(trainer.close)
        if trainer.finished and (not at_end or is_evaluated(run_dir, at_end, trainer.iteration)):
            print(_FINISHED.format(run=trainer.run_so_far, place=quote(str(run_dir))))
            return trainer.run_so_far
        go_on = f"go on: metarl train --run-dir {quote(str(run_dir))} --resume"
        stopping = stack.enter_context(ExitStack())
        stop = stopping.enter_context(stop_requests())
        write_atomically(run_dir / "config.yaml", config_to_yaml(config))
        tracker = stack.enter_context(Tracker(config, resume=resume))
        write_atomically(run_dir / "meta.json", _circumstances(config, tracker.wandb_id))
        tracker.print(f"Training {config.algorithm.name} on {config.env.name} in {run_dir}")
        try:
            run = trainer.run(tracker, stop)
            stopping.close()  # an interrupt need not wait for the evaluation: it can be repeated
            if stop:
                raise KeyboardInterrupt
            tracker.print(f"Trained {run.iteration} iterations, {trainer.env_steps} env steps")
            if at_end is not None:
                evaluate_and_report(run, at_end, tracker=tracker)
        except Interrupted:
            tracker.print(f"Stopped at iteration {trainer.iteration}; {go_on}")
            tracker.finish(130)
            return None
        except KeyboardInterrupt:
            tracker.print(f"Dropped what was under way; {go_on}")
            raise
    return run


def _circumstances(config: Config, wandb_id: str | None) -> str:
    """What `meta.json` says of a run."""
    from metarl.tracking import metadata

    threads = config.rollout
    said = metadata(config.device, threads.torch_threads, threads.physics_threads, wandb_id)
    return json.dumps(said, indent=1) + "\n"
