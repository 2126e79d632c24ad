"""The config of a run, from its folder: what a stranger may have written."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from metarl.config.loading import config_from, default_name
from metarl.config.trust import Trust, named_code
from metarl.config.validation import Option
from metarl.config.yaml_text import read_yaml
from metarl.errors import UserError
from metarl.storage.run_folder import holds_run

if TYPE_CHECKING:
    from metarl.config.fields import Config


def load_run_config(
    run_dir: Path,
    trust: Trust,
    options: Sequence[Option] = (),
    checkpoint: int | Literal["latest"] | None = "latest",
) -> Config:
    """The config in a run folder; code is imported only if it is trusted and the run is whole.

    Args:
        run_dir: The folder.
        trust: Which code the config may name.
        options: Win over the config.
        checkpoint: The one that will be loaded, None for the newest good one, if there is any.

    Raises:
        UserError: There is no run, its config is wrong or names code that is not trusted, or it
            names code and the checkpoint is damaged.
    """
    path = run_dir / "config.yaml"
    if not holds_run(run_dir):
        raise UserError(f"{run_dir} is no run: it has no config.yaml.")
    data, origins = read_yaml(path)
    trust.check(data, origins)
    has_begun = (run_dir / "checkpoints").exists()
    if named_code(data) and (has_begun or checkpoint is not None):
        from metarl.storage.checkpoint import verify_checkpoint  # late: it loads PyTorch

        which = "latest" if checkpoint is None else checkpoint
        verify_checkpoint(run_dir, which, fall_back=checkpoint is None)
    data.setdefault("name", default_name(path))
    return config_from(data, options, origins, trust)
