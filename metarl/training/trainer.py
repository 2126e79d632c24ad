"""The training loop, written once for every algorithm."""

from __future__ import annotations

import contextlib
import signal
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from metarl import envs
from metarl.config.loading import changes, fingerprint
from metarl.envs.registry import NAMES
from metarl.errors import EnvironmentFailure, UserError, warn
from metarl.evaluation.evaluation_seeds import evaluate_over_seeds, place
from metarl.evaluation.plan import EvaluationPlan
from metarl.measuring.evaluating import HEADLINE_MODE, fitted_plan
from metarl.measuring.options import EvaluationOptions, has_default_steps
from metarl.process import enough_memory
from metarl.random import Key
from metarl.runs.build import SOURCE, environment_source, make_algorithm, make_worker, restore
from metarl.runs.trained_run import TrainedRun
from metarl.runs.warm_start import recorded_start, warm_start
from metarl.storage.checkpoint import load_checkpoint, save_checkpoint
from metarl.storage.files import sync_file, writing
from metarl.storage.run_folder import missing_lines, truncate_metrics
from metarl.storage.segments import Buffer, check_room, read_segments
from metarl.tracking.tracker import Tracker
from metarl.tracking.wandb_run import Media
from metarl.training.pace import Pace

if TYPE_CHECKING:
    from metarl.config.fields import Config


FAR_KL = 1.0
"""Nats between the policies before and after an update: a good run's stay below 0.1, mostly."""

_CURES = {
    "kl/update": "set algorithm.target_kl to 0.1 or less, lower algorithm.lr, or raise min_std",
    "kl/outer": "lower algorithm.outer.lr",
}


class Diverged(EnvironmentFailure):
    """Training met a number that is not finite; the last checkpoint is from before."""


