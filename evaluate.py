"""Measure adaptation: ``python evaluate.py --run DIR``, the same as ``metarl evaluate DIR``."""

import sys

from metarl.cli.evaluate import main

if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
