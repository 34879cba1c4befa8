"""The report of a folder of runs: `optsweep report`, `python scripts/aggregate.py`."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from optsweep.cli.mistakes import OneLineParser, in_one_line
from optsweep.runs import REPORT_FOLDER, RUNS_FOLDER


def main(arguments: Sequence[str] | None = None) -> int:
    """Read the arguments, write the report; see `--help`.

    Returns:
        The exit code.
    """
    with in_one_line():
        given = _parser().parse_args(arguments)
        # Only now, for it takes its time.
        from joblib import cpu_count  # noqa: PLC0415 (also knows of affinity and of quotas)

        from optsweep.report.report import write_report  # noqa: PLC0415
        from optsweep.study.content import outline  # noqa: PLC0415

        out = given.out or given.runs / REPORT_FOLDER
        page = write_report(given.runs, out, outline(), _say, cpu_count())
        _say(f"report: {page}")
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = OneLineParser("optsweep report", description="Make the report of a folder of runs.")
    parser.add_argument("runs", nargs="?", type=Path, default=Path(RUNS_FOLDER), metavar="RUNS")
    parser.add_argument("--out", type=Path, help="default: RUNS/report")
    return parser


def _say(line: str) -> None:
    print(line, flush=True)
