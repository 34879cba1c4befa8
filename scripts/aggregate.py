"""Make the report of a folder of runs: python scripts/aggregate.py [RUNS] [--out DIR]."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))  # a checkout need not be installed

from optsweep.__main__ import main

if __name__ == "__main__":
    sys.argv.insert(1, "report")
    main()
