"""`python -m optsweep`."""

from optsweep.cli import main

if __name__ == "__main__":
    main()
