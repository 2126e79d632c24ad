"""MuJoCo's own warnings, kept quiet where they say nothing."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import mujoco


@contextmanager
def silence() -> Iterator[None]:
    """Keep MuJoCo's warnings off the console and out of MUJOCO_LOG.TXT in the working folder.

    Gymnasium's model files draw one each (`settotalmass` is deprecated). Warnings about a
    simulation lose nothing: their counters are checked after every step.
    """
    before = mujoco.MjLogConfig.get()
    quiet = mujoco.MjLogConfig.get()
    quiet.logto_console = quiet.logto_file = False
    quiet.set()
    try:
        yield
    finally:
        before.set()
