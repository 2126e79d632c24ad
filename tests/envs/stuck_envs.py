"""Environments that wait: for ever, or for somebody at the keyboard."""

from __future__ import annotations

import pdb
import time
from typing import Any

import numpy as np

from tests.envs.user_envs import Chooser


class Stuck(Chooser):
    """Its best action is 6 in the task that never returns.

    Args:
        at: The method that hangs.
        holds_gil: Hang in C code that lets no other thread of its process run.
        seconds: For how long, if not.
    """

    def __init__(self, at: str = "step", holds_gil: bool = False, seconds: float = 3600.0) -> None:
        self._at, self._holds_gil, self._seconds = at, holds_gil, seconds
        self._hang("__init__")

    def _hang(self, where: str) -> None:
        if where == self._at and (where == "__init__" or self._task[0] == 6.0):
            if self._holds_gil:
                pow(3, 10**9)
            time.sleep(self._seconds)

    def reset(self, *, seed: int | None = None, options: Any = None) -> tuple[np.ndarray, dict]:
        self._hang("reset")
        return super().reset(seed=seed)

    def step(self, action: int) -> tuple[np.ndarray, float, bool, bool, dict]:
        self._hang("step")
        return super().step(action)


class Asks(Chooser):
    """Reads the standard input.

    Args:
        by: How.
    """

    def __init__(self, by: str = "input") -> None:
        self._by = by

    def step(self, action: int) -> tuple[np.ndarray, float, bool, bool, dict]:
        if self._by == "input":
            input("How good was it? ")
        else:
            pdb.set_trace()  # what breakpoint() calls, unless the test runner took its place
            action += 0
        return super().step(action)
