"""The two errors that end a program with a sentence instead of a traceback, and warnings.

What others have written, an exception's message above all, may be of many lines, of a hundred
thousand characters, or full of a terminal's control sequences: it is :func:`one_line` here.
"""

from __future__ import annotations

import contextlib
import re
import sys

LONGEST = 500
"""Characters of what is quoted from others."""
_LONGEST_SENTENCE = 2000
_TAIL = 100
_CONTROL_SEQUENCE = re.compile(r"\x1b(\[[0-?]*[ -/]*[@-~]|\][^\x07\x1b]*(\x07|\x1b\\)?|[@-Z\\^_])")


def one_line(text: str, longest: int = LONGEST) -> str:
    """A text as one printable line: the whole of a short one, of a long one both ends.

    Line breaks become blanks, sequences that colour a terminal are left out, and in the place of
    any other character that does not print stands U+FFFD.
    """
    line = _CONTROL_SEQUENCE.sub("", text)
    if not line.isprintable():
        line = " ".join(line.split())
    if (cut := len(line) - longest) > 0:
        line = f"{line[: longest - _TAIL]} [... {cut} characters ...] {line[-_TAIL:]}"
    return "".join(letter if letter.isprintable() else "\ufffd" for letter in line)


def message_of(error: BaseException) -> str:
    """What an exception says, as :func:`one_line`; its text may be anything, or fail itself."""
    try:
        return one_line(str(error))
    except Exception:  # a user's __str__ can fail in any way
        return "its message cannot be shown"


def warn(sentence: str) -> None:
    """Print a warning on standard error, where nobody has to read it."""
    with contextlib.suppress(OSError):
        print(f"warning: {sentence}", file=sys.stderr)


class _Sentence(Exception):
    def __init__(self, sentence: object = "") -> None:
        super().__init__(one_line(str(sentence), _LONGEST_SENTENCE))


class UserError(_Sentence):
    """The user's input is wrong: one sentence says what, where and what would be right (exit 2)."""


class EnvironmentFailure(_Sentence):
    """The machine failed, e.g. no space is left in the run folder: one sentence (exit 1)."""
