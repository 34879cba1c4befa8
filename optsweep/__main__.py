"""`optsweep` and `python -m optsweep`: cells and sweeps, and the programs beside them."""

import sys
from importlib import import_module

import optsweep
from optsweep import interrupts
from optsweep.surroundings import open_closed

# What the first argument may name beside overrides -> the module whose `main` it is. Each takes
# arguments, gives an exit code, and has a --help of its own, which its `parser` knows.
COMMANDS = {
    "repeat": "optsweep.cli.repeat",
    "diagnose": "optsweep.cli.diagnose",
    "report": "optsweep.study.aggregate",
    "reproduce": "optsweep.study.reproduce",
    "calibrate": "optsweep.study.calibrate",
    "compare": "optsweep.commands.compare",
    "best": "optsweep.commands.best",
    "export": "optsweep.commands.export",
    "lr-range": "optsweep.commands.lr_range",
}


def main() -> None:
    """Run what the first argument names, one of `COMMANDS`; else a cell or a sweep."""
    open_closed()
    with interrupts.handled():  # from here on, for the imports take their time
        _run(*sys.argv[1:])


def _run(name: str = "", *arguments: str) -> None:
    if name == "--version":
        print(f"optsweep {optsweep.__version__}")
    elif name in COMMANDS:
        sys.exit(import_module(COMMANDS[name]).main(list(arguments)))
    elif name in ("-sc", "--shell-completion") and "query=" in "".join(arguments):
        from optsweep.commands.completion import complete  # noqa: PLC0415

        if complete(COMMANDS):
            from optsweep.cli import main as train  # noqa: PLC0415

            train()
    else:
        from optsweep.cli import main as train  # noqa: PLC0415

        train()


if __name__ == "__main__":
    main()
