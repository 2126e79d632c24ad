"""The command ``metarl``: a subcommand for each thing to do, imported only when it is asked for."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable, Sequence

from metarl import __version__
from metarl.cli.process import run_program
from metarl.errors import UserError

SUBCOMMANDS = {
    "train": ("metarl.cli.train", "meta-train an agent, or go on with a run"),
    "evaluate": ("metarl.cli.evaluate", "measure adaptation on held-out tasks, compare runs"),
    "references": ("metarl.cli.references", "train what an evaluation is compared with"),
    "list": ("metarl.cli.listing", "configs, environments and algorithms, a line each"),
    "new": ("metarl.cli.new", "write an environment, agent or algorithm of your own to begin with"),
}


def usage() -> str:
    """What ``metarl --help`` prints."""
    lines = [f"  {name:<12}{meaning}" for name, (_, meaning) in SUBCOMMANDS.items()]
    return "\n".join(
        [
            f"metarl {__version__}: meta-reinforcement learning",
            "",
            "  metarl train quickstart            trains in a minute and reports",
            "  metarl evaluate runs/quickstart    measures again",
            "",
            *lines,
            "",
            "metarl SUBCOMMAND --help says more.",
        ]
    )


def main(argv: Sequence[str] | None = None) -> int:
    """Run a subcommand: 0 finished, 1 failed, 2 wrong input, 130 interrupted."""
    name, *rest = list(sys.argv[1:] if argv is None else argv) or ["--help"]
    if name in SUBCOMMANDS:
        subcommand: Callable[[Sequence[str]], int]
        subcommand = importlib.import_module(SUBCOMMANDS[name][0]).main
        return subcommand(rest)
    return run_program(lambda: _without_subcommand(name))


def _without_subcommand(word: str) -> int:
    """Help, version, or the sentence about a word that is no subcommand."""
    if word in ("--help", "-h", "help"):
        print(usage())
        return 0
    if word == "--version":
        print(__version__)
        return 0
    from metarl.config.messages import names_there_are

    raise UserError(f"metarl has no subcommand {word!r}: {names_there_are(word, SUBCOMMANDS)}.")
