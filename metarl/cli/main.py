"""The command ``metarl``: a subcommand for each thing to do, imported only when it is asked for."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Sequence

from metarl import __version__
from metarl.envs.importing import outside_run_folders
from metarl.errors import UserError
from metarl.process import run_program

SUBCOMMANDS = {
    "train": ("train", "meta-train an agent, or go on with a run"),
    "evaluate": ("evaluate", "measure adaptation on held-out tasks, compare runs"),
    "references": ("references", "train what an evaluation is compared with"),
    "suite": ("suite", "many runs from one file: configs, seeds and settings, compared at the end"),
    "list": ("listing", "configs, environments and algorithms, a line each"),
    "new": ("new", "write an environment, agent or algorithm of your own to begin with"),
}
"""Name -> the module of `metarl.cli` whose function `run` takes its arguments; its meaning."""


def usage() -> str:
    """What ``metarl --help`` prints."""
    lines = "\n".join(f"  {name:<12}{meaning}" for name, (_, meaning) in SUBCOMMANDS.items())
    return f"""\
metarl {__version__}: meta-reinforcement learning

  metarl train quickstart            trains for two minutes and reports
  metarl evaluate runs/quickstart    measures again

{lines}

metarl SUBCOMMAND --help says more."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run a subcommand: 0 finished, 1 failed, 2 wrong input, 130 interrupted."""
    name, *rest = list(sys.argv[1:] if argv is None else argv) or ["--help"]
    return run_program(lambda: _run(name, rest))


@outside_run_folders()
def _run(name: str, argv: Sequence[str]) -> int:
    """A subcommand, help or version, or the sentence about a word that is none of them."""
    if name in SUBCOMMANDS:
        subcommand = importlib.import_module(f"metarl.cli.{SUBCOMMANDS[name][0]}")
        code: int = subcommand.run(argv)
        return code
    if name in ("--help", "-h", "help"):
        print(usage())
    elif name == "--version":
        print(__version__)
    else:
        from metarl.config.messages import names_there_are

        there_are = names_there_are(name, SUBCOMMANDS)
        raise UserError(f"metarl has no subcommand {name!r}: {there_are}.")
    return 0
