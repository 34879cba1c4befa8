"""Count how often the rules are wrong: python scripts/calibrate.py [--seeds FILE]; see --help."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))  # a checkout need not be installed

from optsweep.__main__ import main

if __name__ == "__main__":
    sys.argv.insert(1, "calibrate")
    main()
