"""The worker processes of vector environments, and the parent's way to talk to them."""

from __future__ import annotations

import contextlib
import os
import pickle
import signal
import subprocess
import sys
import weakref
from typing import IO, Any

from metarl.envs.watch import Place

# Requests leave the standard input at once: what reads it in the environment is to find it empty.
# sys.path comes first, so that the worker finds what the parent finds.
_BOOTSTRAP = (
    "import os, pickle, sys; requests = os.fdopen(os.dup(0), 'rb'); "
    "os.dup2(os.open(os.devnull, os.O_RDONLY), 0); sys.path[:] = pickle.load(requests); "
    "from metarl.envs.process_worker import main; main(requests, *map(int, sys.argv[1:]))"
)
_PATIENCE_S = 5.0


class Pool:
    """Worker processes with the instances that they have built, for one player at a time."""

    def __init__(self) -> None:
        self.workers: list[Worker] = []
        self.said: set[str] = set()  # warnings, once each
        self._player: object = None

    def employ(self, count: int) -> None:
        """Have at least so many workers."""
        self.workers += [Worker() for _ in range(count - len(self.workers))]

    def played_by(self, player: object, *, begins: bool) -> bool:
        """Whether this one plays in the instances, which it may also begin to do."""
        if begins or self._player is None:
            self._player = player
        return self._player is player

    def close(self) -> None:
        """End the workers."""
        for worker in self.workers:
            worker.hang_up()  # all first: they end side by side
        for worker in self.workers:
            worker.close()
        self.workers = []


class Worker:
    """The parent's end of one worker process."""

    def __init__(self) -> None:
        # One thread each: the workers share the cores among themselves.
        threads = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")
        self.place = Place()
        own = [] if self.place.descriptor is None else [self.place.descriptor]
        self._process = subprocess.Popen(
            [
                sys.executable,
                "-P",
                "-c",
                _BOOTSTRAP,
                *map(str, own),
            ],  # -P: not the working folder's
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env=os.environ | threads,
            pass_fds=own,
        )
        self.place.hand_over()
        self._overdue_s: float | None = None
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._requests, self._replies = self._process.stdin, self._process.stdout
        self.close = weakref.finalize(self, _end, self._process, self._requests, self._replies)
        self.send(sys.path)

    def send(self, message: Any) -> None:
        """Send a request. That the worker has died shows when its reply is awaited."""
        data = pickle.dumps(message, protocol=pickle.HIGHEST_PROTOCOL)
        with contextlib.suppress(OSError):
            self._requests.write(data)
            self._requests.flush()

    def hang_up(self) -> None:
        """Close the worker's input without waiting for it to end."""
        with contextlib.suppress(OSError):
            self._requests.close()

    def receive(self) -> Any:
        """The reply, None if the worker has died."""
        try:
            return pickle.load(self._replies)
        except (EOFError, OSError, pickle.UnpicklingError):
            return None

    @property
    def pid(self) -> int:
        """The process's number."""
        return self._process.pid

    def give_up(self, seconds: float) -> None:
        """Kill the worker, which has been at one call for so long."""
        self._overdue_s = seconds
        self._process.kill()

    def death(self) -> str:
        """How the worker ended, in words."""
        if self._overdue_s is not None:
            return f"it has not returned within {self._overdue_s:g} s, which is step_timeout"
        try:
            code = self._process.wait(_PATIENCE_S)
        except subprocess.TimeoutExpired:
            return f"the worker process {self._process.pid} closed its output"
        if code >= 0:
            how = f"exited with {code}"  # on Windows whatever ended it
        else:
            names = {number.value: number.name for number in signal.Signals}
            how = f"was killed by {names.get(-code, f'signal {-code}')}"
            if how.endswith("SIGKILL"):
                how += " (as systems do where memory runs out)"
        return f"the worker process {self._process.pid} {how}"


def _end(process: subprocess.Popen[bytes], *pipes: IO[bytes]) -> None:
    """Close a worker's input, upon which it ends, and see to it that it does."""
    for pipe in pipes:
        with contextlib.suppress(OSError):  # a request that can no longer be flushed
            pipe.close()
    try:
        process.wait(_PATIENCE_S)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
