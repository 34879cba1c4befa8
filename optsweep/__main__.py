"""`optsweep` and `python -m optsweep`: cells and sweeps, and the programs of the study."""

import sys

import optsweep


def main() -> None:
    """Run what the first argument names: `report`, `reproduce`; else a cell or a sweep."""
    name, *arguments = sys.argv[1:] or [""]
    if name == "--version":
        print(f"optsweep {optsweep.__version__}")
    elif name == "report":
        from optsweep.study.aggregate import main as report  # noqa: PLC0415

        sys.exit(report(arguments))
    elif name == "reproduce":
        from optsweep.study.reproduce import main as reproduce  # noqa: PLC0415

        sys.exit(reproduce(arguments))
    else:
        from optsweep.cli import main as train  # noqa: PLC0415

        train()


if __name__ == "__main__":
    main()
