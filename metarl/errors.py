"""The two errors that end a program with a sentence instead of a traceback."""

from __future__ import annotations


class UserError(Exception):
    """The user's input is wrong: one sentence says what, where and what would be right (exit 2)."""


class EnvironmentFailure(Exception):
    """The machine failed, e.g. no space is left in the run folder: one sentence (exit 1)."""
