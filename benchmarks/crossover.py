"""From which width and batch on the GPU is faster than the CPU.

    python -m benchmarks.crossover [--widths 64 128 256 512] [--meta-batches 5 10 20 40 80]

The update of one meta-iteration on both, in turns, and the way of its data to the GPU, which a
rollout on the CPU must pay. It needs a CUDA device.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from benchmarks.measurement import (
    Seconds,
    begin,
    count,
    interleave,
    parser,
    print_table,
    summarize,
    synchronize,
    write_json,
)
from benchmarks.setting import Setting, add_options, setting
from benchmarks.update import made_up_batch, made_up_trajectory, update_seconds
from metarl.errors import UserError
from metarl.process import run_program


def compare(size: Setting, there: str, repeats: int) -> list[dict[str, Any]]:
    """The update on the CPU (the reference) and on another device, transfer apart."""
    worker = size.worker()
    here_maml = replace(size, device="cpu").maml(worker)
    there_maml = replace(size, device=there).maml(worker)
    steps = range(size.adaptation_steps + 1)
    trajectories = [made_up_trajectory(size, here_maml, k) for k in steps]
    here = made_up_batch(size, here_maml, trajectories)

    def on_the_other() -> Seconds:
        start = time.perf_counter()
        moved = [trajectory.to(there_maml.device) for trajectory in trajectories]
        synchronize(there)
        transfer = time.perf_counter() - start
        update = update_seconds(there_maml, made_up_batch(size, there_maml, moved))
        return {"update": update, "transfer": transfer, "both": update + transfer}

    name = f"width {size.width}, {size.tasks} tasks"
    rows = interleave(lambda: update_seconds(here_maml, here), {name: on_the_other}, repeats)
    worker.close()
    sizes = {"width": size.width, "tasks": size.tasks}
    return [row | sizes for row in rows]


def crossovers(points: Sequence[Mapping[str, Any]]) -> dict[str, int | None]:
    """By width, the smallest meta-batch from which on the GPU wins, transfer included; or None."""
    found: dict[str, int | None] = {}
    for width in sorted({point["width"] for point in points}):
        wins = None
        for point in sorted(points, key=lambda p: -p["tasks"]):
            if point["width"] == width:
                if point["both"]["ratio"] >= 1.0:
                    break
                wins = point["tasks"]
        found[str(width)] = wins
    return found


def run(argv: Sequence[str]) -> int:
    """Measure, print and write."""
    arguments = parser("crossover", __doc__)
    add_options(arguments)
    arguments.set_defaults(device="cuda")
    arguments.add_argument("--widths", nargs="+", type=count, default=[64, 128, 256, 512])
    arguments.add_argument("--meta-batches", nargs="+", type=count, default=[5, 10, 20, 40, 80])
    options = begin(arguments, argv)
    size = setting(options)
    if size.device == "cpu":
        raise UserError("--device is the CPU: it must be cuda, which the CPU is compared with.")
    rows, points = [], []
    for width in options.widths:
        for tasks in options.meta_batches:
            measured = compare(
                replace(size, width=width, tasks=tasks), size.device, options.repeats
            )
            rows += measured
            points.append({"width": width, "tasks": tasks, **summarize(measured)})
    other = size.device
    header = ["width", "tasks", "cpu, s", f"{other}, s", "transfer, s", "both / cpu", "spread"]
    print_table(header, [_cells(point) for point in points])
    found = crossovers(points)
    for width_name, meta_batch in found.items():
        where = f"from {meta_batch} tasks on" if meta_batch else "at none of these meta-batches"
        print(f"width {width_name}: {other} is faster {where}")
    write_json("crossover", options, rows, {"points": points, "crossover_tasks": found})
    return 0


def _cells(point: Mapping[str, Any]) -> list[str]:
    both = point["both"]
    return [
        str(point["width"]),
        str(point["tasks"]),
        f"{point['reference']['seconds']:.4g}",
        f"{point['update']['seconds']:.4g}",
        f"{point['transfer']['seconds']:.4g}",
        f"{both['ratio']:.3f}",
        f"{both['ratio_low']:.3f} to {both['ratio_high']:.3f}",
    ]


if __name__ == "__main__":
    sys.exit(run_program(lambda: run(sys.argv[1:])))
