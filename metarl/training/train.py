"""A whole run: trained in its folder, with all its files, and evaluated at the end."""

from __future__ import annotations

import json
from contextlib import ExitStack, closing
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from metarl.config.loading import config_to_dict, config_to_yaml
from metarl.config.trust import trusting
from metarl.errors import UserError
from metarl.measuring.evaluating import is_evaluated
from metarl.measuring.publishing import evaluate_and_report
from metarl.process import command_line, stop_requests, time_limit
from metarl.runs.build import SOURCE
from metarl.storage.files import write_atomically
from metarl.storage.lock import RunLock
from metarl.storage.provenance import metadata
from metarl.storage.run_folder import (
    clear_failed_start,
    failed_at_start,
    holds_run,
    make_run_dir,
)
from metarl.tracking.tracker import Tracker
from metarl.training.pace import Pace
from metarl.training.trainer import Trainer

if TYPE_CHECKING:
    from metarl.config.fields import Config
    from metarl.runs.trained_run import TrainedRun

_FINISHED = (
    "The run in {run.folder} is finished: {run.iteration} iterations, {run.experience}. "
    "A larger --iterations trains on; metarl evaluate {words} measures again."
)


def train(
    config: Config,
    resume: bool | Literal["auto"] = False,
    *,
    time_limit_s: float | None = None,
    break_lock: bool = False,
    init_from: str | Path | None = None,
) -> TrainedRun:
    """Train in the config's run folder, and evaluate at the end.

    Args:
        config: Resolved.
        resume: Go on with the run in its folder; "auto": if there is one.
        time_limit_s: Seconds from the program's start after which it is to have ended.
        break_lock: Take the folder, whichever process writes to it.
        init_from: A run whose parameters and normalisers a new run begins with.

    Returns:
        The run as it is at its last iteration.

    Raises:
        UserError: the folder holds a run already, or none that can be resumed; the environment or
            the algorithm refuses the config.
        EnvironmentFailure: training or its environment failed, another process writes to the
            folder, or nothing can be written.
        KeyboardInterrupt: a stop signal came, and the iteration under way is finished and saved;
            or a second one; or the time is over.
    """
    run_dir = config.run_folder
    if init_from is not None and resume is True:
        raise UserError("--init-from begins a new run: leave --resume out.")
    make_run_dir(run_dir)
    with RunLock(run_dir, break_lock) as lock, time_limit(time_limit_s) as deadline:
        if resume == "auto":  # asked under the lock
            resume = holds_run(run_dir) and not failed_at_start(run_dir)
        if not resume:
            clear_failed_start(run_dir)
        trainer = Trainer(config, resume, Pace(deadline), init_from)
        with closing(trainer.worker):
            at_end = trainer.at_end
            if trainer.finished and (
                not at_end or is_evaluated(run_dir, at_end, trainer.iteration)
            ):
                words = command_line([str(run_dir), *trusting(config_to_dict(config))])
                print(_FINISHED.format(run=trainer.run_so_far, words=words))
                return trainer.run_so_far
            return _trained(trainer, resume, lock)


def _trained(trainer: Trainer, resume: bool, lock: RunLock) -> TrainedRun:
    """The run trained to its end and evaluated, with its files."""
    config, run_dir, at_end = trainer.config, trainer.run_dir, trainer.at_end
    words = ["--run-dir", str(run_dir), "--resume", *trusting(config_to_dict(config))]
    go_on = f"go on: metarl train {command_line(words)}"
    with ExitStack() as stack:
        stopping = stack.enter_context(ExitStack())
        stop = stopping.enter_context(stop_requests(trainer.pace.under_way))
        tracker = stack.enter_context(Tracker(config, resume=resume))
        threads = config.rollout
        made_with = metadata(
            config.device, threads.torch_threads, threads.physics_threads, tracker.wandb_id
        )
        made_with[SOURCE] = trainer.source
        if (start := trainer.started_from) is not None:
            made_with["init_from"] = start
        write_atomically(run_dir / "meta.json", json.dumps(made_with, indent=1) + "\n")
        # Second: the two together tell a start from a config.yaml that is the user's own.
        write_atomically(run_dir / "config.yaml", config_to_yaml(config))
        tracker.print(f"Training {config.algorithm.name} on {config.env_names} in {run_dir}")
        if start is not None and trainer.iteration == 0:
            tracker.print(
                f"Begins with {', '.join(start['taken'])} of {start['run']} at iteration "
                f"{start['iteration']}"
            )
        if trainer.room is not None:
            tracker.print(trainer.room)
        trainer.worker.say = tracker.print
        for warning in trainer.probe():
            tracker.warn(warning)
        try:
            run = trainer.run(tracker, stop, lock.confirm)
            stopping.close()  # an interrupt need not wait for the evaluation: it can be repeated
            if not stop:
                tracker.print(f"Trained {run.iteration} iterations, {run.experience}")
            if at_end is not None and not stop:
                evaluate_and_report(run, at_end, tracker=tracker)
        except KeyboardInterrupt:
            tracker.print(f"Dropped what was under way; {go_on}")
            raise
        if stop:
            tracker.print(f"Stopped at iteration {run.iteration}; {go_on}")
            raise KeyboardInterrupt
    return run
