"""The tracker that a trainer talks to."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from rich.console import Console

from metarl.config.fields import Config
from metarl.process import command_line
from metarl.storage.json_lines import JsonLines, plain, read_json_lines
from metarl.tracking.console import Display
from metarl.tracking.wandb_run import NO_MEDIA, Media, WandbRun

AXES = ("iteration", "env_steps")


class Tracker:
    """Records a training run: on the console, in the run folder, and in Weights & Biases.

    `metrics.jsonl` and `validation.jsonl` are the record; W&B is a copy that may fail at any time,
    with one warning. A resume cuts both back to its checkpoint before it opens a tracker.

    Args:
        config: The run's whole config; its run folder exists.
        resume: Whether the run folder holds the beginning of this run.
        console: Where to show progress; None for standard output.

    Raises:
        EnvironmentFailure: (any method) a file of the run folder cannot be written.
    """

    def __init__(
        self, config: Config, *, resume: bool = False, console: Console | None = None
    ) -> None:
        self._metrics = JsonLines(config.run_folder / "metrics.jsonl")
        self._validation = JsonLines(config.run_folder / "validation.jsonl")
        self._display = Display(config.name, config.iterations, console)
        self._finished = False
        self._wandb = WandbRun(config, resume=resume, warn=self.warn)
        if self._wandb.url:
            self.print(f"W&B: {self._wandb.url}")
        elif self._wandb.active:
            self.print(
                f"W&B is offline; upload with: wandb sync {command_line([str(self._wandb.folder)])}"
            )
        if resume:
            self._tell_wandb_again()
        self._display.start()

    @property
    def wandb_id(self) -> str | None:
        """The id of the W&B run, for `meta.json`; None without W&B."""
        return self._wandb.id

    def log(self, metrics: Mapping[str, Any]) -> None:
        """Record one meta-iteration: a line of `metrics.jsonl`, the display, W&B.

        Args:
            metrics: Numbers by name, with `iteration` and `env_steps` among them. The display
                shows the first and the last of `return/*`, so give them in the order of
                adaptation. Numbers that are not finite are written as null.
        """
        row = _row(metrics)
        self._metrics.write(row)
        self._display.update(row)
        self._tell_wandb(row)

    def log_validation(self, record: Mapping[str, Any], media: Media = NO_MEDIA) -> None:
        """Record a periodic validation: a line of `validation.jsonl`, and W&B with its media.

        Args:
            record: What goes on the line, with `iteration` and `env_steps`. W&B gets its numbers,
                `return/step_1` as `validation/return_step_1`.
            media: Such as a table of the returns per task.
        """
        row = _row(record)
        self._validation.write(row)
        self._tell_wandb_of_validation(row, media)

    def log_evaluation(
        self, split: str, record: Mapping[str, Any], media: Media, env_steps: int
    ) -> None:
        """Copy an evaluation to W&B, under `evaluation/<split>/`; its files are the report's own.

        Args:
            split: The set of tasks, such as held_out.
            record: Anything; W&B gets its numbers.
            media: Its plots, tables and videos.
            env_steps: Of the checkpoint.
        """
        _log_under(self._wandb, f"evaluation/{split}", env_steps, plain(record), media)

    def log_checkpoint(self, path: Path, iteration: int) -> None:
        """Offer a checkpoint (a folder or a file) to W&B as an artifact.

        It takes at most one in ten minutes and, in `finish`, the last: the cost is bounded however
        often a run writes checkpoints.
        """
        self._wandb.log_checkpoint(Path(path), iteration)

    def _tell_wandb(self, row: Mapping[str, Any]) -> None:
        """Log an iteration, unless the run that was gone on with has it from before."""
        if row["iteration"] > self._wandb.known["iteration"]:
            self._wandb.log(row["env_steps"], _numbers(row))

    def _tell_wandb_of_validation(self, row: Mapping[str, Any], media: Media = NO_MEDIA) -> None:
        if row["iteration"] > self._wandb.known["validation/last_iteration"]:
            # Its number under a name of its own says on a resume how far W&B has come.
            told = {**row, "last_iteration": row["iteration"]}
            _log_under(self._wandb, "validation", row["env_steps"], told, media)

    def _tell_wandb_again(self) -> None:
        """Log what the files hold and W&B does not: all of it in a new offline segment."""
        if not self._wandb.active:
            return
        paths = (self._metrics.path, self._validation.path)
        metrics, validation_lines = (read_json_lines(p) if p.is_file() else [] for p in paths)
        validations = {row["iteration"]: row for row in validation_lines}
        for row in metrics:
            self._tell_wandb(row)
            if validation := validations.get(row["iteration"]):
                self._tell_wandb_of_validation(validation)

    def print(self, text: str) -> None:
        """Show a note, above the live display where there is one."""
        self._display.print(text)

    def warn(self, text: str) -> None:
        """Show a warning."""
        self._display.warn(text)

    def finish(self, exit_code: int = 0) -> None:
        """Close everything, within a bounded time; a second call does nothing."""
        if self._finished:
            return
        self._finished = True
        self._display.stop()
        self._metrics.close()
        self._validation.close()
        self._wandb.finish(exit_code)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.finish(_exit_code(error))


def copy_evaluation(
    config: Config,
    files_dir: Path,
    split: str,
    record: Mapping[str, Any],
    media: Media,
    *,
    env_steps: int,
    say: Callable[[str], None],
) -> None:
    """Log an evaluation made after training under `evaluation/<split>/` of the run's W&B run.

    An online run is gone on with; an offline one gets a new segment in its group. The run folder
    is only read. Whatever W&B does, it costs one warning and a limited time.

    Args:
        config: The run's whole config.
        files_dir: Where W&B's own files go, in a folder `wandb`.
        split, record, media, env_steps: As for :meth:`Tracker.log_evaluation`.
        say: Shows a line to the user.
    """
    wandb = WandbRun(
        config, resume=True, warn=lambda text: say(f"warning: {text}"), files_dir=files_dir
    )
    _log_under(wandb, f"evaluation/{split}", env_steps, plain(record), media)
    if wandb.active:
        place = wandb.url or f"offline; upload with: wandb sync {command_line([str(wandb.folder)])}"
        say(f"W&B: {place}")
    wandb.finish(0)


def _log_under(
    wandb: WandbRun, prefix: str, env_steps: int, row: Mapping[str, Any], media: Media
) -> None:
    """Log the numbers of a row and its media, all with their names under one prefix."""
    values = {key.replace("/", "_"): value for key, value in _numbers(row).items()}
    values = {f"{prefix}/{key}": value for key, value in values.items() if key not in AXES}
    wandb.log(env_steps, values, media.under(prefix))


def _row(record: Mapping[str, Any]) -> dict[str, Any]:
    missing = [axis for axis in AXES if axis not in record]
    if missing:
        raise ValueError(f"a record needs {' and '.join(missing)}; it has {sorted(record)}")
    row: dict[str, Any] = plain(record)
    for axis in AXES:
        row[axis] = int(record[axis])
    return row


def _numbers(row: Mapping[str, Any]) -> dict[str, float]:
    return {key: value for key, value in row.items() if isinstance(value, int | float)}


def _exit_code(error: BaseException | None) -> int:
    if error is None:
        return 0
    if isinstance(error, KeyboardInterrupt):
        return 130
    if isinstance(error, SystemExit) and isinstance(error.code, int):
        return error.code
    return 1
