"""Measure optsweep against its peers: python scripts/benchmark.py [--quick]; see --help."""

import sys
from pathlib import Path

if __name__ == "__main__":  # the processes that it starts import this file too
    sys.path.insert(0, str(Path(__file__).resolve().parent.parent))  # need not be installed
    from benchmark.app import main  # the folder beside this file

    sys.exit(main())
