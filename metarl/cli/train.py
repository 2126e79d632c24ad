"""Meta-train an agent: ``metarl train maml_navigation``."""

from __future__ import annotations

from collections.abc import Sequence


def run(argv: Sequence[str]) -> int:
    """Train as the command line says."""
    from metarl.cli.command_line import parse_train_arguments

    config, job = parse_train_arguments(argv)
    # Imported here, so that --help and wrong input answer at once.
    from metarl.training.train import train

    train(config, **job._asdict())
    return 0
