"""The program: read the options, measure, say a mistake in one line."""

from __future__ import annotations

import sys
from collections.abc import Sequence

from optsweep.benchmark.arguments import parse
from optsweep.cli.mistakes import MISTAKES, exit_with


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the benchmark; see `--help`.

    Returns:
        The exit code: 1 if a measurement failed.
    """
    try:
        wanted = parse(arguments)
        from optsweep.benchmark.program import run  # noqa: PLC0415 (loads pandas and matplotlib)

        return run(wanted)
    except KeyboardInterrupt:
        print("optsweep: interrupted; the same command continues", file=sys.stderr)
        return 130
    except MISTAKES as error:
        exit_with(error)
