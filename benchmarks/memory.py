"""Peak resident memory of a training run, and whether it grows.

    python -m benchmarks.memory [--config FILE] [--iterations 100] [--json FILE] [--FIELD VALUE ...]

Trains for real, by the trainer, in a temporary run folder, and reads the resident memory after
every meta-iteration. Further options are the config's fields, as those of train.py. The growth is
the slope of a straight line through the second half, when the allocators have settled.
"""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.measurement import count, parse_some, parser, peak_memory, write_json
from metarl.config.fields import Config
from metarl.config.loading import load_config
from metarl.envs.memory import resident_bytes
from metarl.errors import EnvironmentFailure
from metarl.process import run_program
from metarl.tracking.tracker import Tracker
from metarl.training.trainer import Trainer

DEFAULT = Path("configs/maml_half_cheetah_vel.yaml")


class MemoryTracker(Tracker):
    """A tracker that notes the resident memory after every meta-iteration, in ``rows``."""

    rows: list[dict[str, int]]

    def log(self, metrics: Mapping[str, Any]) -> None:
        """Note, and record as the tracker does."""
        super().log(metrics)
        resident = resident_bytes()
        if resident is None:
            raise EnvironmentFailure("The resident memory is read in /proc, which is not here.")
        self.rows.append({"iteration": metrics["iteration"], "resident_bytes": resident})


def train(config: Config) -> list[dict[str, int]]:
    """Train to the end of the budget; the resident memory after every meta-iteration."""
    trainer = Trainer(config, resume=False)
    with MemoryTracker(config) as tracker:
        tracker.rows = []
        trainer.run(tracker)
        trainer.worker.close()
        return tracker.rows


def growth(resident: Sequence[float]) -> float:
    """Slope of the least-squares line through the second half, bytes an iteration."""
    half = np.asarray(resident[len(resident) // 2 :], dtype=np.float64)
    if len(half) < 2:
        return 0.0
    time = np.arange(len(half)) - (len(half) - 1) / 2
    return float(time @ half / (time @ time))


def run(argv: Sequence[str]) -> int:
    """Measure, print and write."""
    arguments = parser("memory", __doc__, repeats=None)
    arguments.add_argument("--config", type=Path, default=DEFAULT)
    arguments.add_argument("--iterations", type=count, default=100)
    options, fields = parse_some(arguments, argv)
    overrides = ["--iterations", str(options.iterations)]
    overrides += ["--rollout.torch-threads", str(options.threads)]
    overrides += ["--rollout.physics-threads", str(options.threads), *fields]
    overrides += ["--tracking.wandb", "disabled"]
    with tempfile.TemporaryDirectory() as folder:
        rows = train(load_config(options.config, [*overrides, "--run-dir", folder]))
    resident = [row["resident_bytes"] for row in rows]
    peak = max(peak_memory(), *resident)  # the kernel's counters lag behind a little
    summary = {
        "peak_memory_bytes": peak,
        "growth_bytes_per_iteration": growth(resident),
        "resident_bytes_first": resident[0],
        "resident_bytes_last": resident[-1],
    }
    print(
        f"{len(rows)} iterations: peak {peak / 2**30:.2f} GiB; "
        f"resident {resident[0] / 2**30:.2f} GiB after the first, "
        f"{resident[-1] / 2**30:.2f} GiB after the last; in the second half "
        f"{growth(resident) / 2**10:+.1f} KiB an iteration"
    )
    write_json("memory", options, rows, summary)
    return 0


if __name__ == "__main__":
    sys.exit(run_program(lambda: run(sys.argv[1:])))
