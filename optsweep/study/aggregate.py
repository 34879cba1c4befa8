"""The report of a folder of runs: `optsweep report`, `python scripts/aggregate.py`."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from optsweep.cli.mistakes import DAMAGED, OneLineParser, in_one_line
from optsweep.runs import REPORT_FOLDER, RUNS_FOLDER
from optsweep.surroundings import num_cores

if TYPE_CHECKING:
    from optsweep.report.report import Report

_MOST_NAMED = 20  # cells in a line; the page names all


def main(arguments: Sequence[str] | None = None) -> int:
    """Read the arguments, write the report; see `--help`.

    Returns:
        The exit code.
    """
    with in_one_line():
        given = parser().parse_args(arguments)
        # Only now, for it takes its time.
        from optsweep.report.report import write_report  # noqa: PLC0415
        from optsweep.study.content import outline  # noqa: PLC0415

        out = given.out or given.runs / REPORT_FOLDER
        report = write_report(given.runs, out, outline(), _say, num_cores())
        _say(f"report: {report.page}")
    return tell(report)


def tell(report: Report) -> int:
    """Say on standard error what is to be known of a report.

    Returns:
        The exit code: that of damage if something was left out.
    """
    for code, cells in report.mixed_code.items():
        shown = [*cells[:_MOST_NAMED], *([f"{len(cells)} in all"] if cells[_MOST_NAMED:] else [])]
        print(
            f"optsweep: warning: versions are mixed; not by the code of most cells but by {code}: "
            f"{', '.join(shown)} (rerun=stale trains what is not by this code)",
            file=sys.stderr,
        )
    for damage in report.damaged:
        print(f"optsweep: damaged: {damage}", file=sys.stderr)
    if report.damaged:
        print(
            f"optsweep: error: {len(report.damaged)} damaged and left out of the report; "
            "the sweep or search that wrote it sets it aside and makes it again",
            file=sys.stderr,
        )
    return DAMAGED if report.damaged else 0


def parser() -> argparse.ArgumentParser:
    """The command's arguments."""
    made = OneLineParser("optsweep report", description="Make the report of a folder of runs.")
    made.add_argument("runs", nargs="?", type=Path, default=Path(RUNS_FOLDER), metavar="RUNS")
    made.add_argument("--out", type=Path, help="default: RUNS/report")
    return made


def _say(line: str) -> None:
    print(line, flush=True)
