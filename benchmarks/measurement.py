"""How a benchmark measures: in pairs with its reference, since a machine's speed wanders.

Every benchmark is ``python -m benchmarks.<name> [--json FILE]``, prints a table and writes what it
measured. A part's ratio is its time over the mean of the reference right before and right after
it; the table has the median of these ratios and their extremes.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import shlex
import statistics
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from metarl.envs.cores import num_cores
from metarl.errors import EnvironmentFailure, UserError
from metarl.storage.provenance import metadata

Row = dict[str, Any]
Seconds = dict[str, float]


def parser(name: str, doc: str | None, repeats: int | None = 3) -> argparse.ArgumentParser:
    """The options that all benchmarks have; ``repeats`` is None where nothing is repeated."""
    first_line = (doc or "").partition("\n")[0]
    options = argparse.ArgumentParser(
        f"python -m benchmarks.{name}", description=first_line, allow_abbrev=False
    )
    if repeats is not None:
        help_text = "pairs of measurements"
        options.add_argument("--repeats", type=count, default=repeats, help=help_text)
    options.add_argument(
        "--threads", type=count, default=num_cores(), help="of physics and torch each"
    )
    options.add_argument("--json", type=Path, help="file to write")
    return options


def count(text: str) -> int:
    """An integer of at least 1, as an option's type."""
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError(f"{value} is less than 1")
    return value


def begin(arguments: argparse.ArgumentParser, argv: Sequence[str]) -> argparse.Namespace:
    """Parse; refuse a file that cannot be written before anything is measured; set the threads.

    Raises:
        UserError: the JSON file has no folder to be in.
    """
    options, rest = parse_some(arguments, argv)
    if rest:
        arguments.error(f"unrecognized arguments: {' '.join(rest)}")
    return options


def parse_some(
    arguments: argparse.ArgumentParser, argv: Sequence[str]
) -> tuple[argparse.Namespace, list[str]]:
    """As :func:`begin`, and the options that are not the parser's."""
    options, rest = arguments.parse_known_args(argv)
    options.command = f"{arguments.prog} {shlex.join(argv)}".strip()
    if options.json and not (options.json.parent.is_dir() and not options.json.is_dir()):
        raise UserError(f"--json {options.json} cannot be written: it must be in a folder.")
    torch.set_num_threads(options.threads)
    return options, rest


def interleave(
    reference: Callable[[], float],
    measured: Mapping[str, Callable[[], Seconds]],
    repeats: int,
) -> list[Row]:
    """Measure in turns: reference, a, reference, b, reference, a, …, once before it counts.

    Args:
        reference: Returns its seconds, for the same work as the measured.
        measured: By name, each returns the seconds of its parts.
        repeats: How often each is measured.

    Returns:
        Rows of ``name``, ``repeat``, ``reference`` (seconds, the mean of before and after), and
        ``seconds`` by part.
    """
    for call in measured.values():  # warms up, and a recorder records
        call()
    reference()
    rows = []
    before = reference()
    for repeat in range(repeats):
        for name, call in measured.items():
            seconds = call()
            after = reference()
            mean = (before + after) / 2
            rows.append({"name": name, "repeat": repeat, "reference": mean, "seconds": seconds})
            before = after
    return rows


def summarize(rows: Sequence[Row]) -> dict[str, dict[str, float]]:
    """Of every part the median seconds, the median paired ratio and its extremes."""
    summary = {"reference": {"seconds": statistics.median(row["reference"] for row in rows)}}
    for part in rows[0]["seconds"]:
        ratios = [row["seconds"][part] / row["reference"] for row in rows]
        summary[part] = {
            "seconds": statistics.median(row["seconds"][part] for row in rows),
            "ratio": statistics.median(ratios),
            "ratio_low": min(ratios),
            "ratio_high": max(ratios),
        }
    return summary


def print_table(header: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
    """Columns as wide as they need be, the first to the left."""
    cells = [[str(cell) for cell in row] for row in (header, *rows)]
    widths = [max(len(row[i]) for row in cells) for i in range(len(header))]
    for row in cells:
        first = row[0].ljust(widths[0])
        print("  ".join([first, *(c.rjust(w) for c, w in zip(row[1:], widths[1:], strict=True))]))


def print_parts(summary: Mapping[str, Mapping[str, float]], reference: str) -> None:
    """The table of one reference and the parts that are measured against it."""
    rows: list[list[object]] = [[reference, f"{summary['reference']['seconds']:.4g}", "1", ""]]
    for part, values in summary.items():
        if part != "reference":
            spread = f"{values['ratio_low']:.3f} to {values['ratio_high']:.3f}"
            rows.append([part, f"{values['seconds']:.4g}", f"{values['ratio']:.3f}", spread])
    print_table(["", "seconds", f"/ {reference}", "lowest to highest"], rows)


def updates_beside_bare(
    name: str,
    options: argparse.Namespace,
    ours: Callable[[], object],
    bare: Callable[[], object],
) -> tuple[list[Row], dict[str, Any]]:
    """Updates of ours and of bare torch's, in turns, printed: the rows, and what they come to.

    Args:
        name: Of ours.
        options: Hold ``updates`` of a measurement, ``repeats`` and ``device``.
        ours: One update.
        bare: One update.
    """

    def timed(step: Callable[[], object]) -> float:
        start = time.perf_counter()
        for _ in range(options.updates):
            step()
        synchronize(options.device)
        return time.perf_counter() - start

    rows = interleave(lambda: timed(bare), {name: lambda: {name: timed(ours)}}, options.repeats)
    table = summarize(rows)
    print_parts(table, "bare torch")
    speed, share = options.updates / table[name]["seconds"], 1.0 / table[name]["ratio"]
    print(f"{speed:.4g} updates a second, {100 * share:.1f} % of bare torch's")
    return rows, {**table, "updates_per_s": speed, "share_of_bare": share}


def write_json(
    name: str, options: argparse.Namespace, rows: Sequence[Row], summary: Mapping[str, Any]
) -> None:
    """Write the settings, the machine, every measurement and the summary, if asked to.

    Raises:
        EnvironmentFailure: the file cannot be written.
    """
    if not options.json:
        return
    settings = {k: v for k, v in vars(options).items() if k not in ("json", "command")}
    record = {
        "benchmark": name,
        "command": options.command,
        "settings": settings,
        "machine": machine(settings.get("device", "cpu"), options.threads),
        "rows": list(rows),
        "summary": summary,
    }
    try:
        options.json.write_text(json.dumps(record, indent=1, default=str) + "\n")
    except OSError as error:
        raise EnvironmentFailure(
            f"{options.json} cannot be written: {error.strerror or error}."
        ) from error


def machine(device: str, threads: int) -> dict[str, Any]:
    """Cores, processor, versions, commit, and how busy the machine has been."""
    known = metadata(device, threads, threads)
    known["cores"] = known.pop("cpu_count")
    known["cpu"] = metadata("cpu", threads, threads)["device_name"]
    known["load_average"] = os.getloadavg()
    del known["wandb_id"], known["command"]
    return known


def synchronize(device: str) -> None:
    """Wait for what was given to the GPU, where there is one."""
    if device != "cpu":
        torch.cuda.synchronize()


def peak_memory() -> int:
    """The largest resident memory that this process has had, bytes."""
    status = Path("/proc/self/status")
    if status.is_file():  # ru_maxrss would count the parent's, which a new process inherits
        for line in status.read_text().splitlines():
            if line.startswith("VmHWM:"):
                return 1024 * int(line.split()[1])
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else 1024 * peak
