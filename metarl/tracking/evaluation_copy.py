"""An evaluation made after training, copied to the W&B run that it belongs to."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from shlex import quote
from typing import Any, Literal

from metarl.storage.json_lines import plain
from metarl.tracking.tracker import log_under
from metarl.tracking.wandb_run import Table, WandbRun


def copy_evaluation(
    run_dir: Path,
    files_dir: Path,
    config: Mapping[str, Any],
    split: str,
    record: Mapping[str, Any],
    *,
    env_steps: int,
    mode: Literal["auto", "online", "offline", "disabled"],
    project: str,
    entity: str | None,
    group: str | None,
    tags: Sequence[str],
    name: str,
    say: Callable[[str], None],
    figures: Mapping[str, Path] | None = None,
    tables: Mapping[str, Table] | None = None,
    videos: Mapping[str, Path] | None = None,
) -> None:
    """Log an evaluation under `evaluation/<split>/` of a run that W&B tracked before.

    An online run is gone on with; an offline one gets a new segment in its group. The run folder
    is only read. Whatever W&B does, it costs one warning and a limited time.

    Args:
        run_dir: The run folder.
        files_dir: Where W&B's own files go, in a folder `wandb`.
        config: The whole resolved config.
        split: The set of tasks, such as held_out.
        record: Anything; W&B gets its numbers.
        env_steps: Of the checkpoint.
        mode: As for :class:`metarl.tracking.Tracker`, like what follows up to the name.
        project: The W&B project.
        entity: The W&B user or team.
        group: The W&B group.
        tags: W&B tags.
        name: The run's name.
        say: Shows a line to the user.
        figures: Image files by name.
        tables: (columns, rows) by name.
        videos: GIF or MP4 files by name.
    """
    wandb = WandbRun(
        run_dir,
        plain(config),
        mode=mode,
        project=project,
        entity=entity,
        group=group,
        tags=tags,
        name=name,
        resume=True,
        warn=lambda text: say(f"warning: {text}"),
        files_dir=files_dir,
    )
    log_under(wandb, f"evaluation/{split}", env_steps, plain(record), figures, tables, videos)
    if wandb.active:
        place = wandb.url or f"offline; upload with: wandb sync {quote(str(wandb.folder))}"
        say(f"W&B: {place}")
    wandb.finish(0)
