"""The command lines of train.py and evaluate.py, and the help that lists their fields."""

from __future__ import annotations

import json
import textwrap
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, NoReturn, Union, get_args, get_origin

import annotated_types
from pydantic import BaseModel, Field, ValidationError

from metarl.config.fields import Config, DeviceName, Section, SplitName
from metarl.config.loading import (
    adopt,
    check_environment,
    concrete_model,
    differences,
    load_options,
    read_source,
    resolve,
    resolve_device,
)
from metarl.config.messages import Origins, check_keys, check_values, sub_model, validation_error
from metarl.config.model import algorithm_names, environment_names
from metarl.config.overrides import Option, apply_option, split_options
from metarl.config.yaml_text import dump_yaml
from metarl.errors import UserError
from metarl.storage.run_folder import holds_run

_TRAIN_USAGE = """\
Meta-train an agent.

  python train.py --config FILE [--run-dir DIR] [--seed N] [--device NAME] [--FIELD VALUE ...]
  python train.py --run-dir DIR --resume [--FIELD VALUE ...]

  --config FILE   YAML with the fields below; what it leaves out keeps its default
  --resume        go on from the run folder's last checkpoint
  --help          this text, for the environment and the algorithm chosen

Every field below can stand in the file or on the command line, which wins:
--env.horizon 50, --tracking.tags a,b, --max-env-steps null ("-" and "_" mean the same).
"""
_WIDTH, _INDENT = 110, 42
_EVALUATE_USAGE = """\
Measure how fast a trained agent adapts to held-out tasks.

  python evaluate.py --run DIR [--split NAME | --tasks FILE] [--episodes N] [--video] [...]
  python evaluate.py --run DIR --run DIR ... [--output DIR] [...]
  python evaluate.py --config FILE --agent module:Class [...]     an agent of your own

Several runs are compared on one axis; those that differ in nothing but the seed are one group.
"""


@dataclass(frozen=True)
class TrainArguments:
    """What train.py was asked to do.

    Attributes:
        config: Resolved: device, threads of the update and run folder are settled.
        run_dir: The run folder.
        resume: Whether to go on with the run in it.
        overrides: The command line's fields as ``name=value``, for the record.
    """

    config: Config
    run_dir: Path
    resume: bool
    overrides: tuple[str, ...]


class EvaluateArguments(Section):
    """What evaluate.py was asked to do; None means the value of the run's own config."""

    run: tuple[str, ...] = Field((), description="run folder; repeat it to compare several")
    agent: str | None = Field(
        None, min_length=1, description="import path of a Agent class, in place of a run"
    )
    config: str | None = Field(
        None, min_length=1, description="YAML whose environment and evaluation the agent gets"
    )
    split: SplitName | None = Field(None, description="which tasks; null: as in the run's config")
    tasks: str | None = Field(
        None,
        min_length=1,
        description="CSV or JSON file of tasks of your own, with the names of their columns",
    )
    episodes: int | None = Field(
        None, ge=1, description="episodes a task and adaptation step; null: as in the run's config"
    )
    adaptation_steps: int | None = Field(
        None, ge=1, description="adaptation steps; null: as in the run's config"
    )
    mode: Literal["stochastic", "deterministic", "both"] = Field(
        "both", description="how actions are chosen"
    )
    seed: int = Field(0, ge=0, lt=2**32, description="of the evaluation's random streams")
    forget: bool = Field(
        False, description="begin anew instead of adapting: an ablation, which should gain nothing"
    )
    device: DeviceName = Field("auto", description="of the adaptation; auto: cuda if there is one")
    checkpoint: Annotated[int, Field(ge=0)] | Literal["latest"] = Field(
        "latest", description="iteration, or latest"
    )
    output: str | None = Field(
        None,
        min_length=1,
        description="folder for results; null: evaluation/<split>[_forget] in the run, for several "
        "runs comparison/<split> beside them",
    )
    video: bool = Field(
        False,
        description="also write a GIF and an MP4 of the agent before and after adaptation",
        json_schema_extra={"switch": True},
    )


# ---------------------------------------------------------------------------------------------
# train.py


