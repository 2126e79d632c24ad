"""Meta-train an agent: ``python train.py --config FILE``, the same as ``metarl train``."""

import sys

from metarl.cli.train import main

if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
