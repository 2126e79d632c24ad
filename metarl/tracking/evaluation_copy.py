"""An evaluation made after training, copied to the W&B run that it belongs to."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from shlex import quote
from typing import TYPE_CHECKING, Any

from metarl.config import config_to_dict
from metarl.storage.json_lines import plain
from metarl.tracking.tracker import log_under
from metarl.tracking.wandb_run import Media, WandbRun

if TYPE_CHECKING:
    from metarl.config import Config


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
    """Log an evaluation under `evaluation/<split>/` of a run that W&B tracked before.

    An online run is gone on with; an offline one gets a new segment in its group. The run folder
    is only read. Whatever W&B does, it costs one warning and a limited time.

    Args:
        config: The run's whole config.
        files_dir: Where W&B's own files go, in a folder `wandb`.
        split: The set of tasks, such as held_out.
        record: Anything; W&B gets its numbers.
        media: Its plots, tables and videos.
        env_steps: Of the checkpoint.
        say: Shows a line to the user.
    """
    wandb = WandbRun(
        config.run_folder,
        plain(config_to_dict(config)),
        config.tracking,
        name=config.name,
        resume=True,
        warn=lambda text: say(f"warning: {text}"),
        files_dir=files_dir,
    )
    log_under(wandb, f"evaluation/{split}", env_steps, plain(record), media)
    if wandb.active:
        place = wandb.url or f"offline; upload with: wandb sync {quote(str(wandb.folder))}"
        say(f"W&B: {place}")
    wandb.finish(0)
