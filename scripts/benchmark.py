"""Measure optsweep against its peers: python scripts/benchmark.py [--quick]; see --help."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))  # a checkout need not be installed

from optsweep.benchmark.app import main

if __name__ == "__main__":
    sys.exit(main())
