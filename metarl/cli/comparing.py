"""Several run folders into one comparison: which belong together, whether they can be compared."""

from __future__ import annotations

import json
import os
import shlex
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from metarl.config import Config, config_to_dict, load_config
from metarl.errors import EnvironmentFailure, UserError
from metarl.evaluation.comparison import Comparison, MeasuredRun, compare
from metarl.evaluation.task_sets import folder_of
from metarl.report.comparison_report import write_comparison
from metarl.report.evaluation_report import ReportFiles
from metarl.report.training_plots import read_metrics
from metarl.storage.run_folder import prepare_output
from metarl.tracking import metadata
from metarl.training.runs import TrainedRun, load_run, measure, tasks_of

if TYPE_CHECKING:
    from metarl.cli.command_line import EvaluateArguments
    from metarl.types import ActionMode

# What may differ between the seeds of one experiment: it changes neither what was learned nor what
# is measured. (The number of torch threads changes the last digits of sums, as another seed would.)
_NO_MATTER = (
    *("seed", "name", "run_dir", "device", "rollout.", "checkpoint.", "tracking.", "validation."),
    *("evaluation.split", "evaluation.at_end", "env.preset"),
)


@dataclass(frozen=True)
class RunFolder:
    """A run that was named on the command line, before anything of it is loaded but its config."""

    path: Path
    config: Config

    @property
    def settings(self) -> dict[str, Any]:
        """What it was trained on and how it is measured, flat, without its seed."""
        flat = _flatten(config_to_dict(self.config))
        return {key: value for key, value in flat.items() if not key.startswith(_NO_MATTER)}


def compare_runs(
    arguments: EvaluateArguments,
    modes: tuple[ActionMode, ...],
    set_threads: Callable[[int], None],
    say: Callable[[str], None],
) -> tuple[Comparison, ReportFiles]:
    """Measure every run, compare them, and write the report.

    Every run is measured anew, and nothing is written to its folder: an earlier evaluation may be
    of another version of the code, of the environment or of the references, which its file does
    not tell.

    Args:
        arguments: What evaluate.py was asked to do; at least two runs.
        modes: Which action modes to measure.
        set_threads: Takes the threads of a run's config, as at the end of its training.
        say: Takes a line of progress.

    Raises:
        UserError: the runs cannot be compared, or one cannot be loaded.
        EnvironmentFailure: an agent or an environment diverged, or the report cannot be written.
    """
    folders = [RunFolder(Path(r), load_config(Path(r) / "config.yaml", [])) for r in arguments.run]
    task_file = Path(arguments.tasks) if arguments.tasks is not None else None
    check_comparable(folders)
    split = arguments.split or common_split(folders, task_file)
    groups = group_runs(folders)
    output = (
        Path(arguments.output)
        if arguments.output
        else default_output(
            [folder.path for folder in folders],
            (split if task_file is None else folder_of(task_file))
            + ("_forget" if arguments.forget else ""),
        )
    )
    prepare_output(output, arguments.output is not None)
    measured: dict[Path, MeasuredRun] = {}
    with ExitStack() as stack:
        runs = {}
        for folder in folders:  # all before the first is measured: a mistake costs no waiting
            run = load_run(folder.path, arguments.checkpoint, arguments.device)
            stack.callback(run.worker.close)
            tasks_of(run.worker, split, task_file)
            runs[folder.path] = run
        for index, (path, run) in enumerate(runs.items(), 1):
            say(f"Evaluating {path} ({index} of {len(runs)})")
            set_threads(run.config.rollout.torch_threads)
            defaults = run.config.evaluation
            result, _ = measure(
                run,
                split=split,
                episodes=arguments.episodes or defaults.episodes,
                adaptation_steps=arguments.adaptation_steps or defaults.adaptation_steps,
                modes=modes,
                seed=arguments.seed,
                task_file=task_file,
                forget=arguments.forget,
            )
            measured[path] = MeasuredRun(str(path), _env_steps(path, run), result)
            run.worker.close()
    try:
        comparison = compare(
            {label: [measured[f.path] for f in group] for label, group in groups.items()}
        )
    except ValueError as error:
        raise UserError(f"These runs cannot be compared: {error}") from error
    return comparison, _report(output, comparison, groups, arguments, split, modes)


def check_comparable(folders: Sequence[RunFolder]) -> None:
    """Refuse runs of different environments.

    Raises:
        UserError: names the first field that differs, both values and both runs.
    """
    first, *others = folders
    for other in others:
        a, b = (
            {key: value for key, value in folder.settings.items() if key.startswith("env.")}
            for folder in (first, other)
        )
        for key in sorted(a.keys() | b.keys(), key=lambda key: key != "env.name"):
            if a.get(key) != b.get(key):
                raise UserError(
                    f"These runs cannot be compared, since their environments differ: {key} is "
                    f"{a.get(key)!r} in {first.path} and {b.get(key)!r} in {other.path}."
                )


