"""The command lines of `metarl train`, `metarl evaluate` and `metarl references`."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Literal, NoReturn

from pydantic import Field, PrivateAttr

from metarl.cli.train_options import SWITCHES, TrainOptions, split_train_options
from metarl.config.fields import (
    Backend,
    Config,
    DeviceName,
    LocalBackend,
    PathText,
    Section,
    SplitName,
)
from metarl.config.help import config_lines, field_lines
from metarl.config.loading import (
    adopt,
    backend_from,
    differences,
    load_options,
    resolve,
    resolve_device,
)
from metarl.config.messages import names_there_are
from metarl.config.trust import Trust, named_code
from metarl.config.validation import Option, split_options, validated
from metarl.config.yaml_text import read_yaml
from metarl.errors import UserError
from metarl.evaluation.reference_kinds import ANEW, PER_TASK, TRAINED
from metarl.measuring.options import EvaluationOptions
from metarl.runs.run_config import load_run_config
from metarl.storage.places import find_config
from metarl.storage.run_folder import failed_at_start, holds_run

_TRAIN_USAGE = """\
Meta-train an agent.

  metarl train CONFIG [--run-dir DIR] [--seed N] [--device NAME] [--FIELD VALUE ...]
  metarl train --run-dir DIR --resume [--FIELD VALUE ...]
  metarl train CONFIG --resume auto [...]      begins, or goes on: for jobs that are requeued

  CONFIG          a YAML file with the fields below, or the name of one that comes with metarl
                  (see metarl list configs); what it leaves out keeps its default
  --config CONFIG the same
  --trust-code    import what the config of a run folder names besides the parts of metarl
  --resume        go on from the run folder's last checkpoint
  --resume auto   go on if the run folder holds a run that has finished an iteration, else begin
  --init-from RUN begin with the parameters and normalisers of another run, the optimiser anew
  --time-limit T  end and save in time, so many seconds after the start; also 3h30m, 03:30:00
  --break-lock    take the run folder from the process that writes to it
  --help          this text, for the environment and the algorithm chosen

Every field below can stand in the file or on the command line, which wins:
--env.horizon 50, --tracking.tags a,b, --max-env-steps null ("-" and "_" mean the same).
"""
_EVALUATE_USAGE = """\
Measure how fast a trained agent adapts to held-out tasks.

  metarl evaluate RUN [--split NAME | --tasks FILE] [--episodes N] [--video] [...]
  metarl evaluate RUN RUN ... [--output DIR] [...]
  metarl evaluate --config CONFIG --agent module:Class [...]      an agent of your own
  metarl evaluate RUN --config CONFIG [...]     a learned objective where it was never trained

Several runs are compared on one axis; those that differ in nothing but the seed are one group.

  --rollout.backend ray   play on a Ray cluster, each evaluation seed and mode by itself; with
                          --rollout.backend.address and the other fields that metarl train has
"""
_REFERENCES_USAGE = """\
Train the references of an environment that are missing: what an evaluation stands beside.

  metarl references CONFIG [--kind LIST] [--again] [...]

  CONFIG          a run's config, by name or as a file, of which the environment, the threads and
                  the evaluation count; its fields can be given too: --env.velocity-high 2.0
  --trust-code    import what the config of a run folder names besides the parts of metarl
  --help          this text
