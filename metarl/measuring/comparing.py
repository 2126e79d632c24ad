"""Several run folders into one comparison: which belong together, whether they can be compared."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from metarl.config.fields import Backend, Config, DeviceName
from metarl.config.loading import flat
from metarl.config.trust import NOTHING, Trust
from metarl.errors import UserError
from metarl.evaluation.comparison import Comparison, MeasuredRun, compare
from metarl.evaluation.plan import EvaluationPlan
from metarl.measuring.evaluating import measure
from metarl.measuring.options import EvaluationOptions
from metarl.report.comparison_report import write_comparison
from metarl.report.page import ReportFiles
from metarl.runs.run_config import load_run_config
from metarl.runs.trained_run import load_run, training_lines
from metarl.runs.warm_start import recorded_start
from metarl.storage.json_lines import read_json
from metarl.storage.provenance import versions

# What may differ between the seeds of one experiment: it changes neither what was learned nor what
# is measured. (The number of torch threads changes the last digits of sums, as another seed would.)
_FREE_FIELDS = {"seed", "name", "run_dir", "device", "env.preset"}
_FREE_FIELDS |= {"evaluation.split", "evaluation.seeds", "evaluation.at_end"}
_FREE_SECTIONS = ("rollout.", "checkpoint.", "tracking.", "validation.")


@dataclass(frozen=True)
class RunFolder:
    """A run to compare, before anything of it is loaded but its config.

    Attributes:
        path: Its folder.
        config: Its config.
        plan: How it is to be measured.
        trust: Which code its config may name.
        started_from: The run and the checkpoint that it began with, if it did.
    """

    path: Path
    config: Config
    plan: EvaluationPlan
    trust: Trust = NOTHING
    started_from: str | None = None

    @property
    def settings(self) -> dict[str, Any]:
        """What it was trained on and how it is measured, without its seed."""
        settings = {
            name: value
            for name, value in flat(self.config).items()
            if name not in _FREE_FIELDS and not name.startswith(_FREE_SECTIONS)
        }
        if self.started_from is not None:
            settings["init_from"] = self.started_from
        return settings


Groups = Mapping[str, Sequence[RunFolder]]
"""Label -> the runs that differ in nothing but the seed."""


def open_groups(
    paths: Iterable[Path | str],
    options: EvaluationOptions,
    checkpoint: int | Literal["latest"] = "latest",
    trust: Trust = NOTHING,
) -> dict[str, list[RunFolder]]:
    """The runs in these folders, grouped.

    Args:
        paths: Run folders, at least two.
        options: In place of what each run's own config says.
        checkpoint: Of every run.
        trust: Which code their configs may name.

    Raises:
        UserError: a config is wrong or names code that is not trusted, or the runs cannot be
            compared.
    """
    folders = []
    for path in (Path(os.path.expanduser(path)) for path in paths):
        config = load_run_config(path, trust, checkpoint=checkpoint)
        start = recorded_start(path)
        began = None
        if start is not None:
            began = f"{start['run']} {start['iteration']} ({start['sha256'][:8]})"
        folders.append(RunFolder(path, config, options.plan(config.evaluation), trust, began))
    check_comparable(folders)
    return group_runs(folders)


def measure_groups(
    groups: Groups,
    checkpoint: int | Literal["latest"] = "latest",
    device: DeviceName = "cpu",
    say: Callable[[str], None] = lambda line: None,
    *,
    data: str | Path | None = None,
    backend: Backend | None = None,
) -> Comparison:
    """Measure every run, and compare the groups.

    Every run is measured anew, and nothing is written to its folder: an earlier evaluation may be
    of another version of the code, of the environment or of the references, which its file does
    not tell.

    Args:
        groups: From :func:`open_groups`.
        checkpoint: Of every run.
        device: Of the adaptation.
        say: Takes a line of progress.
        data: Where the data of few-shot tasks lie; None: where each run's config says.
        backend: Where episodes are played; None: here.

    Raises:
        UserError: a run cannot be loaded, or they cannot be compared.
        EnvironmentFailure: an agent or an environment diverged.
    """
    folders = [folder for group in groups.values() for folder in group]
    measured: dict[Path, MeasuredRun] = {}
    with ExitStack() as stack:
        runs = []
        for folder in folders:  # all before the first is measured: a mistake costs no waiting
            trust = folder.trust.everything
            which = folder.path, checkpoint, device
            run = load_run(*which, trust_code=trust, data=data, backend=backend)
            stack.callback(run.worker.close)
            folder.plan.tasks(run.worker.task_distribution)
            training_lines(folder.path)
            runs.append(run)
        for index, (folder, run) in enumerate(zip(folders, runs, strict=True), 1):
            say(f"Evaluating {folder.path} ({index} of {len(runs)})")
            result, _ = measure(run, folder.plan, say)
            measured[folder.path] = MeasuredRun(str(folder.path), run.env_steps, result)
            run.worker.close()
    try:
        return compare(
            {label: [measured[f.path] for f in group] for label, group in groups.items()}
        )
    except ValueError as error:
        raise UserError(f"These runs cannot be compared: {error}") from error


def report_comparison(
    output: Path, comparison: Comparison, groups: Groups, command: str
) -> ReportFiles:
    """Write a comparison's report.

    Args:
        output: Where to write.
        comparison: From :func:`measure_groups`.
        groups: Whose training curves and commands the report shows.
        command: What makes it again.

    Raises:
        UserError: a training curve cannot be read.
        EnvironmentFailure: the output folder cannot be written.
    """
    commands = []
    for folder in (folder for group in groups.values() for folder in group):
        try:
            meta = read_json(folder.path / "meta.json")
            commands.append(str(meta["command"]))
        except (OSError, ValueError, TypeError, KeyError):
            continue  # a record for people: the comparison does not depend on it
    return write_comparison(
        output,
        comparison,
        command=command,
        training_commands=list(dict.fromkeys(commands)),
        versions=versions(),
        training={
            label: [training_lines(folder.path) for folder in group]
            for label, group in groups.items()
        },
    )


def check_comparable(folders: Sequence[RunFolder]) -> None:
    """Refuse runs of different environments, or to be measured on different sets of tasks.

    Raises:
        UserError: names the first field that differs, both values and both runs.
    """
    first, *others = folders
    for other in others:
        a, b = first.settings, other.settings
        fields = sorted(name for name in a | b if name.startswith("env."))
        for name in sorted(fields, key=lambda name: name != "env.name"):
            if a.get(name) != b.get(name):
                raise UserError(
                    f"These runs cannot be compared, since their environments differ: {name} is "
                    f"{a.get(name)!r} in {first.path} and {b.get(name)!r} in {other.path}."
                )
        if other.plan.folder != first.plan.folder:
            raise UserError(
                f"evaluation.split is {first.plan.split} in {first.path} and "
                f"{other.plan.split} in {other.path}; choose one with --split."
            )
        if other.plan.num_seeds != first.plan.num_seeds:
            raise UserError(
                f"evaluation.seeds is {first.plan.num_seeds} in {first.path} and "
                f"{other.plan.num_seeds} in {other.path}; choose one with --evaluation-seeds."
            )


def group_runs(folders: Sequence[RunFolder]) -> dict[str, list[RunFolder]]:
    """Runs whose configs differ in nothing but the seed, under a label that tells them apart.

    A group is called by its runs' name; where two groups share one, by up to two settings in which
    it differs from the others besides.

    Raises:
        UserError: two runs have one config and one seed.
    """
    groups: dict[str, list[RunFolder]] = {}
    for folder in folders:
        group = groups.setdefault(json.dumps(folder.settings, sort_keys=True), [])
        for twin in group:
            if twin.config.seed == folder.config.seed:
                raise UserError(
                    f"{twin.path} and {folder.path} have the same config and the same seed "
                    f"{folder.config.seed}: leave one of them out."
                )
        group.append(folder)
    labels: dict[str, list[RunFolder]] = {}
    for group in groups.values():
        label, mine = group[0].config.name, group[0].settings
        namesakes = [g[0] for g in groups.values() if g[0].config.name == label and g is not group]
        differing = [
            f"{key.removeprefix('algorithm.')} {value}"
            for key, value in mine.items()
            if any(other.settings.get(key) != value for other in namesakes)
        ]
        label += f" ({', '.join(differing[:2])})" if differing else ""
        while label in labels:
            label += "'"
        labels[label] = group
    return labels


def default_output(paths: Iterable[Path], split_folder: str) -> Path:
    """Beside the runs: `comparison/<split>` in the folder that holds them all."""
    parents = [path.resolve().parent for path in paths]
    common = Path(os.path.commonpath(parents))
    here = Path.cwd()
    common = common.relative_to(here) if common.is_relative_to(here) else common
    return common / "comparison" / split_folder
