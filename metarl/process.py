"""How the programs end: with an exit code and at most one sentence, whatever happens to them.

Light on imports, so that an interrupt finds it in place before the heavy ones begin.
"""

from __future__ import annotations

import codecs
import contextlib
import io
import os
import shlex
import signal
import subprocess
import sys
import threading
import time
import unicodedata
from collections.abc import Callable, Iterator, Sequence
from types import FrameType

from metarl.errors import EnvironmentFailure, UserError

STARTED = time.monotonic()
"""About when the program began."""
_NAMES = ("SIGINT", "SIGTERM", "SIGUSR1", "SIGHUP", "SIGBREAK")
STOPS = tuple(getattr(signal, name) for name in _NAMES if hasattr(signal, name))
"""Signals that end a program: typed, sent by a scheduler, or of a lost terminal."""
_interrupts: list[int] = []
"""Signals that raised KeyboardInterrupt in the program; a library, while it is imported, may have
swallowed what they raised."""
_PLAIN = "metarl.plain"
_IN_ASCII = {
    "−": "-",
    "–": "-",
    "─": "-",
    "±": "+/-",
    "×": "x",
    "→": "->",
    "≤": "<=",
    "≥": ">=",
    "\ufffd": "?",
}
_IN_ASCII |= {"γ": "gamma", "λ": "lambda", "ε": "epsilon", "η": "eta"}  # of the help


def run_program(program: Callable[[], int]) -> int:
    """Run a program, and return its exit code.

    What it returns, or 2 if the user's input was wrong, 1 if the environment failed, 130 after
    any of :data:`STOPS`, which all raise KeyboardInterrupt in it.
    """
    if sys.stdout is None:  # started with its output closed
        sys.stdout = open(os.devnull, "w", encoding="utf-8")  # noqa: SIM115
    try:
        advice = "take fewer tasks or episodes, or a smaller network"
        with any_letters(), _handling(_interrupt), enough_memory("The program", advice):
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
    with contextlib.suppress(OSError), any_letters():
        print(message, file=sys.stderr)
    return code


@contextlib.contextmanager
def any_letters() -> Iterator[None]:
    """Within, standard output and error take every letter, also where they are ASCII.

    One that is not in their encoding is written in others: RL² as RL2, − as -.
    """
    before = []
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # a notebook's is none, and has every letter
            with contextlib.suppress(OSError, ValueError):  # closed, or nobody reads any more
                errors = stream.errors
                stream.reconfigure(errors=_PLAIN)
                before.append((stream, errors))
    try:
        yield
    finally:
        for stream, errors in before:
            with contextlib.suppress(OSError, ValueError):
                stream.reconfigure(errors=errors)


def _plain(error: UnicodeError) -> tuple[str, int]:
    """The letters that cannot be encoded in ASCII: an error handler of :mod:`codecs`."""
    if not isinstance(error, UnicodeEncodeError):
        raise error
    letters = error.object[error.start : error.end]
    return "".join(map(_in_ascii, letters)), error.end


def _in_ascii(letter: str) -> str:
    alike = unicodedata.normalize("NFKD", letter).encode("ascii", "ignore").decode("ascii")
    escaped = letter.encode("ascii", "backslashreplace").decode("ascii")
    return _IN_ASCII.get(letter) or alike or escaped


codecs.register_error(_PLAIN, _plain)


@contextlib.contextmanager
def enough_memory(what: str, advice: str) -> Iterator[None]:
    """Says in a sentence what needs more memory than there is.

    Args:
        what: The beginning of the sentence, "Iteration 3".
        advice: Its end.

    Raises:
        EnvironmentFailure: torch, NumPy or Python had too little, on the CPU or a GPU.
    """
    try:
        yield
    except (MemoryError, RuntimeError, ValueError, OverflowError) as error:
        place = _short_of_memory(error)
        if place is None:
            raise
        raise EnvironmentFailure(f"{what} needs more memory than {place} has: {advice}.") from error


