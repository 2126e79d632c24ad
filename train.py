"""Meta-train an agent: ``python train.py --config configs/maml_navigation.yaml``."""

from __future__ import annotations

import json
import shlex
import sys
from collections.abc import Sequence

from metarl.config.command_line import TrainArguments, parse_train_arguments
from metarl.errors import EnvironmentFailure, UserError


def main(argv: Sequence[str]) -> int:
    """Train, and return the exit code: 0 finished, 1 failed, 2 wrong input, 130 interrupted."""
    try:
        return train(parse_train_arguments(argv))
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except EnvironmentFailure as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return 130


def train(arguments: TrainArguments) -> int:
    """Wire the parts and run them."""
    # Imported here, so that --help and wrong input answer at once.
    import envs
    from evaluate import evaluate_and_report
    from metarl.config import config_to_yaml
    from metarl.run_folder import prepare_run_dir, write_atomically
    from metarl.tracking import metadata
    from metarl.trainer import Diverged, Interrupted, Trainer, make_tracker

    config, run_dir = arguments.config, arguments.run_dir
    resume_command = f"python train.py --run-dir {shlex.quote(str(run_dir))} --resume"
    prepare_run_dir(run_dir, arguments.resume)
    trainer = Trainer(config, run_dir, arguments.resume)
    try:
        write_atomically(run_dir / "config.yaml", config_to_yaml(config))
        with make_tracker(config, run_dir, arguments.resume) as tracker:
            rollout = config.rollout
            meta = metadata(
                config.device, rollout.torch_threads, rollout.physics_threads, tracker.wandb_id
            )
            write_atomically(run_dir / "meta.json", json.dumps(meta, indent=1) + "\n")
            tracker.print(f"Training {config.algorithm.name} on {config.env.name} in {run_dir}")
            try:
                run = trainer.run(tracker)
            except Interrupted:
                tracker.print(f"Stopped at iteration {trainer.iteration}; go on: {resume_command}")
                tracker.finish(130)
                return 130
            except (Diverged, envs.EnvironmentFailure) as error:
                tracker.finish(1)
                print(f"error: {error}", file=sys.stderr)
                return 1
            tracker.print(f"Trained {run.iteration} iterations, {trainer.env_steps} env steps")
            if config.evaluation.at_end:
                options = config.evaluation
                evaluate_and_report(
                    run,
                    run_dir,
                    options.split,
                    options.episodes,
                    options.adaptation_steps,
                    tracker=tracker,
                )
    finally:
        trainer.close()
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
