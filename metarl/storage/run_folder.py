"""The run folder: made once, its JSON lines cut back on resume."""

from __future__ import annotations

import errno
import json
import os
from pathlib import Path

from metarl.errors import EnvironmentFailure, UserError
from metarl.storage.files import replace_file, writing


def holds_run(run_dir: Path) -> bool:
    """Whether a run lies in this folder."""
    return os.path.isfile(run_dir / "config.yaml")  # False, not an error, for an impossible path


def prepare_run_dir(run_dir: Path) -> None:
    """Makes the folder of a new run.

    Raises:
        UserError: It holds a run already, or is none that could be made.
        EnvironmentFailure: It cannot be made.
    """
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
    if short != data:
        with writing(path):
            replace_file(path, short)
    return last


def prepare_output(output: Path, chosen: bool) -> None:
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
        if chosen:
            raise UserError(f"--output {output} {said}") from error
        raise EnvironmentFailure(f"{output} {said} Choose another place with --output.") from error
