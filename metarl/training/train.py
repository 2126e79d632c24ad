"""A whole run: trained in its folder, with all its files, and evaluated at the end."""

from __future__ import annotations

import json
from contextlib import ExitStack
from shlex import quote
from typing import TYPE_CHECKING

from metarl.config.loading import config_to_yaml
from metarl.measuring.evaluating import is_evaluated
from metarl.measuring.publishing import evaluate_and_report
from metarl.process import stop_requests
from metarl.storage.files import write_atomically
from metarl.storage.provenance import metadata
from metarl.storage.run_folder import prepare_run_dir
from metarl.tracking.tracker import Tracker
from metarl.training.trainer import Trainer

if TYPE_CHECKING:
    from metarl.config.fields import Config
    from metarl.runs.trained_run import TrainedRun

_FINISHED = (
    "The run in {run.folder} is finished: {run.iteration} iterations, {run.env_steps} env steps. "
    "A larger --iterations trains on; metarl evaluate {quoted} measures again."
)


def train(config: Config, resume: bool = False) -> TrainedRun:
    """Train in the config's run folder, and evaluate at the end.

    Args:
        config: Resolved.
        resume: Go on with the run in its folder.

    Returns:
        The run as it is at its last iteration.

    Raises:
        UserError: the folder holds a run already, or none that can be resumed; the environment or
            the algorithm refuses the config.
        EnvironmentFailure: training or its environment failed, or nothing can be written.
        KeyboardInterrupt: SIGINT or SIGTERM came; at the first one the iteration under way is
            finished and saved.
    """
    run_dir = config.run_folder
    if not resume:
        prepare_run_dir(run_dir)
    with ExitStack() as stack:
        trainer = Trainer(config, resume)
        stack.callback(trainer.worker.close)
        at_end, quoted = trainer.at_end, quote(str(run_dir))
        go_on = f"go on: metarl train --run-dir {quoted} --resume"
        if trainer.finished and (not at_end or is_evaluated(run_dir, at_end, trainer.iteration)):
            print(_FINISHED.format(run=trainer.run_so_far, quoted=quoted))
            return trainer.run_so_far
        stopping = stack.enter_context(ExitStack())
        stop = stopping.enter_context(stop_requests())
        write_atomically(run_dir / "config.yaml", config_to_yaml(config))
        tracker = stack.enter_context(Tracker(config, resume=resume))
        threads = config.rollout
        made_with = metadata(
            config.device, threads.torch_threads, threads.physics_threads, tracker.wandb_id
        )
        write_atomically(run_dir / "meta.json", json.dumps(made_with, indent=1) + "\n")
        tracker.print(f"Training {config.algorithm.name} on {config.env.name} in {run_dir}")
        try:
            run = trainer.run(tracker, stop)
            stopping.close()  # an interrupt need not wait for the evaluation: it can be repeated
            if not stop:
                tracker.print(f"Trained {run.iteration} iterations, {run.env_steps} env steps")
            if at_end is not None and not stop:
                evaluate_and_report(run, at_end, tracker=tracker)
        except KeyboardInterrupt:
            tracker.print(f"Dropped what was under way; {go_on}")
            raise
        if stop:
            tracker.print(f"Stopped at iteration {run.iteration}; {go_on}")
            raise KeyboardInterrupt
    return run
