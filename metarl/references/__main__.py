"""The old door to ``metarl references``: ``python -m metarl.references --config FILE``."""

import sys

from metarl.cli.references import main

sys.exit(main(sys.argv[1:]))
