"""What `metarl train` is told that is no field of the config: about the job, not about the run."""

from __future__ import annotations

import re
from collections.abc import Collection, Sequence
from typing import Literal, NamedTuple

from metarl.config.messages import shown
from metarl.config.validation import Option
from metarl.errors import UserError

SWITCHES: dict[str, Collection[str]] = {
    "resume": ("auto",),
    "break_lock": (),
    "trust_code": (),
    "help": (),
}
"""Options that need no value, and the values that they may take."""
_NAMES = ("resume", "time_limit", "break_lock", "init_from")
_UNITS = {"d": 86400.0, "h": 3600.0, "m": 60.0, "min": 60.0, "s": 1.0}


class TrainOptions(NamedTuple):
    """How a training is to begin and to end.

    Attributes:
        resume: Go on with the run in the folder; "auto": if there is one.
        time_limit_s: Seconds from the program's start after which it is to have ended.
        break_lock: Take the run folder from another process.
        init_from: A run whose parameters a new run begins with.
    """

    resume: bool | Literal["auto"] = False
    time_limit_s: float | None = None
    break_lock: bool = False
    init_from: str | None = None


def split_train_options(options: Sequence[Option]) -> tuple[TrainOptions, list[Option]]:
    """The options of the job, and the rest, which are fields of the config.

    Raises:
        UserError: A time limit is no time.
    """
    own = {option.name: option.text for option in options if option.name in _NAMES}
    resume: bool | Literal["auto"] = "resume" in own
    if own.get("resume") == "auto":
        resume = "auto"
    limit = own.get("time_limit")
    init_from = own.get("init_from")
    if init_from is not None and (not init_from or resume is True):
        why = "is empty; give a run" if not init_from else "begins a new run: leave --resume out"
        raise UserError(f"--init-from {why}.")
    limit_s = None if limit is None else seconds(limit)
    job = TrainOptions(resume, limit_s, "break_lock" in own, init_from)
    return job, [option for option in options if option.name not in _NAMES]


def seconds(text: str) -> float:
    """A time as people and SLURM write it: 5400, 3h30m, 90m, 1:30:00, 1-00:00:00.

    Raises:
        UserError: it is none, or not above 0.
    """
    word = text.strip().lower()
    total = 0.0
    if re.fullmatch(r"\d{1,9}(\.\d{1,9})?", word):
        total = float(word)
    elif match := re.fullmatch(r"(?:(\d{1,4})-)?(\d{1,4})(?::(\d{1,2}))?(?::(\d{1,2}))?", word):
        days, *parts = match.groups()
        given = [int(part) for part in parts if part is not None]
        if days is None:  # minutes:seconds or hours:minutes:seconds
            given = [0] * (3 - len(given)) + given
        hours, minutes, rest = (*given, 0, 0)[:3]
        total = int(days or 0) * 86400.0 + hours * 3600.0 + minutes * 60.0 + rest
    elif re.fullmatch(r"(\d{1,9}(\.\d{1,9})?(d|h|min|m|s))+", word):
        for number, _, unit in re.findall(r"(\d+(\.\d+)?)(d|h|min|m|s)", word):
            total += float(number) * _UNITS[unit]
    if total <= 0:
        raise UserError(
            f"--time-limit is {shown(text)}; give seconds, or a time such as 3h30m, 03:30:00 or "
            "1-12:00:00."
        )
    return total