class Trainer:
    """Meta-trains: collect, update, log, checkpoint, validate, until the budget is spent.

    Args:
        config: Resolved; its run folder is prepared.
        resume: Go on from the newest checkpoint in it.
        pace: Knows how long iterations take, and the time limit.
        init_from: A run whose parameters a new run begins with.

    Raises:
        UserError: the environment or the algorithm refuses its config, or there is no good
            checkpoint to resume.
    """

    def __init__(
        self,
        config: Config,
        resume: bool,
        pace: Pace | None = None,
        init_from: str | Path | None = None,
    ) -> None:
        self.config = config
        self.pace = pace or Pace()
        self.run_dir = run_dir = config.run_folder
        self.iteration = 0
        self.env_steps = 0
        self._seconds_before = 0.0  # of the run's earlier segments
        self._warned = False  # of updates that go too far: once is enough
        self._started = time.perf_counter()
        torch.set_num_threads(config.rollout.torch_threads)
        self.worker = make_worker(config)
        self.algorithm = make_algorithm(config, self.worker)
        self._buffers: Mapping[str, Buffer] = getattr(self.algorithm, "buffers", {})
        self.room = check_room(self._buffers, run_dir)  # what replay buffers take, in words
        # Now, since its file may be edited while it is trained on.
        self.source = environment_source(config, self.worker)
        self.at_end: EvaluationPlan | None = None  # the evaluation that the run ends with
        if config.evaluation.at_end:
            at_end = EvaluationOptions.model_validate({}).plan(config.evaluation)
            self.at_end = fitted_plan(self.run_so_far, at_end)
        plans = [self._validation_plan] if config.validation.enabled else []
        plans += [self.at_end] if self.at_end is not None else []
        for plan in plans:  # better refused now than then
            self.worker.expect(plan.tasks(self.worker.task_distribution), plan.episodes)
        self.started_from = recorded_start(run_dir) if resume else None
        if resume and _has_begun(run_dir):
            self._restore()
        elif init_from is not None or self.started_from is not None:
            self._start_from(init_from)
        metrics = run_dir / "metrics.jsonl"
        truncate_metrics(metrics, self.iteration)
        if missing := missing_lines(metrics, self.iteration):
            warn(missing)
        self._validated = truncate_metrics(run_dir / "validation.jsonl", self.iteration)

    @property
    def finished(self) -> bool:
        """Whether the budget is spent and all that belongs to it is recorded."""
        return self._budget_spent() and not self._validation_due()

    @property
    def run_so_far(self) -> TrainedRun:
        """The run at the iteration that is reached."""
        return TrainedRun(self.config, self.algorithm, self.worker, self.iteration, self.env_steps)

    def run(
        self,
        tracker: Tracker,
        stop: list[int] | None = None,
        confirm: Callable[[], None] = lambda: None,
    ) -> TrainedRun:
        """Train to the end of the budget, or until a stop is requested; either way all is saved.

        Where the time limit leaves no room for another iteration, the stop is requested here.

        Args:
            tracker: Records everything.
            stop: Signals received, see :func:`metarl.process.stop_requests`.
            confirm: Asked before an iteration is recorded; raises where the run folder is no
                longer this process's.

        Raises:
            Diverged: A tensor of the rollout, a loss or the gradient is not finite.
            EnvironmentFailure: The run folder cannot be written, or the environment failed.
        """
        stop = [] if stop is None else stop
        if self.iteration == 0:
            self._checkpoint(tracker)
        if not stop and self._validation_due():  # a kill came between checkpoint and validation
            self._validate(tracker)
        while not stop and not self._budget_spent():
            if not self.pace.fits():
                tracker.print("The time limit leaves no room for another iteration")
                stop.append(signal.SIGTERM)
                break
            self.pace.begin(self.iteration + 1)
            self._iterate(tracker, confirm)
            if self.iteration % self.config.checkpoint.interval == 0 or self._budget_spent():
                self._checkpoint(tracker)
            if not stop and self._validation_due():
                self._validate(tracker)
            self.pace.end()
        if stop:
            self._checkpoint(tracker)
        return self.run_so_far

    def probe(self) -> list[str]:
        """What is to be warned of in environments of the user's, before it is trained on them."""
        warnings: list[str] = []
        for which, section in self.config.envs.items():
            worker = self.worker if which == "env" else self.worker.others[which]
            # A failure training will meet as well, if it is not the probe's fault.
            with contextlib.suppress(envs.SimulationFailure):
                warnings += [] if section.name in NAMES else worker.probe(section.name)
        return warnings

    def _iterate(self, tracker: Tracker, confirm: Callable[[], None]) -> None:
        """One meta-iteration: data, update, one line of metrics."""
        self.iteration += 1
        key = Key(self.config.seed, self.iteration)
        start, rollout_before = time.perf_counter(), self._rollout_seconds()
        try:
            with enough_memory(f"Iteration {self.iteration}", "take fewer tasks or episodes"):
                batch = self.algorithm.collect(self.worker, key)
                collected = time.perf_counter()
                metrics = self.algorithm.update(batch)
        except FloatingPointError as error:
            raise Diverged(f"Training diverged in iteration {self.iteration}: {error}.") from error
        except envs.SimulationFailure as error:
            raise EnvironmentFailure(
                f"Training failed in iteration {self.iteration}. {error}"
            ) from error
        end = time.perf_counter()
        self.env_steps += batch.env_steps
        rollout = self._rollout_seconds() - rollout_before
        confirm()
        tracker.log(
            {
                "iteration": self.iteration,
                "env_steps": self.env_steps,
                "wall_time_s": self._wall_time(),
                **batch.metrics,
                **metrics,
                "time/rollout": rollout,
                "time/adapt": collected - start - rollout,
                "time/update": end - collected,
                "env_steps_per_s": batch.env_steps / (end - start),
            }
        )
        if not self._warned and (warning := _far_update(self.iteration, metrics)):
            self._warned = True
            tracker.warn(warning)

    def _validate(self, tracker: Tracker) -> None:
        """Returns on the validation tasks; keyed apart, so training never notices."""
        key = Key(self.config.seed, self.iteration, evaluation=True)
        plan = self._validation_plan
        mode = plan.modes[0]
        if len(plan.modes) > 1:
            mode = HEADLINE_MODE[self.algorithm.agent("stochastic", key).adaptation_axis]
        tasks = plan.tasks(self.worker.task_distribution)
        try:
            what = f"The validation after iteration {self.iteration}"
            with enough_memory(what, "take fewer validation.episodes"):
                where = place(self.worker, tasks, plan)
                agent = self.algorithm.agent(mode, key)
                measured = evaluate_over_seeds(lambda seed: agent, where, tasks, plan)
        except (FloatingPointError, envs.SimulationFailure) as error:
            raise Diverged(
                f"The validation after iteration {self.iteration} failed. {error}"
            ) from error
        returns, names = measured.task_returns, measured.measurement_keys  # [K+1, n]
        record: dict[str, Any] = {"iteration": self.iteration, "env_steps": self.env_steps}
        by = measured.measure
        record |= {f"{by}/{n}": float(r.mean()) for n, r in zip(names, returns, strict=True)}
        if measured.success is not None:
            rates = zip(names, measured.success.mean(axis=(1, 2)), strict=True)
            record |= {f"success/{n}": float(rate) for n, rate in rates}
        for own, values in measured.episode_measures.items():
            means = zip(names, values.mean(axis=(1, 2)), strict=True)
            record |= {f"{own}/{n}": float(mean) for n, mean in means}
        columns = [*measured.task_columns, *names]
        rows = [[*task, *by_step] for task, by_step in zip(tasks, returns.T, strict=True)]
        rows = [[float(x) for x in row] for row in rows]
        tracker.log_validation(record, Media(tables={measured.by.table: (columns, rows)}))
        self._validated = self.iteration

    @property
    def _validation_plan(self) -> EvaluationPlan:
        options = self.config.validation
        plan = EvaluationPlan(
            "validation",
            options.episodes,
            options.adaptation_steps,
            seed=self.config.seed,
            default_steps=has_default_steps(options),
        )
        return fitted_plan(self.run_so_far, plan)

    def _validation_due(self) -> bool:
        """Whether this iteration is one to validate after, and that has not happened yet."""
        options = self.config.validation
        if not options.enabled or self.iteration == 0 or self._validated == self.iteration:
            return False
        return self.iteration % options.interval == 0 or self._budget_spent()

    def _checkpoint(self, tracker: Tracker) -> None:
        if self.iteration > 0:  # a checkpoint promises the lines up to it, also after a power cut
            metrics = self.run_dir / "metrics.jsonl"
            with writing(metrics):
                sync_file(metrics)
        path = save_checkpoint(
            self.run_dir,
            self.iteration,
            {
                "algorithm": self.algorithm.state_dict(),
                "wall_time_s": self._wall_time(),
                SOURCE: self.source,
            },
            env_steps=self.env_steps,
            fingerprint=fingerprint(self.config),
            keep=self.config.checkpoint.keep,
            buffers=self._buffers,
        )
        tracker.log_checkpoint(path, self.iteration)

    def _start_from(self, run: str | Path | None) -> None:
        """With what another run has learned; None: the one that it was to begin with before."""
        before = self.started_from
        self.started_from = warm_start(self.algorithm, run or (before or {})["run"])
        if before is not None and self.started_from["sha256"] != before["sha256"]:
            raise UserError(
                f"{self.run_dir} was to begin with iteration {before['iteration']} of "
                f"{before['run']}, which has another checkpoint now."
            )

    def _restore(self) -> None:
        saved = load_checkpoint(
            self.run_dir, changes=lambda made: changes(made, self.config), fall_back=True
        )
        restore(self.algorithm, saved.state, self.config, self.worker)
        read_segments(self.run_dir, saved.manifest["buffers"], self._buffers)
        self.iteration = saved.iteration
        self.env_steps = saved.manifest["env_steps"]
        self._seconds_before = saved.state["wall_time_s"]

    def _rollout_seconds(self) -> float:
        return sum(w.seconds for w in (self.worker, *self.worker.others.values()))

    def _wall_time(self) -> float:
        return self._seconds_before + time.perf_counter() - self._started

    def _budget_spent(self) -> bool:
        config = self.config
        return self.iteration >= config.iterations or (
            config.max_env_steps is not None and self.env_steps >= config.max_env_steps
        )


def _far_update(iteration: int, metrics: Mapping[str, Any]) -> str | None:
    """What to say of an update that moved the policy so far that its data no longer tell of it."""
    for name, cure in _CURES.items():
        if metrics.get(name, 0.0) > FAR_KL:
            return (
                f"The update of iteration {iteration} moved the policy by {metrics[name]:.2g} nats "
                f"({name}), from which training may not recover: {cure}."
            )
    return None


def _has_begun(run_dir: Path) -> bool:
    """Whether there is anything to go on from: a run may be killed before its first checkpoint.

    Metrics without a checkpoint are not overwritten: someone has lost their checkpoints.
    """
    metrics = run_dir / "metrics.jsonl"
    lines = metrics.is_file() and metrics.stat().st_size > 0
    return lines or any((run_dir / "checkpoints").glob("[0-9]*"))