def parse_train_arguments(argv: Sequence[str]) -> TrainArguments:
    """Reads train.py's command line; ``--help`` prints and exits with 0.

    Raises:
        UserError: Anything wrong with it, with the config, or with the run to resume.
    """
    options = split_options(argv, switches=("resume", "help"))
    names = {option.name for option in options}
    config_path = _last_path(options, "config")
    fields = [o for o in options if o.name not in ("config", "resume", "help")]
    if "help" in names:
        _print_help(_describe(config_path, fields))
    overrides = tuple(f"{option.name}={option.text}" for option in fields)
    if "resume" in names:
        config = _resumed_config(config_path, fields)
    elif config_path is None:
        raise UserError("Give --config FILE, or --run-dir DIR --resume; --help lists the fields.")
    else:
        config = resolve(load_options(config_path, fields))
    check_environment(config)
    return TrainArguments(
        config=config, run_dir=config.run_folder, resume="resume" in names, overrides=overrides
    )


def _resumed_config(config_path: Path | None, fields: list[Option]) -> Config:
    """The config of the run in the run folder, with what may change on resume changed."""
    run_dir = _last_path(fields, "run_dir")
    if run_dir is None:
        if config_path is None:
            raise UserError("--resume needs --run-dir DIR, the folder of the run to go on with.")
        run_dir = load_options(config_path, fields).run_folder
    saved_path = run_dir / "config.yaml"
    if not holds_run(run_dir):
        raise UserError(f"There is no run to resume in {run_dir}: it has no config.yaml.")
    saved = load_options(saved_path, [])
    here = Option("run_dir", str(run_dir))  # the folder may have been moved since
    config = adopt(load_options(config_path or saved_path, [*fields, here]), saved)
    if clauses := differences(saved, config):
        raise UserError(
            f"The run in {run_dir} cannot be resumed with another config: {'; '.join(clauses)}."
        )
    return resolve(config)


def _last_path(options: Sequence[Option], name: str) -> Path | None:
    texts = [option.text for option in options if option.name == name]
    if texts and not texts[-1]:
        raise UserError(f"--{name.replace('_', '-')} is empty; give a path.")
    return Path(str(texts[-1])) if texts else None


# ---------------------------------------------------------------------------------------------
# evaluate.py


def parse_evaluate_arguments(argv: Sequence[str]) -> EvaluateArguments:
    """Reads evaluate.py's command line; ``--help`` prints and exits with 0.

    Raises:
        UserError: Anything wrong with it, or a run that is missing.
    """
    options = split_options(argv, switches=("help", "video"))
    if any(option.name == "help" for option in options):
        _print_help("\n".join([_EVALUATE_USAGE, *field_lines(EvaluateArguments)]))
    data: dict[str, Any] = {}
    for option in options:
        if option.name == "video":
            data["video"] = True
        elif option.name != "run":
            apply_option(EvaluateArguments, data, option)
    data["run"] = [option.text for option in options if option.name == "run"]
    _check_subject({option.name for option in options})
    origins: Origins = {option.path: "command line" for option in options}
    check_keys(EvaluateArguments, data, origins)
    check_values(data, origins)
    try:
        arguments = EvaluateArguments.model_validate_json(json.dumps(data), strict=True)
    except ValidationError as error:
        raise validation_error(error, data, origins) from None
    for index, run in enumerate(arguments.run):
        if not holds_run(Path(run)):
            raise UserError(f"There is no run in {run}: it has no config.yaml.")
        if Path(run).resolve() in [Path(other).resolve() for other in arguments.run[:index]]:
            raise UserError(f"--run {run} is given twice.")
    if arguments.video and len(arguments.run) > 1:
        raise UserError("--video shows one agent, and several runs were given.")
    if arguments.split is not None and arguments.tasks is not None:
        raise UserError("--split and --tasks both say which tasks: give one of them.")
    return arguments.model_copy(update={"device": resolve_device(arguments.device)})


def _check_subject(names: set[str]) -> None:
    """What is evaluated is trained runs, or one agent of the user's.

    Raises:
        UserError: neither is given whole, or both are.
    """
    if "agent" not in names:
        if "config" in names:
            raise UserError("--config goes with --agent module:Class; a run has its own config.")
        if "run" not in names:
            raise UserError("Give --run DIR, the folder of a trained run.")
    elif "run" in names:
        raise UserError("Give --run or --agent, not both.")
    elif "config" not in names:
        raise UserError("--agent needs --config FILE, which says in what environment it acts.")
    elif "checkpoint" in names:
        raise UserError("--checkpoint belongs to a run; an --agent has none.")


