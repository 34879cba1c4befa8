"""Try what can go wrong: python scripts/faults.py [--quick] [--seed N] [--only KIND …]."""

import sys
from pathlib import Path

if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).resolve().parent.parent))  # need not be installed
    from faults.app import main  # the folder beside this file

    sys.exit(main())
