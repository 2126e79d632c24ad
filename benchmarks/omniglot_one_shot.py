"""Omniglot's official one-shot test: 20 runs of 20-way classification within an alphabet.

    python -m benchmarks.omniglot_one_shot RUN FOLDER [--data FOLDER] [--adaptation-steps K]

RUN was trained on 20-way 1-shot tasks of `few_shot_images`; FOLDER is the unzipped `all_runs.zip`
of https://github.com/brendenlake/omniglot. No speed: the error, beside those of people and of
Bayesian program learning (Lake et al. 2015, which learned from 964 background characters).
"""

from __future__ import annotations

import statistics
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

import metarl
from benchmarks.measurement import Row, begin, count, parser, print_table, write_json
from metarl.envs.few_shot_images import FewShotClassification
from metarl.envs.labelled_images import grey_image
from metarl.errors import UserError
from metarl.experience.few_shot import FewShotSets, FewShotSource
from metarl.maths.samples import Samples
from metarl.process import run_program

PUBLISHED = {"people": 0.045, "Bayesian program learning": 0.033}
WAYS = 20


def official_runs(folder: Path, size: int) -> FewShotSets:
    """The runs ``[20, 20, size²]``: one image of every class, and one of each to be classified.

    Raises:
        UserError: a run, an image or a label is missing.
    """
    inputs, targets = [], []
    for run in sorted(folder.glob("run*/class_labels.txt")):
        pairs = [line.split() for line in run.read_text().splitlines() if line.strip()]
        classes = sorted(image for _, image in pairs)
        if len(set(classes)) != WAYS:
            raise UserError(f"{run} has {len(set(classes))} classes: it must have {WAYS}.")
        images = [*classes, *(item for item, _ in pairs)]
        inputs.append(np.stack([_read(folder / image, size) for image in images]))
        targets.append([classes.index(image) for _, image in pairs])
    if not inputs:
        raise UserError(f"{folder} has no run01/class_labels.txt: give the unzipped all_runs.zip.")
    pixels = torch.from_numpy(np.stack(inputs)).flatten(2).float() / 255.0  # [runs, 40, size²]
    ones = torch.ones(len(pixels), WAYS)
    labels = torch.arange(WAYS).expand(len(pixels), WAYS), torch.tensor(targets)
    parts = zip(pixels.split(WAYS, dim=1), labels, strict=True)
    return FewShotSets(*(Samples(x, y, ones, ones / WAYS) for x, y in parts))


def _read(path: Path, size: int) -> np.ndarray:
    try:
        return grey_image(path, size)
    except ValueError as error:
        raise UserError(str(error)) from error


def errors(run: metarl.TrainedRun, sets: FewShotSets, steps: int) -> list[list[float]]:
    """Share of every official run's images that are classified wrongly, after 0..K steps."""
    agent: Any = run.agent("deterministic")
    steps = min(steps, 1) if agent.adaptation_axis == "support_set" else steps
    agent.begin(sets.support)
    found = []
    for step in range(steps + 1):
        if step > 0:
            agent.adapt()
        predicted = agent.predict(sets.query.observations).mode()
        found.append((predicted != sets.query.actions).double().mean(1).tolist())
    return found


def run(argv: Sequence[str]) -> int:
    """Measure, print a table, and write the JSON.

    Raises:
        UserError: the run is another kind of run, or the official runs are not there.
    """
    arguments = parser("omniglot_one_shot", __doc__, repeats=None)
    arguments.add_argument("run", type=Path, help="folder of a run trained 20-way 1-shot")
    arguments.add_argument("folder", type=Path, help="the unzipped all_runs.zip")
    arguments.add_argument("--data", type=Path, help="where the run's images lie here")
    arguments.add_argument("--adaptation-steps", type=count, help="as the run's config evaluates")
    options = begin(arguments, argv)
    trained = metarl.load_run(options.run, data=options.data)
    tasks = trained.worker.tasks if isinstance(trained.worker, FewShotSource) else None
    if not isinstance(tasks, FewShotClassification) or (tasks.ways, tasks.shots) != (WAYS, 1):
        raise UserError(f"{options.run} was not trained on {WAYS}-way 1-shot tasks of images.")
    sets = official_runs(options.folder, tasks.input_space.shape[-1])
    steps = options.adaptation_steps or trained.config.evaluation.adaptation_steps
    rows: list[Row] = [
        {"adaptation_step": step, "errors": of_runs, "mean": statistics.mean(of_runs)}
        for step, of_runs in enumerate(errors(trained, sets, steps))
    ]
    name, table = trained.config.algorithm.name, []
    for row in rows:
        spread = statistics.stdev(row["errors"]) if len(row["errors"]) > 1 else 0.0
        row["ci95"] = 1.96 * spread / len(row["errors"]) ** 0.5
        after = f"{name} after {row['adaptation_step']} adaptation steps"
        table.append([after, f"{100 * row['mean']:.1f} ± {100 * row['ci95']:.1f}"])
    table += [[who, f"{100 * error:.1f}"] for who, error in PUBLISHED.items()]
    print_table(["", "error, %"], table)
    print(f"{len(sets.query.actions)} official runs; ± 1.96 standard errors over them.")
    write_json("omniglot_one_shot", options, rows, {"published": PUBLISHED})
    return 0


if __name__ == "__main__":
    sys.exit(run_program(lambda: run(sys.argv[1:])))
