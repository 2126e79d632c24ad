"""How the cost of a meta-iteration grows with tasks, episodes, threads and policy width.

    python -m benchmarks.growth [--axes tasks width] [--plot FILE.png] [--json FILE] [OPTION ...]
    python -m benchmarks.growth --axes tasks --tasks 10 40 160
    python -m benchmarks.growth --of rl2 --axes tasks width episodes

Every point is ``benchmarks.meta_iteration``, or ``benchmarks.rl2``, in a process of its own, so
that its peak memory is its own too, and its times are ratios to the bare physics of its own
rollouts. Further options go to that benchmark (``--horizon 50`` shortens, ``--env navigation``,
``--device cuda``). The values of an axis are given by its own name; one value of what is no axis
holds for all points.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmarks.measurement import count, parse_some, parser, print_table, write_json
from metarl.errors import EnvironmentFailure, UserError
from metarl.process import run_program
from metarl.report import figures

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

AXES: dict[str, dict[str, list[int] | None]] = {
    "meta_iteration": {
        "tasks": [10, 20, 40, 80, 160],
        "episodes": [5, 10, 20, 40],
        "threads": None,  # 1, 2, 4, … cores
        "width": [64, 128, 256, 512],
    },
    "rl2": {
        "tasks": [32, 64, 128, 256, 512],
        "episodes": [1, 2, 4],
        "threads": None,
        "width": [32, 64, 128, 256],
    },
}
PARTS = {
    "meta_iteration": ("rollout", "adapt", "update", "iteration"),
    "rl2": ("rollout", "update", "iteration"),
}
_LABELS = {
    "tasks": "tasks of a meta-batch",
    "episodes": "episodes of a lane",
    "threads": "threads of physics and update",
    "width": "width of the policy's layers",
}
_MARKERS = "os^D"


def doubling(cores: int) -> list[int]:
    """1, 2, 4, … up to the number of cores, and that number."""
    return sorted({2**i for i in range(cores.bit_length()) if 2**i <= cores} | {cores})


def measure(of: str, axis: str, value: int, options: Sequence[str]) -> dict[str, Any]:
    """One point, in a process of its own: the JSON of a benchmark.

    Raises:
        UserError: it refuses its options.
        EnvironmentFailure: it fails.
    """
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "point.json"
        words = ["-m", f"benchmarks.{of}", *options, f"--{axis}", str(value)]
        ended = subprocess.run(
            [sys.executable, *words, "--json", str(path)],
            cwd=Path(__file__).parent.parent,
            env=os.environ,
            capture_output=True,
            text=True,
        )
        if ended.returncode != 0:
            said = (ended.stderr.strip().splitlines() or ["it said nothing"])[-1]
            kind = UserError if ended.returncode == 2 else EnvironmentFailure
            raise kind(f"The point {axis} {value} failed: {said.removeprefix('error: ')}")
        record: dict[str, Any] = json.loads(path.read_text())
        return record


def point(of: str, axis: str, value: int, record: Mapping[str, Any]) -> dict[str, Any]:
    """What the table and the plot show of a point."""
    summary = record["summary"]
    return {
        "axis": axis,
        "value": value,
        "env_steps": summary["env_steps"],
        "physics_steps_per_s": summary["env_steps"] / summary["reference"]["seconds"],
        "env_steps_per_s": summary["env_steps_per_s"],
        "seconds_per_task": summary["iteration"]["seconds"] / record["settings"]["tasks"],
        "peak_memory_bytes": summary["peak_memory_bytes"],
        "parts": {part: summary[part] for part in PARTS[of]},
    }


def growth(points: Sequence[Mapping[str, Any]]) -> dict[str, dict[str, float]]:
    """By axis and part, the ratio to the physics at the last value over that at the first."""
    found = {}
    for axis in dict.fromkeys(p["axis"] for p in points):
        of_axis = [p for p in points if p["axis"] == axis]
        first, last = of_axis[0], of_axis[-1]
        found[axis] = {
            part: last["parts"][part]["ratio"] / first["parts"][part]["ratio"]
            for part in first["parts"]
        }
    return found


@figures.png
def plot(points: Sequence[Mapping[str, Any]]) -> Figure:
    """Cost over the bare physics, and peak memory, against each axis."""
    axes = list(dict.fromkeys(p["axis"] for p in points))
    figure = figures.new_figure(4.0 * max(len(axes), 1.6), 7.0)
    panels = figure.subplots(2, len(axes), sharex="col", sharey="row", squeeze=False)
    for column, axis in enumerate(axes):
        of_axis = [p for p in points if p["axis"] == axis]
        values = [p["value"] for p in of_axis]
        cost, memory = panels[0, column], panels[1, column]
        parts = of_axis[0]["parts"]
        for part, colour, marker in zip(parts, figures.SERIES, _MARKERS, strict=False):
            found = [p["parts"][part] for p in of_axis]
            ratios = [x["ratio"] for x in found]
            low = [x["ratio"] - x["ratio_low"] for x in found]
            high = [x["ratio_high"] - x["ratio"] for x in found]
            name = "whole iteration" if part == "iteration" else part
            cost.errorbar(values, ratios, (low, high), color=colour, marker=marker, label=name)
        cost.axhline(1.0, color=figures.GREY, linestyle=(0, (2, 2)), label="the physics alone")
        gib = [p["peak_memory_bytes"] / 2**30 for p in of_axis]
        memory.plot(values, gib, color=figures.GREY, marker="o")
        _scale(memory, values, _LABELS[axis])
    panels[0, 0].set_ylabel("time / bare physics")
    panels[0, 0].set_ylim(bottom=0)
    panels[1, 0].set_ylabel("peak memory [GiB]")
    panels[1, 0].set_ylim(bottom=0)
    figures.legend_above(figure)
    return figure


def run(argv: Sequence[str]) -> int:
    """Measure, print, plot and write."""
    arguments = parser("growth", __doc__, repeats=2)
    arguments.add_argument(
        "--of", choices=list(AXES), default="meta_iteration", help="the benchmark of a point"
    )
    axes = list(AXES["meta_iteration"])
    arguments.add_argument("--axes", nargs="+", choices=axes, default=axes)
    for axis in ("tasks", "episodes", "width"):
        arguments.add_argument(f"--{axis}", nargs="+", type=count, metavar="N")
    arguments.add_argument("--plot", type=Path, help="PNG to write")
    options, rest = parse_some(arguments, argv)
    if options.plot and not options.plot.parent.is_dir():
        raise UserError(f"--plot {options.plot} cannot be written: its folder does not exist.")
    fixed = ["--repeats", str(options.repeats), "--threads", str(options.threads), *rest]
    for name in ("tasks", "episodes", "width"):
        given = getattr(options, name)
        if given and name not in options.axes:
            if len(given) > 1:
                raise UserError(f"--{name} has {len(given)} values: name it in --axes as well.")
            fixed += [f"--{name}", str(given[0])]
    points: list[dict[str, Any]] = []
    rows: list[dict[str, Any]] = []
    for axis in options.axes:
        given = None if axis == "threads" else getattr(options, axis)
        for value in given or AXES[options.of][axis] or doubling(options.threads):
            record = measure(options.of, axis, value, fixed)
            options.device = record["settings"]["device"]
            points.append(point(options.of, axis, value, record))
            rows += [{"axis": axis, "value": value, **row} for row in record["rows"]]
            print(f"measured: {axis} {value}", file=sys.stderr)
    header = [f"{part} / physics" for part in PARTS[options.of]]
    print_table(["", *header, *_HEADER], [_cells(p) for p in points])
    ratios = growth(points)
    for axis, by_part in ratios.items():
        parts = ", ".join(f"{part} × {value:.3f}" for part, value in by_part.items())
        print(f"{axis}, last over first, of the ratios to the physics: {parts}")
    if options.plot:
        options.plot.write_bytes(plot(points))
    options.further = rest
    write_json("growth", options, rows, {"points": points, "last_over_first": ratios})
    return 0


_HEADER = (
    "physics, steps/s",
    "env steps/s",
    "s a task",
    "peak, GiB",
)


def _cells(p: Mapping[str, Any]) -> list[str]:
    return [
        f"{p['axis']} {p['value']}",
        *(f"{part['ratio']:.3f}" for part in p["parts"].values()),
        f"{p['physics_steps_per_s']:,.0f}",
        f"{p['env_steps_per_s']:,.0f}",
        f"{p['seconds_per_task']:.4f}",
        f"{p['peak_memory_bytes'] / 2**30:.2f}",
    ]


def _scale(axes: Axes, values: Sequence[int], label: str) -> None:
    """A binary scale whose ticks are the values."""
    axes.set_xscale("log", base=2)
    axes.set_xticks(list(values), [str(v) for v in values])
    axes.minorticks_off()
    axes.set_xlabel(label)


if __name__ == "__main__":
    sys.exit(run_program(lambda: run(sys.argv[1:])))