# ---------------------------------------------------------------------------------------------
# Help


def describe(config_path: Path | None, overrides: Sequence[str]) -> str:
    """The help of train.py: every field of the environment and the algorithm chosen.

    Raises:
        UserError: The config cannot be read, or names an unknown environment or algorithm.
    """
    return _describe(config_path, split_options(overrides))


def _describe(config_path: Path | None, options: Sequence[Option]) -> str:
    data, origins = read_source(config_path)
    model, env = concrete_model(data, options, origins)
    lines = [_TRAIN_USAGE]
    for name, field in model.model_fields.items():
        if sub_model(field.annotation) is None:
            lines += _field_line((name,), field)
    notes = {
        "env": f"{', '.join(environment_names())}, or package.module:Class; "
        f"presets of {env.__name__}: {', '.join(getattr(env, 'presets', {})) or 'none'}",
        "algorithm": f"{', '.join(algorithm_names())}, or package.module:Class",
    }
    for name, field in model.model_fields.items():
        if (section := sub_model(field.annotation)) is not None:
            note = f" ({notes[name]})" if name in notes else ""
            lines += ["", f"{name}{note}", *field_lines(section, (name,))]
    return "\n".join(lines)


def field_lines(model: type[BaseModel], prefix: tuple[str, ...] = ()) -> list[str]:
    """A line of help for every field of a model."""
    # Names first: the algorithm's stands last in its model.
    fields = sorted(model.model_fields.items(), key=lambda item: item[0] != "name")
    lines = []
    for name, field in fields:
        section = sub_model(field.annotation)
        if section is None:
            lines += _field_line((*prefix, name), field)
        else:
            lines += field_lines(section, (*prefix, name))
    return lines


def _field_line(path: tuple[str, ...], field: Any) -> list[str]:
    """``--seed INT   of all random streams (default 1; >= 0)``, on several lines if it is long."""
    # As in the config file where dotted; single words as command lines have them.
    name = ".".join(path) if len(path) > 1 else path[0].replace("_", "-")
    option = f"  --{name} {_type_name(field.annotation)}"
    if (field.json_schema_extra or {}).get("switch"):
        option = f"  --{name}"
    if field.is_required():
        notes = ["required"]
    else:
        default = field.get_default(call_default_factory=True)
        notes = [f"default {_default_text(default)}"]
    notes += _bounds(field.metadata)
    unit = (field.json_schema_extra or {}).get("unit")
    meaning = (field.description or "").rstrip(".")
    if unit := (field.json_schema_extra or {}).get("unit"):
        meaning += f", {unit}"
    text = textwrap.wrap(f"{meaning} ({'; '.join(notes)})".strip(), _WIDTH - _INDENT)
    if len(option) > _INDENT - 2:
        text.insert(0, "")
    first = f"{option:<{_INDENT}}{text[0]}".rstrip()
    return [first, *(" " * _INDENT + line for line in text[1:])]


def _default_text(default: object) -> str:
    value = list(default) if isinstance(default, tuple) else default
    return dump_yaml({"x": value}).removeprefix("x:").strip()


def _bounds(metadata: Sequence[Any]) -> list[str]:
    notes = []
    for item in metadata:
        for attribute, sign in (("ge", ">="), ("gt", ">"), ("le", "<="), ("lt", "<")):
            # Only the class that the bound is named after has the attribute.
            if isinstance(item, getattr(annotated_types, attribute.capitalize())):
                notes.append(f"{sign} {getattr(item, attribute)}")
    return notes


def _type_name(annotation: Any) -> str:
    """How a type is written in the help: INT, NUMBER, TEXT, LIST, a|b, ...|null."""
    simple = {bool: "true|false", int: "INT", float: "NUMBER", str: "TEXT", NoneType: "null"}
    if annotation in simple:
        return simple[annotation]
    origin = get_origin(annotation)
    if origin is Literal:
        return "|".join(_default_text(choice) for choice in get_args(annotation))
    if origin in (Union, UnionType):
        return "|".join(dict.fromkeys(_type_name(part) for part in get_args(annotation)))
    if origin in (tuple, list) or annotation in (tuple, list):
        return "LIST"
    if origin is not None and hasattr(annotation, "__metadata__"):  # Annotated
        return _type_name(get_args(annotation)[0])
    return "VALUE"


def _print_help(text: str) -> NoReturn:
    print(text)
    raise SystemExit(0)
