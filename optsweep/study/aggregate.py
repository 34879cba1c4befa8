"""The report of a folder of runs: `optsweep report`, `python scripts/aggregate.py`."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from optsweep.cli.mistakes import DAMAGED, OneLineParser, in_one_line
from optsweep.config.checks import InputError
from optsweep.runs import REPORT_FOLDER, RUNS_FOLDER
from optsweep.surroundings import num_cores

if TYPE_CHECKING:
    from optsweep.report.report import Report

LANGUAGE_KEY = "report.language"
# Both, for the second page costs a second and whoever wants the other need not know of it.
DEFAULT = "both"
CHOICES = (DEFAULT, "en", "zh")
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
        from optsweep.study.content import outline, outlines  # noqa: PLC0415

        given.runs, pages = asked(given.arguments)
        out = given.out or given.runs / REPORT_FOLDER
        found = outlines(pages)
        report = write_report(given.runs, out, outline(), _say, num_cores(), found, given.png)
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


def asked(arguments: Sequence[str]) -> tuple[Path, str]:
    """The folder of runs, and the language of the pages.

    Raises:
        InputError: If an argument is neither a folder nor `report.language=`.
    """
    folders = [each for each in arguments if "=" not in each]
    chosen = DEFAULT
    for each in arguments:
        key, found, value = each.partition("=")
        if not found:
            continue
        if key != LANGUAGE_KEY:
            raise InputError(f"{key}: the report has no such setting; it has {LANGUAGE_KEY}")
        chosen = value
    if len(folders) > 1:
        raise InputError(f"{folders[1]}: the report is of one folder, here {folders[0]}")
    return Path(folders[0] if folders else RUNS_FOLDER), language_of(chosen)


def language_of(value: str) -> str:
    """A value of `report.language`.

    Raises:
        InputError: If it is none.
    """
    if value not in CHOICES:
        raise InputError(f"{LANGUAGE_KEY}={value}: give one of {', '.join(CHOICES)}")
    return value


def parser() -> argparse.ArgumentParser:
    """The command's arguments."""
    made = OneLineParser("optsweep report", description="Make the report of a folder of runs.")
    made.add_argument(
        "arguments",
        nargs="*",
        metavar="RUNS",
        help=f"the folder, {RUNS_FOLDER} if not given; and {LANGUAGE_KEY}={'|'.join(CHOICES)}, "
        f"{DEFAULT} if not given: two pages that are linked to each other",
    )
    made.add_argument("--out", type=Path, help="default: RUNS/report")
    made.add_argument("--png", action="store_true", help="figures as PNG too, beside SVG")
    return made


def _say(line: str) -> None:
    print(line, flush=True)