"""
_KINDS = (*TRAINED, *PER_TASK, *ANEW)


class _Evaluated(Section):
    """Whom `metarl evaluate` measures."""

    run: tuple[PathText, ...] = Field((), description="run folder, the same as RUN")
    agent: str | None = Field(
        None, min_length=1, description="import path of an Agent class, in place of a run"
    )
    config: str | None = Field(
        None,
        min_length=1,
        description="config whose environment and evaluation the agent gets, or the policies that "
        "a run of metagenrl trains",
    )


class EvaluateArguments(EvaluationOptions, _Evaluated):
    """What `metarl evaluate` was asked to do."""

    device: DeviceName = Field("auto", description="of the adaptation; auto: cuda if there is one")
    checkpoint: Annotated[int, Field(ge=0)] | Literal["latest"] = Field(
        "latest", description="iteration, or latest"
    )
    data: PathText | None = Field(
        None,
        min_length=1,
        description="where the data of few-shot tasks lie; null: where the config says",
    )
    output: PathText | None = Field(
        None,
        min_length=1,
        description="folder for results; null: evaluation/<split>[_forget] in the run, for several "
        "runs comparison/<split> beside them",
    )
    trust_code: bool = Field(
        False,
        description="import what a run's config names besides the parts of metarl, such as an "
        "environment of yours; never from inside a run folder",
        json_schema_extra={"switch": True},
    )
    video: bool = Field(
        False,
        description="also write a GIF and an MP4 of the agent before and after adaptation",
        json_schema_extra={"switch": True},
    )
    _backend: Backend = PrivateAttr(LocalBackend())

    @property
    def backend(self) -> Backend:
        """Where episodes are played, which is this command's choice and not the run's."""
        return self._backend

    @property
    def folder(self) -> Path | None:
        """Where the results are to go, if that was said."""
        return None if self.output is None else Path(self.output)


class ReferenceArguments(Section):
    """What is to be trained."""

    config: str = Field(min_length=1, description="name or file of a run's config")
    kind: tuple[str, ...] = Field(TRAINED, min_length=1, description=f"which: {', '.join(_KINDS)}")
    env_steps: int | None = Field(
        None, ge=1, description="budget of oracle and multitask; null: the environment's own"
    )
    seed: int = Field(
        0, ge=0, lt=2**32, description="of the training; of the evaluation, for those a task"
    )
    folder: PathText = Field("references", min_length=1, description="where references are kept")
    split: SplitName | None = Field(
        None, description="tasks of those that learn each task; null: as the config evaluates"
    )
    episodes: int | None = Field(
        None, ge=1, description="their episodes a round; null: as the config evaluates"
    )
    adaptation_steps: int | None = Field(
        None, ge=1, description="their rounds of learning; null: as the config evaluates"
    )
    evaluation_seeds: int | None = Field(
        None,
        ge=1,
        description=f"trainings of {', '.join(ANEW)}; null: as the config evaluates",
    )
    axis: Literal["gradient_step", "episode"] = Field(
        "gradient_step",
        description="whose experience from_scratch and fine_tuned have: episodes of all lanes a "
        "step (MAML), or one episode of one lane (RL²)",
    )
    again: bool = Field(
        False,
        description="train anew what is there, and what was interrupted",
        json_schema_extra={"switch": True},
    )


def parse_train_arguments(argv: Sequence[str]) -> tuple[Config, TrainOptions]:
    """The resolved config, and how the training is to begin and to end.

    ``--help`` prints and exits with 0.

    Raises:
        UserError: Anything wrong with the words, with the config, or with the run to resume.
    """
    options = split_options(argv, switches=SWITCHES, positional="config")
    names = [option.name for option in options]
    if names.count("config") > 1:
        given = ", ".join(str(option.text) for option in options if option.name == "config")
        raise UserError(f"There is one config to a run: {given} are several; fields have a name.")
    config_path = _config_path(options)
    job, others = split_train_options(options)
    fields = [o for o in others if o.name not in ("config", "help", "trust_code")]
    trust = Trust("trust_code" in names, frozenset(option.text or "" for option in fields))
    if "help" in names:
        _print_help([_TRAIN_USAGE, *config_lines(config_path, fields, trust)])
    resume = bool(job.resume)
    if job.resume == "auto" and config_path is not None:
        there = load_options(config_path, fields, trust).run_folder
        resume = holds_run(there) and not failed_at_start(there)
    if resume:
        config = _resumed_config(config_path, fields, trust)
    elif config_path is None:
        raise UserError(
            "Give a config, as in metarl train CONFIG or --config CONFIG, or --run-dir DIR "
            "--resume; metarl list shows the configs that there are, --help the fields."
        )
    else:
        config = resolve(load_options(config_path, fields, trust))
    return config, job


def _resumed_config(config_path: Path | None, fields: list[Option], trust: Trust) -> Config:
    """The config of the run in the run folder, with what may change on resume changed."""
    if config_path is not None and trust.in_file(config_path).everything:
        named = named_code(read_yaml(config_path)[0]).values()  # by the user himself
        trust = Trust(trust.everything, trust.paths.union(named))
    run_dir = _last_path(fields, "run_dir")
    if run_dir is None:
        if config_path is None:
            raise UserError("--resume needs --run-dir DIR, the folder of the run to go on with.")
        run_dir = load_options(config_path, fields, trust).run_folder
    if not holds_run(run_dir):
        raise UserError(f"There is no run to resume in {run_dir}: it has no config.yaml.")
    saved = load_run_config(run_dir, trust, checkpoint=None)
    here = Option("run_dir", str(run_dir))  # the folder may have been moved since
    if config_path is None:
        config = load_run_config(run_dir, trust, [*fields, here], checkpoint=None)
    else:
        config = load_options(config_path, [*fields, here], trust)
    config = adopt(config, saved)
    if clauses := differences(saved, config):
        raise UserError(
            f"The run in {run_dir} cannot be resumed with another config: {'; '.join(clauses)}."
        )
    return resolve(config)


def _last_path(options: Sequence[Option], name: str) -> Path | None:
    texts = [option.text for option in options if option.name == name]
    if texts and not texts[-1]:
        raise UserError(f"--{name.replace('_', '-')} is empty; give a path.")
    return Path(os.path.expanduser(str(texts[-1]))) if texts else None


def _config_path(options: Sequence[Option]) -> Path | None:
    given = _last_path(options, "config")
    return None if given is None else find_config(given)


def parse_evaluate_arguments(argv: Sequence[str]) -> EvaluateArguments:
    """What the command line asks for; ``--help`` prints and exits with 0.

    Raises:
        UserError: Anything wrong with it, or a run that is missing.
    """
    options = split_options(argv, switches=("help", "video", "trust_code"), positional="run")
    names = {option.name for option in options}
    if "help" in names:
        _print_help([_EVALUATE_USAGE, *field_lines(EvaluateArguments)])
    runs = [option.text for option in options if option.name == "run"]
    of_backend = [option for option in options if option.name.startswith("rollout.backend")]
    _check_subject(names)
    arguments = validated(
        EvaluateArguments,
        {"run": runs},
        [option for option in options if option.name != "run" and option not in of_backend],
    )
    arguments._backend = backend_from(of_backend)
    for index, run in enumerate(arguments.run):
        if not holds_run(Path(run)):
            of_a_class = ":" in run and not Path(run).exists()
            why = "a class of your own follows --agent" if of_a_class else "it has no config.yaml"
            raise UserError(f"There is no run in {run}: {why}.")
        if any(os.path.samefile(run, other) for other in arguments.run[:index]):
            raise UserError(f"The run {run} is given twice.")
    if arguments.config and len(arguments.run) > 1:
        raise UserError("--config is an environment for one run, and several runs were given.")
    if arguments.video and len(arguments.run) > 1:
        raise UserError("--video shows one agent, and several runs were given.")
    device = arguments.device
    if arguments.backend.name == "ray":
        if device == "cuda":
            raise UserError("The workers of Ray adapt on the CPU: leave out --device cuda.")
        device = "cpu"
    return arguments.model_copy(update={"device": resolve_device(device)})


def _check_subject(names: set[str]) -> None:
    """What is evaluated is trained runs, or one agent of the user's.

    Raises:
        UserError: neither is given whole, or both are.
    """
    if "agent" not in names:
        if "run" not in names and "config" in names:
            raise UserError("--config goes with --agent module:Class, or a RUN of metagenrl.")
        if "run" not in names:
            raise UserError("Give the folder of a trained run: metarl evaluate RUN, or --run RUN.")
    elif "run" in names:
        raise UserError("Give a run or an --agent, not both.")
    elif "config" not in names:
        raise UserError("--agent needs --config FILE, which says in what environment it acts.")
    elif "checkpoint" in names:
        raise UserError("--checkpoint belongs to a run; an --agent has none.")


def parse_references_arguments(argv: Sequence[str]) -> tuple[ReferenceArguments, Config]:
    """The arguments and the resolved config; ``--help`` prints and exits with 0.

    Raises:
        UserError: anything wrong with them or the config.
    """
    switches = ("again", "help", "trust_code")
    options = split_options(argv, switches, positional="config")
    if any(option.name == "help" for option in options):
        _print_help([_REFERENCES_USAGE, *field_lines(ReferenceArguments)])
    config_path = _config_path(options)
    if config_path is None:
        raise UserError("Give a config, by name or as a file; --help lists the options.")
    own = [o for o in options if "." not in o.name and o.name != "trust_code"]
    arguments = validated(ReferenceArguments, {}, own)
    for kind in arguments.kind:
        if kind not in _KINDS:
            raise UserError(
                f"command line: there is no kind {kind!r}: {names_there_are(kind, _KINDS)}."
            )
    of_config = [option for option in options if "." in option.name]
    trust = Trust(any(option.name == "trust_code" for option in options))
    return arguments, resolve(load_options(config_path, of_config, trust))


def _print_help(lines: Sequence[str]) -> NoReturn:
    print("\n".join(lines))
    raise SystemExit(0)
