"""What W&B is told by variables, and where its files go; it takes wrong ones badly."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

from metarl.tracking.connection import MODES

_FOLDERS = {"WANDB_DATA_DIR": "data", "WANDB_CACHE_DIR": "cache", "WANDB_CONFIG_DIR": "config"}


class Variables:
    """W&B's own variables, made right while it runs.

    Args:
        root: The folder of W&B's files in the run folder.
        warn: Shows a warning.
    """

    def __init__(self, root: Path, warn: Callable[[str], None]) -> None:
        self._root, self._warn = root, warn
        self._before: dict[str, str | None] = {}

    def settle(self) -> None:
        """Give every folder that can be written, and a mode that W&B knows."""
        for variable, name in _FOLDERS.items():
            given, own = os.environ.get(variable), str((self._root / name).absolute())
            if given is None:
                if name != "config":  # artifacts would be staged in the home folder
                    self._set(variable, own)
                continue
            try:
                Path(given).mkdir(parents=True, exist_ok=True)
                check_folder(Path(given))
            except OSError as error:
                reason = error.strerror or error
                self._warn(
                    f"{variable} is {given}, which cannot be written ({reason}); "
                    f"W&B takes {own} instead"
                )
                self._set(variable, own)
        mode = os.environ.get("WANDB_MODE", "")
        if mode not in MODES:
            self._set("WANDB_MODE", MODES.get(mode.strip().lower()))

    def restore(self) -> None:
        """Leave the variables as they were."""
        for variable, value in self._before.items():
            if value is None:
                os.environ.pop(variable, None)
            else:
                os.environ[variable] = value
        self._before.clear()

    def _set(self, variable: str, value: str | None) -> None:
        self._before.setdefault(variable, os.environ.get(variable))
        if value is None:
            os.environ.pop(variable, None)
        else:
            os.environ[variable] = value


def check_folder(folder: Path) -> None:
    """Raise the OSError that W&B's process would swallow: unwritable, or no space left."""
    folder.mkdir(exist_ok=True)
    probe = folder / f".writable-{os.getpid()}"
    try:
        probe.write_bytes(bytes(32768))  # the size of the blocks that W&B writes
    finally:
        probe.unlink(missing_ok=True)


def set_aside(root: Path, wandb_id: str) -> None:
    """Move earlier segments of an offline run out of the way of `wandb sync`.

    The segment that follows holds their numbers too; two of one id would overwrite each other.
    """
    for segment in sorted(root.glob(f"offline-run-*-{wandb_id}")):
        place = root / "superseded"
        place.mkdir(exist_ok=True)
        free = place / segment.name
        while free.exists():  # segments are called after the second in which they began
            free = free.with_name(f"{free.name}_")
        os.rename(segment, free)
