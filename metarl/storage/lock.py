"""The lock of a run folder: one writer at a time, also from several machines.

The file ``lock.json`` names its holder. It is made by a hard link, which succeeds for one of any
number of processes on local and network filesystems alike, and appears with its whole content;
where there are no hard links, by O_CREAT | O_EXCL. The holder touches it every ``BEAT_S`` seconds.
How long ago that was is told by the file server's clock alone, since the one who asks has just made
a file beside it: clocks of machines need not agree.

No library is used: filelock's lease knows host, process and heartbeat too, but never removes the
lock of a dead process where names cannot be exchanged, which NFS cannot.
"""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import socket
import threading
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from datetime import datetime
from pathlib import Path
from types import TracebackType
from typing import Annotated, Self

from pydantic import Field, TypeAdapter, ValidationError

from metarl.errors import EnvironmentFailure, one_line
from metarl.process import say
from metarl.storage.files import PENDING, read_regular, writing

LOCK_FILE = "lock.json"
BEAT_S = 15.0
STALE_S = 120.0
"""Without a heartbeat for so long, a holder on another machine counts as dead."""
_POLL_S = 0.5
_DRAFT = f"{PENDING}lock-"


@dataclass(frozen=True)
class Holder:
    """The process that a lock names.

    Attributes:
        host: Its machine's name, for people.
        pid: Its number there.
        since: When it took the lock, in its own local time.
        machine: Within which process numbers are unique: of a start of the kernel, the namespace.
        process_start: When it was started, since numbers are used again; None if not known.
        token: Of this lock alone; part of a file's name.
    """

    host: str
    pid: Annotated[int, Field(ge=0, lt=2**31)]
    since: str
    machine: str
    process_start: str | None
    token: Annotated[str, Field(pattern=r"^[a-z0-9]{1,32}$")]

    @classmethod
    def of(cls, pid: int) -> Self:
        """A process of this machine, from now on."""
        since = datetime.now().astimezone().isoformat(" ", "seconds")
        started, token = _process(pid)[1], secrets.token_hex(8)
        return cls(socket.gethostname(), pid, since, _machine(), started, token)

    def __str__(self) -> str:
        return one_line(f"process {self.pid} on {self.host}, since {self.since}")

    def alive(self) -> bool | None:
        """Whether it runs; None if that cannot be seen from here."""
        if not self.machine or self.machine != _machine():
            return None
        try:
            os.kill(self.pid, 0)
        except ProcessLookupError:
            return False
        except PermissionError:  # another user's
            pass
        state, started = _process(self.pid)
        same = None in (started, self.process_start) or started == self.process_start
        return same and state not in ("Z", "X")  # a killed one may wait for its parent


_HOLDER = TypeAdapter(Holder)


def live_holder(run_dir: Path) -> Holder | None:
    """Who writes to a run folder, as far as can be seen at once; None if nobody does.

    A holder on another machine counts as alive until its heartbeat is overdue.
    """
    path = run_dir / LOCK_FILE
    holder = _read(path)
    if holder is None:
        return None
    alive = holder.alive()
    if alive is not None:
        return holder if alive else None
    probe = run_dir / f"{_DRAFT}asked-{os.getpid()}"
    try:
        beat = path.stat().st_mtime
        age = _now(probe) - beat
    except FileNotFoundError:  # released in this moment
        return None
    except OSError:  # the folder cannot be written to: clocks may disagree a little
        age = time.time() - beat
    finally:
        with contextlib.suppress(OSError):
            probe.unlink(missing_ok=True)
    return holder if abs(age) <= STALE_S else None  # that of a copy may lie in the future


