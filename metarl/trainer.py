"""The training loop, written once for every algorithm."""

from __future__ import annotations

import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Any

import torch

from metarl.checkpoint import load_checkpoint, save_checkpoint
from metarl.config import config_to_dict, fingerprint
from metarl.evaluation.protocol import evaluate, split_tasks
from metarl.random import Key
from metarl.run_folder import truncate_metrics
from metarl.runs import HEADLINE_MODE, TrainedRun, make_algorithm, make_worker, restore
from metarl.tracking import Tracker

if TYPE_CHECKING:
    from metarl.config import Config


class Interrupted(Exception):
    """The user asked to stop; everything up to the last iteration is saved."""


class Diverged(Exception):
    """Training met a number that is not finite; the last checkpoint is from before."""


class Trainer:
    """Meta-trains: collect, update, log, checkpoint, validate, until the budget is spent.

    Args:
        config: Resolved.
        run_dir: The prepared run folder.
        resume: Go on from the newest checkpoint in it.
    """

    def __init__(self, config: Config, run_dir: Path, resume: bool) -> None:
        self.config = config
        self.run_dir = run_dir
        self.iteration = 0
        self.env_steps = 0
        self._seconds_before = 0.0  # of the run's earlier segments
        self._started = time.perf_counter()
        torch.set_num_threads(config.rollout.torch_threads)
        self.worker = make_worker(config)
        self.algorithm = make_algorithm(config, self.worker)
        if resume and (run_dir / "checkpoints").is_dir():
            self._restore()
        for name in ("metrics.jsonl", "validation.jsonl"):
            truncate_metrics(run_dir / name, self.iteration)

    def run(self, tracker: Tracker) -> TrainedRun:
        """Train to the end of the budget.

        Raises:
            Interrupted: SIGINT or SIGTERM came; the finished iterations are saved.
            Diverged: an observation, loss, gradient or parameter is not finite.
            EnvironmentFailure: the run folder cannot be written, or the environment failed.
        """
        config = self.config
        with _stop_requests() as stop:
            if self.iteration == 0:
                self._checkpoint(tracker)
            while self.iteration < config.iterations and not self._budget_spent():
                self._iterate(tracker)
                due = self.iteration % config.checkpoint.interval == 0
                last = self.iteration == config.iterations or self._budget_spent()
                if due or last or stop:
                    self._checkpoint(tracker)
                if stop:
                    raise Interrupted
                if config.validation.enabled and (
                    last or self.iteration % config.validation.interval == 0
                ):
                    self._validate(tracker)
        return TrainedRun(config, self.algorithm, self.worker, self.iteration)

    def close(self) -> None:
        """End the environments."""
        self.worker.close()

    def _iterate(self, tracker: Tracker) -> None:
        """One meta-iteration: data, update, one line of metrics."""
        self.iteration += 1
        key = Key(self.config.seed, self.iteration)
        start, rollout_before = time.perf_counter(), self.worker.seconds
        try:
            batch = self.algorithm.collect(self.worker, key)
            collected = time.perf_counter()
            metrics = self.algorithm.update(batch)
        except FloatingPointError as error:
            raise Diverged(f"Training diverged in iteration {self.iteration}: {error}.") from error
        end = time.perf_counter()
        self.env_steps += batch.env_steps
        rollout = self.worker.seconds - rollout_before
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

    def _validate(self, tracker: Tracker) -> None:
        """Returns on the validation tasks; keyed apart, so training never notices."""
        options = self.config.validation
        key = Key(self.config.seed, self.iteration, evaluation=True)
        axis = self.algorithm.learner("stochastic", key).adaptation_axis
        mode = HEADLINE_MODE[axis]
        tasks, split = split_tasks(self.worker.task_distribution, "validation")
        measured = evaluate(
            self.algorithm.learner(mode, key),
            self.worker.env(len(tasks) * options.episodes),
            tasks,
            adaptation_steps=options.adaptation_steps,
            episodes=options.episodes,
            seed=self.config.seed,
            split=split,
        )
        returns = measured.task_returns  # [K+1, n]
        names = [f"step_{k}" if axis == "gradient_step" else f"episode_{k + 1}" for k in range(99)]
        record: dict[str, Any] = {"iteration": self.iteration, "env_steps": self.env_steps}
        record |= {f"return/{n}": float(r.mean()) for n, r in zip(names, returns, strict=False)}
        columns = [*measured.task_columns, *(names[k] for k in range(len(returns)))]
        rows = [[*task, *by_step] for task, by_step in zip(tasks, returns.T, strict=True)]
        rows = [[float(x) for x in row] for row in rows]
        tracker.log_validation(record, tables={"returns": (columns, rows)})

    def _checkpoint(self, tracker: Tracker) -> None:
        path = save_checkpoint(
            self.run_dir,
            self.iteration,
            {"algorithm": self.algorithm.state_dict(), "wall_time_s": self._wall_time()},
            env_steps=self.env_steps,
            fingerprint=fingerprint(self.config),
            keep=self.config.checkpoint.keep,
        )
        tracker.log_checkpoint(path, self.iteration)

    def _restore(self) -> None:
        saved = load_checkpoint(
            self.run_dir, expected_fingerprint=fingerprint(self.config), fall_back=True
        )
        restore(self.algorithm, saved.state["algorithm"], self.run_dir)
        self.iteration = saved.iteration
        self.env_steps = saved.manifest["env_steps"]
        self._seconds_before = saved.state["wall_time_s"]

    def _wall_time(self) -> float:
        return self._seconds_before + time.perf_counter() - self._started

    def _budget_spent(self) -> bool:
        budget = self.config.max_env_steps
        return budget is not None and self.env_steps >= budget


def make_tracker(config: Config, run_dir: Path, resume: bool) -> Tracker:
    """The tracker of a run."""
    options = config.tracking
    return Tracker(
        run_dir,
        config_to_dict(config),
        config.iterations,
        wandb=options.wandb,
        project=options.project,
        entity=options.entity,
        group=options.group,
        tags=options.tags,
        name=config.name,
        resume=resume,
    )


@contextmanager
def _stop_requests() -> Iterator[list[int]]:
    """Collects SIGINT and SIGTERM, so that an iteration can end before the run does.

    A second signal does not wait: it raises KeyboardInterrupt.
    """
    received: list[int] = []

    def handler(number: int, frame: FrameType | None) -> None:
        if received:
            raise KeyboardInterrupt
        received.append(number)

    before = {s: signal.signal(s, handler) for s in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield received
    finally:
        for number, previous in before.items():
            signal.signal(number, previous)
