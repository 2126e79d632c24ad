"""Meta-train an agent: ``metarl train maml_navigation``."""

from __future__ import annotations

import json
import shlex
from collections.abc import Sequence
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

from metarl.cli.process import run_program, stop_requests

if TYPE_CHECKING:
    from metarl.config import Config
    from metarl.training.runs import TrainedRun


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
        UserError, EnvironmentFailure: with a sentence.
    """
    # Imported here, so that --help and wrong input answer at once.
    from metarl.cli.evaluate import evaluate_and_report
    from metarl.config import config_to_yaml
    from metarl.evaluation.plan import EvaluationPlan
    from metarl.storage.files import write_atomically
    from metarl.storage.run_folder import prepare_run_dir
    from metarl.tracking import Tracker
    from metarl.training.measuring import is_evaluated
    from metarl.training.trainer import Interrupted, Trainer

    run_dir = config.run_folder
    at_end = EvaluationPlan.asked(config.evaluation) if config.evaluation.at_end else None
    prepare_run_dir(run_dir, resume)
    with ExitStack() as stack:
        trainer = Trainer(config, resume)
        stack.callback(trainer.close)
        place = shlex.quote(str(run_dir))
        if trainer.finished and (not at_end or is_evaluated(run_dir, at_end, trainer.iteration)):
            print(
                f"The run in {run_dir} is finished: {trainer.iteration} iterations, "
                f"{trainer.env_steps} env steps. A larger --iterations trains on; "
                f"metarl evaluate {place} measures again."
            )
            return trainer.run_so_far
        go_on = f"go on: metarl train --run-dir {place} --resume"
        stopping = stack.enter_context(ExitStack())
        stop = stopping.enter_context(stop_requests())
        write_atomically(run_dir / "config.yaml", config_to_yaml(config))
        tracker = stack.enter_context(Tracker(config, resume=resume))
        meta = json.dumps(circumstances(config, tracker.wandb_id), indent=1)
        write_atomically(run_dir / "meta.json", meta + "\n")
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


def circumstances(config: Config, wandb_id: str | None) -> dict[str, Any]:
    """What `meta.json` says of a run."""
    from metarl.tracking import metadata

    threads = config.rollout
    return metadata(config.device, threads.torch_threads, threads.physics_threads, wandb_id)
