"""Files and folders that are replaced whole, so that a kill leaves the old or the new one."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import shutil
import stat
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from metarl.errors import EnvironmentFailure

ON_WINDOWS = os.name == "nt"
PENDING = ".pending-"  # starts the name of what is being written or deleted


@contextlib.contextmanager
def writing(path: Path, what: str | None = None) -> Iterator[None]:
    """Says of an OSError within that the path, or ``what`` lies there, cannot be written.

    Raises:
        EnvironmentFailure: In its place.
    """
    try:
        yield
    except OSError as error:
        subject = f"{what} cannot be written to {path}" if what else f"{path} cannot be written"
        raise EnvironmentFailure(f"{subject}: {error.strerror or error}.") from error


def read_regular(path: Path) -> bytes:
    """The bytes of a file; a pipe or a device would have no end.

    Raises:
        OSError: It cannot be read, or is no regular file.
    """
    mode = path.stat().st_mode  # asked once: a lock may be released in between
    if not (stat.S_ISREG(mode) or stat.S_ISDIR(mode)):
        raise OSError("it is no regular file")
    return path.read_bytes()


def is_as_told(path: Path, told: Any) -> bool:
    """Whether a file has the ``bytes`` and the ``sha256`` that a manifest's entry tells of it."""
    if not path.is_file():
        return False
    try:
        with open(path, "rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
            return bool(told["bytes"] == file.tell() and told["sha256"] == digest)
    except (OSError, TypeError, KeyError):
        return False


def write_atomically(path: Path, text: str) -> None:
    """Writes a text file so that a kill leaves the old one or the new one, never half of one.

    Raises:
        EnvironmentFailure: It cannot be written.
    """
    with writing(path):
        replace_file(path, text.encode("utf-8", "backslashreplace"))


def replace_file(path: Path, *parts: bytes | memoryview) -> None:
    """:func:`write_atomically` of bytes, in one part or several, raising OSError."""
    pending = path.with_name(f"{PENDING}{path.name}-{os.getpid()}")
    try:
        write_through(pending, *parts)
        _patiently(os.replace, pending, path)
    except OSError:
        pending.unlink(missing_ok=True)
        raise
    sync_folder(path.parent)


def replace_folder(path: Path, files: Mapping[str, bytes]) -> None:
    """Writes a folder of files whole or not at all, in place of one that is there.

    Raises:
        OSError: It cannot be written.
    """
    pending = path.with_name(f"{PENDING}{path.name}-{os.getpid()}")
    try:
        pending.mkdir(parents=True, exist_ok=True)
        for name, data in files.items():
            write_through(pending / name, data)
        sync_folder(pending)
        if path.exists():
            delete_folder(path)
        _patiently(os.rename, pending, path)
        sync_folder(path.parent)
    except OSError:
        shutil.rmtree(pending, ignore_errors=True)  # gives its space back
        raise


def delete_folder(path: Path) -> None:
    """Deletes a folder; renamed first, so that a kill leaves no half of one under its name."""
    doomed = path.with_name(f"{PENDING}{path.name}-deleted-{os.getpid()}")
    _patiently(os.rename, path, doomed)
    shutil.rmtree(doomed, ignore_errors=True)


def delete_leftovers(folder: Path) -> None:
    """Removes what killed processes were writing or deleting."""
    for leftover in folder.glob(f"{PENDING}*"):
        if leftover.is_dir():
            shutil.rmtree(leftover, ignore_errors=True)
        else:
            leftover.unlink(missing_ok=True)


def write_through(path: Path, *parts: bytes | memoryview) -> None:
    """Writes a file through to the disk."""
    with open(path, "wb") as file:
        for part in parts:
            file.write(part)
        file.flush()
        os.fsync(file.fileno())


def sync_folder(folder: Path) -> None:
    """A rename lasts through a power cut only when its folder is synced too.

    Windows opens no folders, and some filesystems cannot sync one: there a rename is as safe as
    they make it.
    """
    if ON_WINDOWS:
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.ENOTSUP, errno.ENOSYS):
            raise
    finally:
        os.close(descriptor)


def sync_file(path: Path) -> None:
    """Writes through what others have written to a file; Windows asks for a writable handle."""
    with open(path, "r+b") as file:
        os.fsync(file.fileno())


def _patiently(rename: Callable[[Path, Path], None], source: Path, target: Path) -> None:
    """Windows renames nothing that anybody reads, a virus scanner say: it is tried for a second."""
    for pause_s in (0.02, 0.06, 0.2, 0.7) if ON_WINDOWS else ():
        try:
            return rename(source, target)
        except PermissionError:
            time.sleep(pause_s)
    return rename(source, target)
