"""The Python door: train, evaluate, compare and load without a command line and without exits.

All of it is in reach as ``metarl.train(...)`` and so on. What the user gets wrong raises
:class:`metarl.errors.UserError`, what fails underneath :class:`metarl.errors.EnvironmentFailure`,
each with the sentence that the command line would print.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Unpack

if TYPE_CHECKING:
    from metarl.config.fields import Config, DeviceName
    from metarl.envs.vector import TaskVectorEnv
    from metarl.evaluation.plan import Asked
    from metarl.report.notebook import ShownComparison, ShownEvaluation
    from metarl.training.measuring import Subject
    from metarl.training.runs import TrainedRun

Checkpoint = int | Literal["latest"]


def train(config: str | Path | Mapping[str, Any] = "quickstart", **fields: Any) -> TrainedRun:
    """Meta-train, with the run folder and the files that `metarl train` makes.

    Args:
        config: The name of a config that comes with metarl, a YAML file, or the fields themselves.
        **fields: Fields that win over the config's, as sections ``env={"horizon": 50}`` or dotted
            ``**{"env.horizon": 50}``. A section with another ``name`` takes the place of the
            config's. ``env=MyEnv`` or ``env={"name": MyEnv}`` trains on a class, also one of a
            notebook; ``algorithm=MyAlgorithm`` likewise.

    Returns:
        The trained run; ``run.agent()`` is the agent, ``run.metrics`` the training in numbers.

    Raises:
        UserError: the config is wrong, or the run folder holds a run.
        EnvironmentFailure: the training diverged, the environment failed, or nothing can be
            written.
        KeyboardInterrupt: the user asked to stop; the finished iterations are saved.
    """
    from metarl.cli.train import train_run
    from metarl.config.loading import resolve

    run = train_run(resolve(_config(config, fields)))
    if run is None:
        raise KeyboardInterrupt
    return run


def evaluate(
    subject: TrainedRun | str | Path | type,
    *,
    config: str | Path | None = None,
    checkpoint: Checkpoint = "latest",
    device: DeviceName = "cpu",
    output: str | Path | None = None,
    **asked: Unpack[Asked],
) -> ShownEvaluation:
    """Measure how fast an agent adapts to tasks that it was not trained on.

    Args:
        subject: A run or its folder; or an agent's class or import path "module:Class".
        config: The config, by name or file, in whose environment an agent of one's own acts.
        checkpoint: Of a run that is given by its folder.
        device: Of the adaptation, likewise.
        output: A folder for `evaluation.json` and the report; without one nothing is written.
        **asked: ``split``, ``tasks``, ``episodes``, ``adaptation_steps``, ``mode``, ``seed``,
            ``forget``, see :class:`metarl.evaluation.plan.Asked`.

    Raises:
        UserError: there is no such run, agent or split.
        EnvironmentFailure: the agent or the environment diverged, or the report cannot be written.
    """
    from metarl.evaluation.plan import EvaluationPlan
    from metarl.report.notebook import ShownEvaluation
    from metarl.storage.run_folder import prepare_output
    from metarl.training.measuring import measure, report

    if output is not None:
        prepare_output(Path(output), asked_for=True)
    measured = _subject(subject, config, checkpoint, device)
    plan = EvaluationPlan.asked(measured.config.evaluation, **asked)
    try:
        result, evaluation = measure(measured, plan)
        if output is not None:
            report(measured, plan, Path(output), result, evaluation)
    finally:
        measured.worker.close()
    return ShownEvaluation.of(result)


def compare(
    runs: Sequence[str | Path],
    *,
    checkpoint: Checkpoint = "latest",
    device: DeviceName = "cpu",
    output: str | Path | None = None,
    **asked: Unpack[Asked],
) -> ShownComparison:
    """Measure several runs and compare them; those that differ in the seed alone are one group.

    Args:
        runs: Their folders, at least two.
        checkpoint: Of every run.
        device: Of the adaptation.
        output: A folder for `comparison.json` and the report; without one nothing is written.
        **asked: As for :func:`evaluate`.

    Raises:
        UserError: the runs cannot be compared.
        EnvironmentFailure: an agent or an environment diverged, or the report cannot be written.
    """
    from metarl.errors import UserError
    from metarl.report.notebook import ShownComparison
    from metarl.storage.run_folder import prepare_output
    from metarl.training.comparing import measure_groups, open_groups, report_comparison

    if len(runs) < 2:
        raise UserError("A comparison needs at least two runs.")
    groups = open_groups(runs, **asked)
    if output is not None:
        prepare_output(Path(output), asked_for=True)
    comparison = measure_groups(groups, checkpoint, device)
    if output is not None:
        report_comparison(Path(output), comparison, groups, "metarl.compare(...)")
    return ShownComparison.of(comparison)


def load_run(
    run_dir: str | Path, checkpoint: Checkpoint = "latest", device: DeviceName = "cpu"
) -> TrainedRun:
    """A trained run from its folder, see :func:`metarl.training.runs.load_run`."""
    from metarl.training import runs

    return runs.load_run(run_dir, checkpoint, device)


def make_env(name: str | type, num_envs: int = 1, **params: Any) -> TaskVectorEnv:
    """A vector environment by name, import path or class, see :func:`metarl.envs.make`."""
    from metarl import envs

    return envs.make(_name(name), num_envs, **params)


def _config(config: str | Path | Mapping[str, Any], fields: Mapping[str, Any]) -> Config:
    """The validated config with the fields that win over it."""
    from metarl.config.loading import config_from, default_name
    from metarl.config.yaml_text import read_yaml
    from metarl.storage.places import find_config

    origins: dict[Any, str] = {}
    if isinstance(config, Mapping):
        data = dict(config)
    else:
        path = find_config(config)
        data, origins = read_yaml(path)
        data.setdefault("name", default_name(path))
    for name, value in fields.items():
        *sections, last = name.split(".")
        for section in reversed(sections):
            value, last = {last: value}, section
        data = _merged(data, {last: value})
    for section in ("env", "algorithm"):
        if isinstance(data.get(section), dict) and "name" in data[section]:
            data[section] = data[section] | {"name": _name(data[section]["name"])}
    given = {key: value for key, value in origins.items() if key[0] not in fields}
    return config_from(data, origins=given)


def _merged(base: Mapping[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    """Nested fields, the second ones winning; another name makes a section anew."""
    merged = dict(base)
    for key, value in over.items():
        if isinstance(value, type):
            value = {"name": value}
        own = merged.get(key)
        if isinstance(own, dict) and isinstance(value, Mapping):
            anew = "name" in value and value["name"] != own.get("name")
            value = dict(value) if anew else _merged(own, value)
        merged[key] = value
    return merged


def _name(name: Any) -> Any:
    """The import path of a class; names stay."""
    return f"{name.__module__}:{name.__qualname__}" if isinstance(name, type) else name


def _subject(
    subject: TrainedRun | str | Path | type,
    config: str | Path | None,
    checkpoint: Checkpoint,
    device: DeviceName,
) -> Subject:
    """What is to be measured: a run as it is or from its folder, or an agent in a config."""
    from metarl.errors import UserError
    from metarl.training.user_agent import load_agent

    if isinstance(subject, str | type) and config is not None:
        return load_agent(subject, config, device)
    if isinstance(subject, str | Path):
        return load_run(subject, checkpoint, device)
    if isinstance(subject, type):
        raise UserError("An agent needs config=, which says in what environment it acts.")
    return subject
