"""Meta-train an agent: ``python train.py --config configs/maml_navigation.yaml``."""

from __future__ import annotations

import json
import shlex
import sys
from collections.abc import Sequence
from contextlib import ExitStack

from metarl.cli.process import run_program, stop_requests


def main(argv: Sequence[str]) -> int:
    """Train, and return the exit code: 0 finished, 1 failed, 2 wrong input, 130 interrupted."""
    return run_program(lambda: train(argv))


def train(argv: Sequence[str]) -> int:
    """Wire the parts and run them."""
    from metarl.cli.command_line import parse_train_arguments

    arguments = parse_train_arguments(argv)
    # Imported here, so that --help and wrong input answer at once.
    from evaluate import evaluate_and_report
    from metarl.config import config_to_yaml
    from metarl.storage.files import write_atomically
    from metarl.storage.run_folder import prepare_run_dir
    from metarl.tracking import metadata
    from metarl.training.runs import is_evaluated
    from metarl.training.trainer import Interrupted, Trainer, make_tracker

    config, run_dir = arguments.config, arguments.run_dir
    options, threads = config.evaluation, config.rollout
    prepare_run_dir(run_dir, arguments.resume)
    with ExitStack() as stack:
        trainer = Trainer(config, run_dir, arguments.resume)
        stack.callback(trainer.close)
        place = shlex.quote(str(run_dir))
        if trainer.finished and (
            not options.at_end or is_evaluated(run_dir, options.split, trainer.iteration)
        ):
            print(
                f"The run in {run_dir} is finished: {trainer.iteration} iterations, "
                f"{trainer.env_steps} env steps. A larger --iterations trains on; "
                f"python evaluate.py --run {place} measures again."
            )
            return 0
        go_on = f"go on: python train.py --run-dir {place} --resume"
        stopping = stack.enter_context(ExitStack())
        stop = stopping.enter_context(stop_requests())
        write_atomically(run_dir / "config.yaml", config_to_yaml(config))
        tracker = stack.enter_context(make_tracker(config, run_dir, arguments.resume))
        meta = metadata(
            config.device, threads.torch_threads, threads.physics_threads, tracker.wandb_id
        )
        write_atomically(run_dir / "meta.json", json.dumps(meta, indent=1) + "\n")
        tracker.print(f"Training {config.algorithm.name} on {config.env.name} in {run_dir}")
        try:
            run = trainer.run(tracker, stop)
            stopping.close()  # an interrupt need not wait for the evaluation: it can be repeated
            if stop:
                raise KeyboardInterrupt
            tracker.print(f"Trained {run.iteration} iterations, {trainer.env_steps} env steps")
            if options.at_end:
                evaluate_and_report(
                    run,
                    run_dir,
                    options.split,
                    options.episodes,
                    options.adaptation_steps,
                    tracker=tracker,
                )
        except Interrupted:
            tracker.print(f"Stopped at iteration {trainer.iteration}; {go_on}")
            tracker.finish(130)
            return 130
        except KeyboardInterrupt:
            tracker.print(f"Dropped what was under way; {go_on}")
            raise
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
