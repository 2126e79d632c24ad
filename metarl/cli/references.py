"""Train references: ``metarl references quickstart``."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from metarl.process import command_line, say, stop_requests

if TYPE_CHECKING:
    from metarl.cli.command_line import ReferenceArguments
    from metarl.config.fields import Config
    from metarl.evaluation.measurements import Evaluation
    from metarl.evaluation.plan import EvaluationPlan
    from metarl.evaluation.reference_kinds import AnewKind, PerTaskKind, TrainedKind
    from metarl.experience.rollout import RolloutWorker
    from metarl.references.per_task_results import PerTaskReference
    from metarl.references.storage import Definition
    from metarl.references.training import ReferenceTraining
    from metarl.runs.build import Source


def run(argv: Sequence[str]) -> int:
    """Train the kinds asked for that are not there."""
    from metarl.cli.command_line import parse_references_arguments

    arguments, config = parse_references_arguments(argv)
    # Imported here, so that --help and wrong input answer at once.
    from metarl.config.loading import config_to_dict
    from metarl.evaluation.reference_kinds import ANEW, PER_TASK, TRAINED
    from metarl.references.storage import Definition
    from metarl.runs.build import make_worker
    from metarl.storage.provenance import metadata

    threads = config.rollout
    record = metadata("cpu", threads.torch_threads, threads.physics_threads)
    record["command"] = command_line(["metarl", "references", *argv])
    del record["wandb_id"]
    worker = make_worker(config.model_copy(update={"device": "cpu"}))  # where they are trained
    try:
        definition = Definition.of(config_to_dict(config)["env"])
        command = _Command(arguments, config, definition, worker, record, Path(arguments.folder))
        command.train([kind for kind in TRAINED if kind in arguments.kind])
        command.learn_each_task([kind for kind in (*PER_TASK, *ANEW) if kind in arguments.kind])
    finally:
        worker.close()
    return 0


@dataclass(frozen=True)
class _Command:
    """Trains the references that one command asks for."""

    arguments: ReferenceArguments
    config: Config
    definition: Definition
    worker: Source
    circumstances: dict[str, Any]  # versions, machine, command and commit, for the record
    folder: Path

    def train(self, kinds: Sequence[TrainedKind]) -> None:
        """Train the references that are not there.

        Raises:
            KeyboardInterrupt: the user asked to stop; what was trained is saved.
        """
        trainings = [training for kind in kinds if (training := self._training(kind))]
        calls = [partial(_trained, training) for training in trainings]
        for training, finished in zip(trainings, self._each(calls), strict=True):
            if not finished:
                print(f"Stopped; the same command goes on with {training.unfinished}.")
                raise KeyboardInterrupt
            print(f"The {training.kind} is in {training.place}.")

    def _training(self, kind: TrainedKind) -> ReferenceTraining | None:
        """Of one reference; None if it is there."""
        from metarl.references import storage
        from metarl.references.settings import training_settings
        from metarl.references.training import ReferenceTraining

        arguments = self.arguments
        folder = self.folder / self.definition.key / kind
        folders = storage.search_path(self.folder)
        if not arguments.again:
            for path, _ in storage.stored(f"{kind}/reference.json", self.definition, folders):
                print(f"The {kind} is in {path.parent} already; --again trains it anew.")
                return None
        settings = training_settings(self.definition.name, kind)
        if arguments.env_steps is not None:
            settings = replace(settings, env_steps=arguments.env_steps)
        training = ReferenceTraining(
            kind,
            self.definition,
            settings,
            arguments.seed,
            folder,
            self.config.rollout.torch_threads,
            self.circumstances,
        )
        if arguments.again:
            training.unfinished.unlink(missing_ok=True)
        return training

    def learn_each_task(self, kinds: Sequence[PerTaskKind | AnewKind]) -> None:
        """Let every task of a split be learned, unless that is there."""
        references = [reference for kind in kinds for reference in self._missing(kind)]
        calls = [partial(_learned, reference) for reference in references]
        for reference, evaluation in zip(references, self._each(calls), strict=True):
            path = reference.write(self.folder, evaluation, self.circumstances)
            means = "  ".join(f"{value:.2f}" for value in evaluation.task_returns.mean(axis=1))
            rounds = reference.plan.adaptation_steps
            print(f"{reference.name} after 0 to {rounds} rounds: {means}; in {path}.")

    def _missing(self, kind: PerTaskKind | AnewKind) -> list[PerTaskReference]:
        """Those of a kind that learn each task and whose results are not there."""
        from metarl.config.validation import validated
        from metarl.errors import UserError
        from metarl.measuring.options import EvaluationOptions
        from metarl.references import storage

        arguments = self.arguments
        own = {"split", "episodes", "adaptation_steps", "seed", "evaluation_seeds"}
        options = validated(EvaluationOptions, arguments.model_dump(include=own))
        plan = options.plan(self.config.evaluation)
        if plan.adaptation_steps == 0:
            raise UserError(
                f"{kind} learns each task in rounds of adaptation, and evaluation.adaptation_steps "
                "is 0: give --adaptation-steps."
            )
        folders, missing = storage.search_path(self.folder), []
        for reference in self._references(kind, plan, folders):
            if reference.read(folders) is not None and not arguments.again:
                print(f"There are results of {reference.name} already; --again makes them anew.")
            else:
                missing.append(reference)
        return missing

    def _references(
        self, kind: PerTaskKind | AnewKind, plan: EvaluationPlan, folders: list[Path]
    ) -> list[PerTaskReference]:
        """All of a kind: one, or one for every evaluation seed."""
        from metarl.errors import UserError
        from metarl.references import storage
        from metarl.references.per_task_results import PerTaskReference
        from metarl.references.trained_anew import TrainedAnew, recipe_in

        tasks = plan.tasks(self.worker.task_distribution)
        if kind != "from_scratch" and kind != "fine_tuned":  # mypy narrows so
            recipe = recipe_in(self.config.algorithm)
            return list(TrainedAnew.each(kind, self.definition, plan, tasks, recipe))
        multitask = None
        if kind == "fine_tuned":
            multitask = storage.find("multitask", self.definition, folders)
            if multitask is None:
                raise UserError(
                    "fine_tuned needs the multitask policy: give --kind multitask,fine_tuned."
                )
        axis = self.arguments.axis
        return [PerTaskReference(kind, self.definition, plan, axis, tasks, multitask)]

    def _each(self, calls: Sequence[Callable[[RolloutWorker], Any]]) -> Iterator[Any]:
        """What these give, wherever the worker has them called."""
        worker: Any = self.worker
        if calls:
            worker.env(1)  # few-shot learning, which has none, says so
        return worker.each(calls) if calls else iter(())


def _trained(training: ReferenceTraining, worker: RolloutWorker) -> bool:
    """Train a reference; False if that was stopped."""
    from metarl.references.training import train_reference
    from metarl.tracking.console import Display

    settings = training.settings
    env = worker.env(settings.lanes)
    display = Display(training.kind, -(-settings.env_steps // (settings.lanes * env.horizon)))
    with stop_requests() as stop, ExitStack() as stack:
        stack.callback(display.stop)
        display.start()
        return train_reference(training, env, display.update, stop)


def _learned(reference: PerTaskReference, worker: RolloutWorker) -> Evaluation:
    """Let the tasks of a reference be learned."""
    from metarl import envs
    from metarl.errors import EnvironmentFailure, UserError, message_of

    name, plan = reference.name, reference.plan
    try:
        env = worker.env(len(reference.tasks) * plan.episodes)
        return reference.measure(env, lambda k, n: say(f"{name}: round {k} of {n}"))
    except (FloatingPointError, envs.SimulationFailure) as error:
        raise EnvironmentFailure(f"{name} failed. {error}") from error
    except ValueError as error:
        said = f"{name} on {reference.definition.name}: {message_of(error)}."
        raise UserError(said) from error
