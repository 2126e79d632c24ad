"""How the programs end: with an exit code and at most one sentence, whatever happens to them.

Light on imports, so that an interrupt finds it in place before the heavy ones begin.
"""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from types import FrameType

from metarl.errors import EnvironmentFailure, UserError

_interrupts: list[int] = []
"""Signals that raised KeyboardInterrupt in the program; a library, while it is imported, may have
swallowed what they raised."""


def run_program(program: Callable[[], int]) -> int:
    """Run a program, and return its exit code.

    What it returns, or 2 if the user's input was wrong, 1 if the environment failed, 130 after
    SIGINT and SIGTERM, which both raise KeyboardInterrupt in it.
    """
    if sys.stdout is None:  # started with its output closed
        sys.stdout = open(os.devnull, "w")  # noqa: SIM115
    try:
        with _handling(_interrupt):
            code = program()
        if not _interrupts:
            return code
        raise KeyboardInterrupt
    except UserError as error:
        code, message = 2, f"error: {error}"
    except EnvironmentFailure as error:
        code, message = 1, f"error: {error}"
    except KeyboardInterrupt:
        code, message = 130, "interrupted"
    except BrokenPipeError:  # nobody reads any more (`| head`)
        return 1
    finally:
        _interrupts.clear()
        with optional_output():
            pass  # flushes, which Python does too late for a failure to be seen
    with contextlib.suppress(OSError):
        print(message, file=sys.stderr)
    return code


@contextlib.contextmanager
def optional_output() -> Iterator[None]:
    """For printing what files say too: nobody may read any more, or the log's disk may be full."""
    try:
        yield
        sys.stdout.flush()
    except (OSError, SystemExit):  # the latter is what rich makes of a closed pipe
        with open(os.devnull, "w") as nowhere:
            os.dup2(nowhere.fileno(), sys.stdout.fileno())


def say(line: str) -> None:
    """Print a line that nobody has to read."""
    with optional_output():
        print(line)


@contextlib.contextmanager
def stop_requests() -> Iterator[list[int]]:
    """Collects SIGINT and SIGTERM, so that an iteration can end before the run does.

    One that came before counts too, if the program is still there. A second signal does not wait:
    it raises KeyboardInterrupt.
    """
    received = list(_interrupts)

    def handler(number: int, frame: FrameType | None) -> None:
        if received:
            raise KeyboardInterrupt
        received.append(number)

    with _handling(handler):
        yield received


def _interrupt(number: int, frame: FrameType | None) -> None:
    _interrupts.append(number)
    raise KeyboardInterrupt


@contextlib.contextmanager
def _handling(handler: Callable[[int, FrameType | None], None]) -> Iterator[None]:
    """Installs a handler of SIGINT and SIGTERM; only the main thread may, others go without."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {s: signal.signal(s, handler) for s in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, previous in before.items():
            signal.signal(number, previous)
