"""Runs train.py and evaluate.py in forks of a process that has all imports behind it.

A job is a line of JSON on the standard input, its outcome a line on the standard output. A job may
be sent a signal after a delay, which can begin when a file has so many lines; be killed at its n-th
moment of writing to the disk; meet a full disk there; or race another.
"""

from __future__ import annotations

import builtins
import errno
import importlib
import io
import json
import os
import signal
import sys
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

import evaluate
import train
from tests.pictures import blank

# What the programs import only when they come to it.
for module in (
    "metarl.training.trainer",
    "metarl.algorithms.maml",
    "metarl.report.evaluation_report",
    "torch._dynamo",
):
    importlib.import_module(module)

DISK_OPERATIONS = ("replace", "rename", "fsync", "mkdir", "write")


def watch_disk(job: dict[str, Any], counts: Path) -> None:
    """Count what touches the disk, and kill the process at the n-th such operation.

    Every operation is two moments: before it and after it, or for a write, half done.
    """
    moments = 0

    def moment() -> None:
        nonlocal moments
        moments += 1
        counts.write_text(str(moments))
        if moments == job["kill_at"]:
            os.kill(os.getpid(), signal.SIGKILL)

    def watched(operation: Callable[..., Any], name: str) -> Callable[..., Any]:
        def call(*args: Any, **kwargs: Any) -> Any:
            if name != "write":
                moment()
                result = operation(*args, **kwargs)
                moment()
                return result
            descriptor, data = args
            done = operation(descriptor, data[: len(data) // 2])
            moment()
            return done + operation(descriptor, data[done:])

        return call

    for name in DISK_OPERATIONS:
        setattr(os, name, watched(getattr(os, name), name))


def fill_disk(where: str, first: int) -> None:
    """Let the n-th write to a file whose path has this part fail half-way, and all after it."""
    write, open_file = os.write, open
    matches = 0

    def full(path: str) -> bool:
        nonlocal matches
        matches += where in path
        return where in path and matches >= first

    def full_write(descriptor: int, data: bytes) -> int:
        if full(os.readlink(f"/proc/self/fd/{descriptor}")):
            write(descriptor, data[: len(data) // 2])
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return write(descriptor, data)

    def full_open(file: Any, mode: str = "r", *args: Any, **kwargs: Any) -> Any:
        if mode.strip("bt") != "r" and full(str(file)):
            open_file(file, mode, *args, **kwargs).close()
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(file))
        return open_file(file, mode, *args, **kwargs)

    os.write = full_write  # type: ignore[assignment]
    builtins.open = io.open = full_open  # type: ignore[assignment]


def work(job: dict[str, Any], output: str) -> None:
    """The child: run the program and leave with its exit code."""
    log = os.open(output, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    os.dup2(log, 1)
    os.dup2(log, 2)
    if job.get("counts"):
        watch_disk(job, Path(job["counts"]))
    if job.get("full"):
        fill_disk(job["full"], job.get("first", 1))
    code = 1
    try:
        code = {"train": train, "evaluate": evaluate}[job["program"]].main(job["argv"])
    except SystemExit as error:
        code = int(error.code or 0)
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


def count_lines(path: Path) -> int:
    return path.read_bytes().count(b"\n") if path.is_file() else 0


def serve(job: dict[str, Any]) -> dict[str, Any]:
    """The parent: fork, send the signal when it is due, wait."""
    started = time.monotonic()
    child = os.fork()
    if child == 0:
        work(job, job["output"])
    if job.get("signal"):
        wait = (Path(job["lines_of"]), job["lines"]) if "lines" in job else None
        due = None if wait else started + job["delay"]
        while due is None or time.monotonic() < due:
            if wait is not None and due is None and count_lines(wait[0]) >= wait[1]:
                due = time.monotonic() + job["delay"]
                continue
            time.sleep(0.001 if due is None else min(0.001, max(0.0, due - time.monotonic())))
            finished, status = os.waitpid(child, os.WNOHANG)
            if finished:
                return outcome(status, started)
        os.kill(child, job["signal"])
    _, status = os.waitpid(child, 0)
    return outcome(status, started)


def race(job: dict[str, Any]) -> list[dict[str, Any]]:
    """Two forks of the same program at once, each with its own arguments and output."""
    started = time.monotonic()
    children = []
    for argv, output in zip(job["argvs"], job["outputs"], strict=True):
        child = os.fork()
        if child == 0:
            work(job | {"argv": argv}, output)
        children.append(child)
    return [outcome(os.waitpid(child, 0)[1], started) for child in children]


def outcome(status: int, started: float) -> dict[str, Any]:
    return {"code": os.waitstatus_to_exitcode(status), "seconds": time.monotonic() - started}


if __name__ == "__main__":
    with blank():
        for line in sys.stdin:
            job = json.loads(line)
            print(json.dumps(race(job) if "argvs" in job else serve(job)), flush=True)
