"""Measure adaptation: ``python evaluate.py --run DIR``, the same as ``metarl evaluate DIR``."""

import sys
from collections.abc import Sequence

from metarl.cli.main import main as metarl


def main(argv: Sequence[str]) -> int:
    """The exit code: 0 finished, 1 failed, 2 wrong input, 130 interrupted."""
    return metarl(["evaluate", *argv])


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
