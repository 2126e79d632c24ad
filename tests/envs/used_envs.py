"""Environments that tell how often they are built, for the tests of what vector ones share."""

from __future__ import annotations

from pathlib import Path

from tests.envs.user_envs import Reach


class Counted(Reach):
    """Reach, with a line in a file for every instance.

    Args:
        log: The file.
    """

    def __init__(self, log: str) -> None:
        super().__init__()
        with Path(log).open("a") as file:
            file.write("built\n")
