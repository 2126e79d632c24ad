"""The run folder: made once, its JSON lines cut back on resume."""

from __future__ import annotations

import errno
import os
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from metarl.errors import EnvironmentFailure, UserError
from metarl.storage.files import delete_folder, read_regular, replace_file, writing
from metarl.storage.json_lines import parse_json


def holds_run(run_dir: Path) -> bool:
    """Whether a run lies in this folder."""
    return os.path.isfile(run_dir / "config.yaml")  # False, not an error, for an impossible path


def failed_at_start(run_dir: Path) -> bool:
    """Whether a run began here that has finished no iteration: nothing would be lost with it.

    A config.yaml without the rest may be the user's own.
    """
    if not (holds_run(run_dir) and os.path.isfile(run_dir / "meta.json")):
        return False
    try:
        lines = b"\n" in read_regular(run_dir / "metrics.jsonl")
    except FileNotFoundError:
        lines = False
    except OSError:
        return False
    numbered = (run_dir / "checkpoints").glob("[0-9]*")
    return not lines and all(checkpoint.name == "0" for checkpoint in numbered)


def clear_failed_start(run_dir: Path) -> None:
    """Removes what a start has left that failed before its first iteration had finished.

    Raises:
        UserError: The folder holds a run.
        EnvironmentFailure: Something cannot be removed.
    """
    if failed_at_start(run_dir):
        with writing(run_dir):
            if (run_dir / "checkpoints").exists():
                delete_folder(run_dir / "checkpoints")
            # Last the two that say that it is a failed start.
            for name in ("metrics.jsonl", "wandb.json", "config.yaml", "meta.json"):
                (run_dir / name).unlink(missing_ok=True)
    traces = ("config.yaml", "checkpoints", "metrics.jsonl")
    holds = [name for name in traces if os.path.lexists(run_dir / name)]
    if holds:
        raise UserError(
            f"{run_dir} already holds a run ({holds[0]}); go on with it by --resume, or choose "
            f"another --run-dir."
        )


def make_run_dir(run_dir: Path) -> None:
    """Makes the folder of a run, where it is not there yet.

    Raises:
        UserError: It is none that could be made.
        EnvironmentFailure: It cannot be made.
    """
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
        data = read_regular(path)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise EnvironmentFailure(f"{path} cannot be read: {error.strerror or error}.") from error
    lines = data.splitlines()
    kept, last = [], None
    for number, line in enumerate(lines, start=1):
        try:
            at = parse_json(line)["iteration"]
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


def missing_lines(path: Path, iteration: int) -> str | None:
    """Which iterations up to ``iteration`` a run's metrics have no line of, or several, in words.

    To be called after :func:`truncate_metrics`; None where all is there.
    """
    seen: Counter[int] = Counter()
    if path.is_file():
        seen.update(parse_json(line)["iteration"] for line in path.read_bytes().splitlines())
    gaps, last = [], 0
    for at in sorted([*seen, iteration + 1]):
        gaps += [(last + 1, at - 1)] if at > last + 1 else []
        last = at
    twice = [(at, at) for at, lines in sorted(seen.items()) if lines > 1]
    wrong = {"no line of": gaps, "several lines of": twice}
    found = [f"{what} {_iterations(spans)}" for what, spans in wrong.items() if spans]
    if not found:
        return None
    return f"{path} has {' and '.join(found)}; the checkpoint is of iteration {iteration}."


def _iterations(spans: Sequence[tuple[int, int]]) -> str:
    """``iterations 3, 5 to 9``."""
    shown = [str(a) if a == b else f"{a} to {b}" for a, b in spans[:5]]
    only_one = len(spans) == 1 and spans[0][0] == spans[0][1]
    more = f" and {len(spans) - 5} more" if len(spans) > 5 else ""
    return f"iteration{'' if only_one else 's'} {', '.join(shown)}{more}"


def prepare_output(output: Path, chosen: bool) -> None:
    """Try that the folder of a report can be made, before anything is measured; none is left.

    Raises:
        UserError: it is a run's own folder, or no folder can be made where the user asked for it.
        EnvironmentFailure: the default place cannot be written.
    """
    if holds_run(output):
        raise UserError(f"--output {output} is the folder of a run; choose a folder of its own.")
    made = [folder for folder in (output, *output.parents) if not folder.exists()]
    try:
        output.mkdir(parents=True, exist_ok=True)
        probe = output / ".writable"
        probe.touch()
        probe.unlink()
        for folder in made:
            folder.rmdir()
    except OSError as error:
        said = f"cannot be written: {error.strerror or error}."
        if chosen:
            raise UserError(f"--output {output} {said}") from error
        raise EnvironmentFailure(f"{output} {said} Choose another place with --output.") from error
