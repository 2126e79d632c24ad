"""A job: a command of metarl with a folder of its own, in which its log and its record lie."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated

from pydantic import Field, TypeAdapter, ValidationError

from metarl.errors import one_line
from metarl.process import command_line
from metarl.storage.files import read_regular, write_atomically, writing
from metarl.storage.lock import Holder

RECORD, LOG = "job.json", "job.log"
_TAIL = 4096


@dataclass(frozen=True)
class Job:
    """What a suite has to do.

    Attributes:
        name: In the suite.
        folder: Its own.
        words: Of `metarl`.
        needs: The jobs that must have finished before it begins.
    """

    name: str
    folder: Path
    words: tuple[str, ...]
    needs: tuple[str, ...] = ()

    @property
    def command(self) -> str:
        """As the shell takes it."""
        return command_line(["metarl", *self.words])


@dataclass(frozen=True)
class Record:
    """The last start of a job, as its folder tells.

    Attributes:
        words: Of `metarl`.
        process: What ran it; its token is of this start alone.
        needs: The jobs that had finished before, with the token of their start: the job is to be
            done again when one of them is.
        exit_code: None until a suite has seen the end; of a process that a signal ended -N.
    """

    words: list[str]
    process: Holder
    needs: dict[str, Annotated[str, Field(max_length=32)]]
    exit_code: int | None = None


_ADAPTER = TypeAdapter(Record)


def read_record(job: Job) -> Record | None:
    """The last start of a job; None if there was none, or its record cannot be read."""
    try:
        return _ADAPTER.validate_json(read_regular(job.folder / RECORD), strict=True)
    except (OSError, ValidationError):
        return None


def write_record(folder: Path, record: Record) -> None:
    """Write the record of a job.

    Raises:
        EnvironmentFailure: it cannot be written.
    """
    write_atomically(folder / RECORD, json.dumps(asdict(record), indent=1) + "\n")


def start_process(
    folder: Path, words: list[str], needs: Mapping[str, str], variables: Mapping[str, str]
) -> subprocess.Popen[bytes]:
    """Start a job on this machine, and write its record.

    It has a session of its own: a signal from the terminal reaches the suite alone, which passes
    it on once, and a suite that is killed leaves its jobs at work.

    Args:
        folder: Of the job.
        words: Of `metarl`.
        needs: See :class:`Record`.
        variables: Of its environment, besides those of this process.

    Raises:
        EnvironmentFailure: the folder cannot be written.
    """
    with writing(folder):
        folder.mkdir(parents=True, exist_ok=True)
        with open(folder / LOG, "ab") as log:
            process = subprocess.Popen(
                [sys.executable, "-m", "metarl", *words],
                env={**os.environ, "PYTHONUNBUFFERED": "1", **variables},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
    write_record(folder, Record(words, Holder.of(process.pid), dict(needs)))
    return process


def last_words(job: Job) -> str:
    """The last line of a job's log."""
    try:
        with open(job.folder / LOG, "rb") as log:
            log.seek(max(0, log.seek(0, os.SEEK_END) - _TAIL))
            lines = log.read().decode("utf-8", "replace").splitlines()
    except OSError:
        return ""
    said = [line for line in lines if line.strip()]
    return one_line(said[-1].removeprefix("error: "), 300) if said else ""
