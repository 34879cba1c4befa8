"""Make the report of a folder of runs: python scripts/aggregate.py [RUNS] [--out DIR]."""

import argparse
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))  # a checkout need not be installed

from optsweep.config.checks import InputError
from optsweep.runs import REPORT_FOLDER, RUNS_FOLDER


def main() -> None:
    """Read the arguments, write the report, say a mistake in one line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("runs", nargs="?", type=Path, default=Path(RUNS_FOLDER), metavar="RUNS")
    parser.add_argument("--out", type=Path, help="default: RUNS/report")
    arguments = parser.parse_args()
    # Only now, for it takes its time.
    from joblib import cpu_count  # noqa: PLC0415 (also knows of affinity and of quotas)

    from optsweep.report.report import write_report  # noqa: PLC0415
    from optsweep.study.content import outline  # noqa: PLC0415

    out = arguments.out or arguments.runs / REPORT_FOLDER
    try:
        page = write_report(
            arguments.runs, out, outline(), lambda line: print(line, flush=True), cpu_count()
        )
    except KeyboardInterrupt:
        print("optsweep: interrupted", file=sys.stderr)
        sys.exit(130)
    except (InputError, OSError) as error:
        if isinstance(error, OSError) and error.errno is None:
            raise  # not the system's word: a bug
        print(f"optsweep: error: {' '.join(str(error).split())}", file=sys.stderr)
        sys.exit(2)
    print(f"report: {page}")


if __name__ == "__main__":
    main()