class RunLock:
    """Holds a run folder's lock while its context lasts.

    Args:
        run_dir: The folder, which exists.
        by_force: Take it whoever holds it; that one stops at its next iteration.
        say: Shows a line to the user.

    Raises:
        EnvironmentFailure: (on entering) another process holds it, or the folder cannot be written.
    """

    def __init__(
        self, run_dir: Path, by_force: bool = False, say: Callable[[str], None] = say
    ) -> None:
        self._folder, self._path = run_dir, run_dir / LOCK_FILE
        self._by_force, self._say = by_force, say
        self.own = Holder.of(os.getpid())
        self._draft = run_dir / f"{_DRAFT}{self.own.pid}-{self.own.token}"
        self._released = threading.Event()

    def __enter__(self) -> Self:
        try:
            with writing(self._path):
                self._acquire()
                self._tidy()
        except BaseException:
            self.__exit__(None, None, None)
            raise
        finally:
            self._draft.unlink(missing_ok=True)
        threading.Thread(target=self._beat, name="metarl-lock", daemon=True).start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._released.set()
        with contextlib.suppress(OSError):
            if _read(self._path) == self.own:
                self._path.unlink()

    def confirm(self) -> None:
        """See to it that the lock is still held, before anything is written.

        Raises:
            EnvironmentFailure: another process has taken it, by force or because this one was
                stopped for long.
        """
        holder = None
        with contextlib.suppress(OSError):  # a network filesystem may be away for a moment
            holder = _read(self._path)
            if holder is None:  # somebody removed it
                try:
                    self._create(self._path)
                finally:
                    self._draft.unlink(missing_ok=True)
                holder = _read(self._path)
        if holder not in (None, self.own):
            raise EnvironmentFailure(
                f"The run in {self._folder} was taken over by {holder}; this process leaves it."
            )

    def _acquire(self) -> None:
        """Take the lock.

        A holder on another machine is watched until its next heartbeat, or until it is overdue.
        """
        # The lock, its last heartbeat at first sight, and when that was, by this machine's clock.
        seen: tuple[Holder, float, float] | None = None
        while not self._create(self._path):
            holder = _read(self._path)
            if holder is None:  # released in this moment
                continue
            if self._by_force:
                self._say(f"The lock of {self._folder} is broken; it was held by {holder}.")
                os.replace(self._fresh_draft(), self._path)
                return
            try:
                beat, age = self._heartbeat()
            except FileNotFoundError:
                continue
            if seen and seen[0] == holder:  # the heartbeat of a copy may lie in the future
                age = max(age, time.monotonic() - seen[2])
            alive = holder.alive()
            if alive or (seen and seen[0] == holder and beat > seen[1]):
                raise EnvironmentFailure(
                    f"Another process writes to {self._folder}: {holder}, last heartbeat "
                    f"{age:.0f} s ago. Wait for it or stop it; if it is gone for good, "
                    "--break-lock takes the folder over."
                )
            if alive is False or age > STALE_S:
                if self._take_over(holder):
                    self._say(f"The lock of {self._folder} was left by {holder}, which is gone.")
                    return
            elif seen is None or seen[0] != holder:
                seen = holder, beat, time.monotonic()
                self._say(
                    f"{self._folder} is locked by {holder}; waiting up to {STALE_S - age:.0f} s "
                    "for a sign of life."
                )
            time.sleep(_POLL_S if alive is None else 0.02)

    def _create(self, path: Path) -> bool:
        """Make a lock of this process's own; False if there is one."""
        draft = self._fresh_draft()
        try:
            os.link(draft, path)
        except FileExistsError:
            # The reply of a network filesystem may have been lost, and the request repeated.
            return _read(path) == self.own
        except OSError:  # no hard links here
            try:
                descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o644)
            except FileExistsError:
                return False
            with open(descriptor, "wb") as file:
                file.write(draft.read_bytes())
        return True

    def _take_over(self, stale: Holder) -> bool:
        """Replace a dead process's lock; one alone of those who found it dead comes so far."""
        claim = self._folder / f"{_DRAFT}over-{stale.token}"
        if not self._create(claim):
            with contextlib.suppress(OSError):  # its process may have died just here
                if _now(self._draft) - claim.stat().st_mtime > STALE_S:
                    claim.unlink()
            return False
        try:
            if _read(self._path) != stale:
                return False
            os.replace(self._fresh_draft(), self._path)
            return True
        finally:
            claim.unlink(missing_ok=True)

    def _fresh_draft(self) -> Path:
        """A file with this process's record."""
        self._draft.write_bytes(f"{json.dumps(asdict(self.own), indent=1)}\n".encode())
        return self._draft

    def _heartbeat(self) -> tuple[float, float]:
        """The last heartbeat, and its age in seconds, both on the filesystem's clock."""
        with open(self._path, "rb") as file:  # opened, so that a network filesystem asks anew
            beat = os.fstat(file.fileno()).st_mtime
        return beat, max(0.0, _now(self._draft) - beat)

    def _tidy(self) -> None:
        """Remove what killed processes have left."""
        for left in self._folder.glob(f"{_DRAFT}*"):
            with contextlib.suppress(OSError):
                if _now(self._draft) - left.stat().st_mtime > STALE_S:
                    left.unlink()

    def _beat(self) -> None:
        while not self._released.wait(BEAT_S):
            with contextlib.suppress(OSError):
                if _read(self._path) == self.own:
                    os.utime(self._path)


def _read(path: Path) -> Holder | None:
    """Whom a lock names; None if there is no lock. One that is not whole names nobody known."""
    try:
        text = read_regular(path)
    except FileNotFoundError:
        return None
    try:
        return _HOLDER.validate_json(text, strict=True)
    except ValidationError:
        return Holder("an unknown machine", 0, "an unknown time", "", None, "unknown")


def _now(draft: Path) -> float:
    """The time on the filesystem's clock."""
    draft.touch()
    return draft.stat().st_mtime


def _machine() -> str:
    """What tells machines apart, and containers on one of them; empty where it is not known."""
    if os.name != "posix":  # where asking for a process by number could end it
        return ""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
        return f"{boot}-{os.stat('/proc/self/ns/pid').st_ino}"
    except OSError:
        return socket.gethostname()


def _process(pid: int) -> tuple[str, str | None]:
    """State and start of a process as Linux shows them; unknown elsewhere."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text("utf-8", "replace").rpartition(")")[2].split()
        return fields[0], fields[19]
    except (OSError, IndexError):
        return "?", None
