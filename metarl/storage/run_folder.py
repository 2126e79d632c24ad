"""The run folder: made once, its files replaced whole, its JSON lines cut back on resume."""

from __future__ import annotations

import errno
import json
import os
from pathlib import Path

from metarl.errors import EnvironmentFailure, UserError

PENDING = ".pending-"  # starts the name of what is being written or deleted


def holds_run(run_dir: Path) -> bool:
    """Whether a run lies in this folder."""
    return os.path.isfile(run_dir / "config.yaml")  # False, not an error, for an impossible path


def prepare_run_dir(run_dir: Path, resume: bool) -> None:
    """Makes the folder of a new run, or checks that there is a run to resume.

    Raises:
        UserError: A new run's folder holds a run already; a resumed one is missing.
        EnvironmentFailure: The folder cannot be made.
    """
    if resume:
        if not holds_run(run_dir):
            raise UserError(f"There is no run to resume in {run_dir}: it has no config.yaml.")
        return
    traces = ("config.yaml", "checkpoints", "metrics.jsonl")
    holds = [name for name in traces if os.path.lexists(run_dir / name)]
    if holds:
        raise UserError(
            f"{run_dir} already holds a run ({holds[0]}); go on with it by --resume, or choose "
            f"another --run-dir."
        )
    try:
        run_dir.mkdir(parents=True, exist_ok=True)
    except (FileExistsError, NotADirectoryError):
        raise UserError(f"{run_dir} cannot be a run folder: a file is in its way.") from None
    except OSError as error:
        if error.errno == errno.ENAMETOOLONG:
            raise UserError(f"{str(run_dir)[:60]}... cannot be a run folder: too long.") from None
        raise EnvironmentFailure(
            f"The run folder {run_dir} cannot be made: {error.strerror or error}."
        ) from error


def truncate_metrics(path: Path, iteration: int) -> int | None:
    """Cuts a JSON-lines file back to the lines whose ``iteration`` is at most ``iteration``.

    A last line that is half-written goes too. A missing file stays missing.

    Returns:
        The iteration of the last line that stays; None if there is none.

    Raises:
        UserError: A line before the last is no JSON object with an ``iteration``.
        EnvironmentFailure: The file cannot be read or written.
    """
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        return None
    except OSError as error:
        raise EnvironmentFailure(f"{path} cannot be read: {error.strerror or error}.") from error
    lines = data.splitlines()
    kept, last = [], None
    for number, line in enumerate(lines, start=1):
        try:
            at = json.loads(line)["iteration"]
            if type(at) is not int:
                raise TypeError
        except (ValueError, TypeError, KeyError, IndexError):
            if number == len(lines):
                break
            raise UserError(
                f"{path}, line {number} is no JSON object with an iteration; mend or remove it."
            ) from None
        if at <= iteration:
            kept.append(line)
            last = at
    short = b"".join(line + b"\n" for line in kept)
    try:
        if short != data:
            replace_file(path, short)
    except OSError as error:
        raise EnvironmentFailure(f"{path} cannot be written: {error.strerror or error}.") from error
    return last


def write_atomically(path: Path, text: str) -> None:
    """Writes a text file so that a kill leaves the old one or the new one, never half of one.

    Raises:
        EnvironmentFailure: It cannot be written.
    """
    try:
        replace_file(path, text.encode())
    except OSError as error:
        raise EnvironmentFailure(f"{path} cannot be written: {error.strerror or error}.") from error


def replace_file(path: Path, data: bytes) -> None:
    """:func:`write_atomically` of bytes, raising OSError."""
    pending = path.with_name(f"{PENDING}{path.name}-{os.getpid()}")
    try:
        write_through(pending, data)
        os.replace(pending, path)
    except OSError:
        pending.unlink(missing_ok=True)
        raise
    sync_folder(path.parent)


def write_through(path: Path, data: bytes) -> None:
    """Writes a file through to the disk."""
    with open(path, "wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())


def sync_file(path: Path) -> None:
    """Has what was written to a file reach the disk.

    Raises:
        EnvironmentFailure: It does not, or there is no such file.
    """
    try:
        with open(path, "rb") as file:
            os.fsync(file.fileno())
    except OSError as error:
        raise EnvironmentFailure(f"{path} cannot be written: {error.strerror or error}.") from error


def sync_folder(folder: Path) -> None:
    """A rename lasts through a power cut only when its folder is synced too."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def prepare_output(output: Path, asked_for: bool) -> None:
    """Make the folder of a report before anything is measured.

    Raises:
        UserError: it is a run's own folder, or no folder can be made where the user asked for it.
        EnvironmentFailure: the default place cannot be written.
    """
    if holds_run(output):
        raise UserError(f"--output {output} is the folder of a run; choose a folder of its own.")
    try:
        output.mkdir(parents=True, exist_ok=True)
        probe = output / ".writable"
        probe.touch()
        probe.unlink()
    except OSError as error:
        said = f"cannot be written: {error.strerror or error}."
        if asked_for:
            raise UserError(f"--output {output} {said}") from error
        raise EnvironmentFailure(f"{output} {said} Choose another place with --output.") from error
