"""The command line of ``metarl references``."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Literal

from pydantic import Field

from metarl.cli.command_line import field_lines
from metarl.config.fields import Config, Section, SplitName
from metarl.config.loading import load_options, resolve
from metarl.config.messages import names_there_are
from metarl.config.validation import split_options, validated
from metarl.errors import UserError
from metarl.evaluation.reference_kinds import PER_TASK, TRAINED
from metarl.storage.places import find_config

_USAGE = """\
Train the references of an environment that are missing: what an evaluation stands beside.

  metarl references CONFIG [--kind LIST] [--again] [...]

  CONFIG          a run's config, by name or as a file, of which the environment, the threads and
                  the evaluation count; its fields can be given too: --env.velocity-high 2.0
  --help          this text
"""
KINDS = (*TRAINED, *PER_TASK)


class ReferenceArguments(Section):
    """What is to be trained."""

    config: str = Field(min_length=1, description="name or file of a run's config")
    kind: tuple[str, ...] = Field(TRAINED, min_length=1, description=f"which: {', '.join(KINDS)}")
    env_steps: int | None = Field(
        None, ge=1, description="budget of oracle and multitask; null: the environment's own"
    )
    seed: int = Field(
        0, ge=0, lt=2**32, description="of the training; of the evaluation, for those a task"
    )
    folder: str = Field("references", min_length=1, description="where references are kept")
    split: SplitName | None = Field(
        None, description="tasks of from_scratch and fine_tuned; null: as the config evaluates"
    )
    episodes: int | None = Field(
        None, ge=1, description="their episodes a round; null: as the config evaluates"
    )
    adaptation_steps: int | None = Field(
        None, ge=1, description="their rounds of learning; null: as the config evaluates"
    )
    axis: Literal["gradient_step", "episode"] = Field(
        "gradient_step",
        description="whose experience they have: episodes of all lanes a step (MAML), or one "
        "episode of one lane (RL²)",
    )
    again: bool = Field(
        False,
        description="train anew what is there, and what was interrupted",
        json_schema_extra={"switch": True},
    )


def parse(argv: Sequence[str]) -> tuple[ReferenceArguments, Config]:
    """The arguments and the resolved config; ``--help`` prints and exits.

    Raises:
        UserError: anything wrong with them or the config.
    """
    options = split_options(argv, switches=("again", "help"), positional="config")
    if any(option.name == "help" for option in options):
        print("\n".join([_USAGE, *field_lines(ReferenceArguments)]))
        sys.exit(0)
    if not any(option.name == "config" for option in options):
        raise UserError("Give a config, by name or as a file; --help lists the options.")
    own = [option for option in options if "." not in option.name]
    arguments = validated(ReferenceArguments, {}, own)
    for kind in arguments.kind:
        if kind not in KINDS:
            raise UserError(
                f"command line: there is no kind {kind!r}: {names_there_are(kind, KINDS)}."
            )
    of_config = [option for option in options if "." in option.name]
    config = resolve(load_options(find_config(arguments.config), of_config))
    return arguments, config