def common_split(folders: Sequence[RunFolder], task_file: Path | None) -> Any:
    """The split that all configs name.

    Raises:
        UserError: they name several, and no file of tasks stands in their place.
    """
    first, *others = folders
    split = first.config.evaluation.split
    for other in others:
        if task_file is None and other.config.evaluation.split != split:
            raise UserError(
                f"evaluation.split is {split} in {first.path} and "
                f"{other.config.evaluation.split} in {other.path}; choose one with --split."
            )
    return split


def group_runs(folders: Sequence[RunFolder]) -> dict[str, list[RunFolder]]:
    """Runs whose configs differ in nothing but the seed, under a label that tells them apart.

    A group is called by its runs' name; where two groups share one, by what differs besides.

    Raises:
        UserError: two runs have one config and one seed.
    """
    groups: list[list[RunFolder]] = []
    for folder in folders:
        for group in groups:
            if group[0].settings == folder.settings:
                group.append(folder)
                break
        else:
            groups.append([folder])
    for group in groups:
        seen: dict[int, RunFolder] = {}
        for folder in group:
            twin = seen.setdefault(folder.config.seed, folder)
            if twin is not folder:
                raise UserError(
                    f"{twin.path} and {folder.path} have the same config and the same seed "
                    f"{folder.config.seed}: leave one of them out."
                )
    names = [group[0].config.name for group in groups]
    labels: dict[str, list[RunFolder]] = {}
    for name, group in zip(names, groups, strict=True):
        others = [g[0] for g, n in zip(groups, names, strict=True) if n == name and g is not group]
        label = _distinct(name, group[0], others) if others else name
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


def _report(
    output: Path,
    comparison: Comparison,
    groups: Mapping[str, Sequence[RunFolder]],
    arguments: EvaluateArguments,
    split: str,
    modes: tuple[ActionMode, ...],
) -> ReportFiles:
    training: dict[str, list[list[dict[str, Any]]]] = {label: [] for label in groups}
    commands = []
    for label, group in groups.items():
        for folder in group:
            training[label].append(_metrics(folder.path))
            try:
                meta = json.loads((folder.path / "meta.json").read_bytes())
                commands.append(str(meta["command"]))
            except (OSError, ValueError, TypeError, KeyError):
                continue  # a record for people: the comparison does not depend on it
    config = next(iter(groups.values()))[0].config
    try:
        return write_comparison(
            output,
            comparison,
            command=_command(arguments, split, modes, output),
            training_commands=list(dict.fromkeys(commands)),
            versions=metadata(arguments.device, config.rollout.torch_threads, 0)["versions"],
            training=training,
        )
    except OSError as error:
        raise EnvironmentFailure(
            f"The report cannot be written to {output}: {error.strerror or error}."
        ) from error


def _command(
    arguments: EvaluateArguments, split: str, modes: tuple[ActionMode, ...], output: Path
) -> str:
    """The command that makes the comparison again; what it leaves out is the runs' own config."""
    words = ["python", "evaluate.py"]
    for run in arguments.run:
        words += ["--run", run]
    words += ["--split", split] if arguments.tasks is None else ["--tasks", arguments.tasks]
    for name in ("episodes", "adaptation_steps"):
        if (value := getattr(arguments, name)) is not None:
            words += [f"--{name.replace('_', '-')}", str(value)]
    words += ["--mode", modes[0] if len(modes) == 1 else "both", "--seed", str(arguments.seed)]
    words += ["--forget", "true"] if arguments.forget else []
    words += ["--checkpoint", str(arguments.checkpoint), "--output", str(output)]
    return shlex.join(words)


def _env_steps(path: Path, run: TrainedRun) -> int | None:
    """Env steps of training at the checkpoint, if the run's metrics tell."""
    at = [line["env_steps"] for line in _metrics(path) if line.get("iteration") == run.iteration]
    return int(at[-1]) if at else None


def _metrics(path: Path) -> list[dict[str, Any]]:
    metrics = path / "metrics.jsonl"
    try:
        return read_metrics(metrics) if metrics.is_file() else []
    except (OSError, ValueError) as error:
        raise UserError(f"{metrics} cannot be read: {error}.") from error


def _distinct(name: str, folder: RunFolder, others: Sequence[RunFolder]) -> str:
    """The name with up to two settings in which this run differs from those of the same name."""
    mine = folder.settings
    differing = [
        key for key in mine if any(other.settings.get(key) != mine[key] for other in others)
    ]
    shown = [f"{key.removeprefix('algorithm.')} {mine[key]}" for key in differing[:2]]
    return f"{name} ({', '.join(shown)})"


def _flatten(value: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, child in value.items():
        if isinstance(child, dict):
            flat |= _flatten(child, f"{prefix}{key}.")
        else:
            flat[f"{prefix}{key}"] = child
    return flat
