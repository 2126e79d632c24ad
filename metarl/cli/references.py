"""Train references: ``python -m metarl.references --config configs/quickstart.yaml``."""

from __future__ import annotations

import dataclasses
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from metarl.cli.process import run_program, stop_requests

if TYPE_CHECKING:
    from metarl.cli.reference_command_line import ReferenceArguments
    from metarl.config import Config
    from metarl.evaluation.reference_kinds import PerTaskKind, TrainedKind
    from metarl.experience.rollout import RolloutWorker


def main(argv: Sequence[str]) -> int:
    """Train, and return the exit code: 0 finished, 1 failed, 2 wrong input, 130 interrupted."""
    return run_program(lambda: make(argv))


def make(argv: Sequence[str]) -> int:
    """Train the kinds asked for that are not there."""
    from metarl.cli.reference_command_line import parse

    arguments, config, again = parse(argv)
    # Imported here, so that --help and wrong input answer at once.
    from metarl.evaluation.reference_kinds import PER_TASK, TRAINED
    from metarl.training.build import make_worker

    worker = make_worker(config)
    try:
        for kind in TRAINED:
            if kind in arguments.kind and not _train(kind, arguments, config, worker, again, argv):
                return 130
        for per_task in PER_TASK:
            if per_task in arguments.kind:
                _adapt(per_task, arguments, config, worker, again, argv)
    finally:
        worker.close()
    return 0


def _train(
    kind: TrainedKind,
    arguments: ReferenceArguments,
    config: Config,
    worker: RolloutWorker,
    again: bool,
    argv: Sequence[str],
) -> bool:
    """Train one reference unless it is there; False when it was interrupted."""
    from metarl.cli.progress import ProgressBar
    from metarl.config import config_to_dict
    from metarl.references import storage
    from metarl.references.settings import training_settings
    from metarl.references.training import train_reference

    definition = storage.definition_of(config_to_dict(config)["env"])
    folder = Path(arguments.folder)
    place = folder / storage.folder_name(definition) / kind
    there = storage.find(kind, definition, storage.search_path(folder))
    if there is not None and not again:
        print(f"There is a {kind} in {there} already; --again trains it anew.")
        return True
    if again:
        storage.training_file(place).unlink(missing_ok=True)
    settings = training_settings(config.env.name, kind)
    if arguments.env_steps is not None:
        settings = dataclasses.replace(settings, env_steps=arguments.env_steps)
    with stop_requests() as stop, ProgressBar(kind, settings.env_steps) as progress:
        finished = train_reference(
            kind,
            worker.env(settings.lanes),
            definition,
            settings,
            seed=arguments.seed,
            place=place,
            threads=config.rollout.torch_threads,
            circumstances=_circumstances(config, argv),
            progress=progress,
            stop=stop,
        )
    if finished:
        print(f"The {kind} is in {place}.")
    else:
        print(f"Stopped; the same command goes on with {storage.training_file(place)}.")
    return finished


def _adapt(
    kind: PerTaskKind,
    arguments: ReferenceArguments,
    config: Config,
    worker: RolloutWorker,
    again: bool,
    argv: Sequence[str],
) -> None:
    """Let PPO learn every task of a split, unless that is there."""
    from metarl import envs
    from metarl.cli.progress import ProgressBar
    from metarl.config import config_to_dict
    from metarl.errors import EnvironmentFailure, UserError
    from metarl.evaluation.plan import EvaluationPlan
    from metarl.references import per_task_results, storage
    from metarl.references.measurement import find_multitask

    definition = storage.definition_of(config_to_dict(config)["env"])
    folder = Path(arguments.folder)
    folders = storage.search_path(folder)
    defaults = config.evaluation
    split = arguments.split or defaults.split
    experience = per_task_results.Experience(
        split=split,
        axis=arguments.axis,
        adaptation_steps=arguments.adaptation_steps or defaults.adaptation_steps,
        episodes=arguments.episodes or defaults.episodes,
        seed=arguments.seed,
    )
    multitask = find_multitask(definition, folders) if kind == "fine_tuned" else None
    if kind == "fine_tuned" and multitask is None:
        raise UserError("fine_tuned needs the multitask policy: give --kind multitask,fine_tuned.")
    tasks, _ = EvaluationPlan.asked(defaults, split=split).tasks(worker.task_distribution)
    made_with = per_task_results.identity(kind, definition, experience, tasks, multitask)
    if per_task_results.read(made_with, folders) is not None and not again:
        print(f"There are results of {kind} already; --again makes them anew.")
        return
    env = worker.env(len(tasks) * experience.episodes)
    rounds = experience.adaptation_steps + 1
    try:
        with ProgressBar(kind, rounds, "rounds") as progress:
            evaluation = per_task_results.measure(
                kind,
                env,
                tasks,
                definition,
                experience,
                multitask,
                lambda k, _: progress.update(k),
            )
    except (FloatingPointError, envs.SimulationFailure) as error:
        raise EnvironmentFailure(f"{kind} failed. {error}") from error
    path = per_task_results.write(folder, made_with, evaluation, _circumstances(config, argv))
    means = "  ".join(f"{value:.2f}" for value in evaluation.task_returns.mean(axis=1))
    print(f"{kind} after 0 to {rounds - 1} rounds: {means}; in {path}.")


def _circumstances(config: Config, argv: Sequence[str]) -> dict[str, Any]:
    """Versions, machine, command and commit, for the record."""
    from metarl.tracking import metadata

    threads = config.rollout
    record = metadata("cpu", threads.torch_threads, threads.physics_threads)
    record["command"] = shlex.join(["python", "-m", "metarl.references", *argv])
    return {name: value for name, value in record.items() if name != "wandb_id"}


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