def _short_of_memory(error: BaseException) -> str | None:
    """Where memory was short, if that is what the error says."""
    text = str(error)
    if type(error).__name__ == "OutOfMemoryError":  # torch's, of a GPU
        return "the GPU"
    short = isinstance(error, MemoryError | OverflowError) or (
        "DefaultCPUAllocator" in text  # torch
        or "array is too big" in text  # NumPy, of what no address reaches
        or "Maximum allowed dimension exceeded" in text
        or "negative dimensions are not allowed" in text  # one beyond 2⁶³
        or "Storage size calculation overflowed" in text  # torch
    )
    return "this machine" if short else None


@contextlib.contextmanager
def optional_output() -> Iterator[None]:
    """For printing what files say too: nobody may read any more, or the log's disk may be full."""
    try:
        yield
        sys.stdout.flush()
    except (OSError, SystemExit):  # the latter is what rich makes of a closed pipe
        with open(os.devnull, "wb") as nowhere:
            os.dup2(nowhere.fileno(), sys.stdout.fileno())


def command_line(words: Sequence[str]) -> str:
    """Words as the system's shell takes them."""
    return subprocess.list2cmdline(words) if os.name == "nt" else shlex.join(words)


def say(line: str) -> None:
    """Print a line that nobody has to read."""
    with optional_output():
        print(line)


@contextlib.contextmanager
def stop_requests(
    waiting_for: Callable[[], str] = lambda: "what is under way to end",
) -> Iterator[list[int]]:
    """Collects the signals of :data:`STOPS`, so that an iteration can end before the run does.

    One that came before counts too, if the program is still there. A second signal does not wait:
    it raises KeyboardInterrupt.

    Args:
        waiting_for: What the first one waits for, told to the user when it comes.
    """
    received = list(_interrupts)

    def handler(number: int, frame: FrameType | None) -> None:
        if received:
            raise KeyboardInterrupt
        received.append(number)
        name = signal.Signals(number).name
        what = "The time limit" if name == "SIGALRM" else name
        # Past Python's streams, in the middle of whose work a signal may come.
        with contextlib.suppress(OSError):
            told = f"{what}: waiting for {waiting_for()}, then saving; a second signal drops it.\n"
            os.write(2, told.encode("ascii", _PLAIN))

    with _handling(handler):
        yield received


@contextlib.contextmanager
def time_limit(seconds: float | None) -> Iterator[float | None]:
    """Tells this program to end so many seconds after its start, as SIGTERM would.

    Returns:
        When that is, of :func:`time.monotonic`; None without a limit.
    """
    if seconds is None:
        yield None
        return
    deadline = STARTED + seconds
    if threading.current_thread() is not threading.main_thread() or not hasattr(signal, "SIGALRM"):
        yield deadline
        return

    def handler(number: int, frame: FrameType | None) -> None:
        told_to_end = signal.getsignal(signal.SIGTERM)
        if callable(told_to_end):
            told_to_end(number, frame)

    before = signal.signal(signal.SIGALRM, handler)
    signal.setitimer(signal.ITIMER_REAL, max(0.001, deadline - time.monotonic()))
    try:
        yield deadline
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def _interrupt(number: int, frame: FrameType | None) -> None:
    _interrupts.append(number)
    raise KeyboardInterrupt


@contextlib.contextmanager
def _handling(handler: Callable[[int, FrameType | None], None]) -> Iterator[None]:
    """Installs a handler of the stop signals; only the main thread may, others go without.

    A lost terminal that is ignored stays ignored: that is what nohup is for. Nor is a handler of
    the caller's own taken away, but for those of SIGINT and SIGTERM.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {}
    for number in STOPS:
        there = signal.getsignal(number)
        ours = getattr(there, "__module__", None) == __name__
        if ours or there is signal.SIG_DFL or number in (signal.SIGINT, signal.SIGTERM):
            before[number] = signal.signal(number, handler)
    try:
        yield
    finally:
        for number, previous in before.items():
            signal.signal(number, previous)
