"""Whether learning depends on the scale of the observations: navigation seen as scale·x + offset.

    python -m benchmarks.observation_scale [--iterations 30] [--seeds 5] [--folder DIR]

Trains `maml_navigation` for every scale and offset and every training seed, and measures the last
checkpoint on the validation tasks, stochastic, over ten evaluation seeds. With a folder for the
runs an interrupted benchmark goes on where it stopped. Further options are the config's fields, as
those of `metarl train`.
"""

from __future__ import annotations

import statistics
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from gymnasium import spaces

import metarl
from benchmarks.measurement import Row, count, parse_some, parser, write_json
from metarl.cli.main import main
from metarl.envs.navigation import PointNavigation
from metarl.envs.vector import Floats
from metarl.errors import EnvironmentFailure
from metarl.process import run_program

VIEWS = [(1.0, 0.0), (100.0, 0.0), (1.0, 1e3), (1.0, 1e5)]
"""Scales and offsets; the first is what the others are compared with."""
EVALUATION_SEEDS = 10


class ScaledNavigation(PointNavigation):
    """Point navigation whose observation is scale·x + offset, for the position x.

    Args:
        num_envs: Number of lanes N.
        scale: Of both columns.
        offset: Of both columns, after scaling.
    """

    presets: ClassVar[Mapping[str, Mapping[str, Any]]] = {"maml_2017": {}}
    position_columns = None

    def __init__(self, num_envs: int, *, scale: float = 1.0, offset: float = 0.0) -> None:
        super().__init__(num_envs, held_out="maml_2017")
        self._scale, self._offset = scale, offset
        self.single_observation_space = spaces.Box(-np.inf, np.inf, (2,), np.float64)

    def _observe(self) -> Floats:
        return self._scale * self._position + self._offset


def train(folder: Path, view: tuple[float, float], seed: int, fields: Sequence[str]) -> None:
    """A run in its folder, begun or gone on with.

    Raises:
        EnvironmentFailure: it did not end well.
    """
    scale, offset = view
    words = ["train", "maml_navigation", "--run-dir", str(folder), "--resume", "auto"]
    words += ["--env.name", f"{__spec__.name if __spec__ else __name__}:ScaledNavigation"]
    words += ["--env.scale", str(scale), "--env.offset", str(offset), "--seed", str(seed)]
    words += ["--tracking.wandb", "disabled", "--checkpoint.keep", "1"]
    words += ["--validation.enabled", "false", "--evaluation.at-end", "false", *fields]
    if code := main(words):
        raise EnvironmentFailure(f"The training in {folder} ended with the exit code {code}.")


def returns(folder: Path) -> list[float]:
    """Mean return after 0..K steps on the validation tasks."""
    run = metarl.load_run(folder, trust_code=True)
    result = metarl.evaluate(
        run,
        split="validation",
        episodes=10,
        mode="stochastic",
        evaluation_seeds=EVALUATION_SEEDS,
    )
    return result.headline.mean


def run(argv: Sequence[str]) -> int:
    """Train, measure, print and write."""
    arguments = parser("observation_scale", __doc__, repeats=None)
    arguments.add_argument("--iterations", type=count, default=30)
    arguments.add_argument("--seeds", type=count, default=5, help="training seeds, from 1 on")
    arguments.add_argument("--folder", type=Path, help="for the runs; else a temporary one")
    options, fields = parse_some(arguments, argv)
    fields = ["--iterations", str(options.iterations), *fields]
    fields += ["--rollout.torch-threads", str(options.threads)]
    rows: list[Row] = []
    with tempfile.TemporaryDirectory() as temporary:
        runs = options.folder or Path(temporary)
        for seed in range(1, options.seeds + 1):
            for scale, offset in VIEWS:
                folder = runs / f"scale_{scale:g}_offset_{offset:g}" / f"seed_{seed}"
                train(folder, (scale, offset), seed, fields)
                measured = returns(folder)
                rows.append({"scale": scale, "offset": offset, "seed": seed, "returns": measured})
    summary = {}
    for view in VIEWS:
        of_seeds = [row["returns"] for row in rows if (row["scale"], row["offset"]) == view]
        at_steps = list(zip(*of_seeds, strict=True))
        mean = [statistics.mean(at_k) for at_k in at_steps]
        std = [statistics.stdev(at_k) if len(at_k) > 1 else 0.0 for at_k in at_steps]
        name = "{:g}·x + {:g}".format(*view)
        summary[name] = {"mean": mean, "std": std}
        told = ", ".join(f"{m:.2f} ± {s:.2f}" for m, s in zip(mean, std, strict=True))
        print(f"{name}: {told} after 0 to {len(mean) - 1} steps")
    write_json("observation_scale", options, rows, summary)
    return 0


if __name__ == "__main__":
    sys.exit(run_program(lambda: run(sys.argv[1:])))
