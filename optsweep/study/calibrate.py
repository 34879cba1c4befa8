"""How often the rules are wrong: `optsweep calibrate`, `python scripts/calibrate.py`."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from optsweep import runs
from optsweep.cli.mistakes import OneLineParser, count, in_one_line

DRAWS = 2000
_EXPERIMENT = "calibration"  # also the folder where all of it is kept


def main(arguments: Sequence[str] | None = None) -> int:
    """Draw the studies, write the table of rates and its figure; see `--help`.

    Returns:
        The exit code.
    """
    with in_one_line():
        return _calibrate(parser().parse_args(arguments))


def _calibrate(given: argparse.Namespace) -> int:
    import numpy as np  # noqa: PLC0415 - with what follows, it takes its time
    import pandas as pd  # noqa: PLC0415

    from optsweep.report.calibration import (  # noqa: PLC0415
        RATES_FILE,
        SEEDS_FILE,
        draw_calibration,
    )
    from optsweep.report.collection import collect_runs  # noqa: PLC0415
    from optsweep.report.drawing import style  # noqa: PLC0415
    from optsweep.report.pictures import save  # noqa: PLC0415
    from optsweep.study.calibration import rates, seeds_table  # noqa: PLC0415
    from optsweep.study.content import outline  # noqa: PLC0415

    out = given.out or given.runs / _EXPERIMENT
    if given.seeds is None:
        seeds = seeds_table(collect_runs(given.runs))
    else:
        seeds = pd.read_csv(given.seeds)
    print(f"optsweep: drawing {given.draws} studies for each truth", flush=True)
    found = rates(seeds, given.draws, np.random.default_rng(0), outline().claims)
    out.mkdir(parents=True, exist_ok=True)
    for name, table in ((SEEDS_FILE, seeds), (RATES_FILE, found)):
        text = table.to_csv(index=False, lineterminator="\n")
        runs.write_atomically(out / name, text)
    with style():
        picture = draw_calibration(found)
    save(picture, out)
    print(picture.caption)
    print(f"rates: {out / RATES_FILE}")
    return 0


def parser() -> argparse.ArgumentParser:
    """The command's arguments."""
    made = OneLineParser(
        prog="optsweep calibrate",
        description="Draw studies whose truth is known, and count how often the rules are wrong. "
        f"The real seeds are those of experiment={_EXPERIMENT}.",
    )
    made.add_argument("--runs", type=Path, default=Path(runs.RUNS_FOLDER), metavar="DIR")
    made.add_argument("--seeds", type=Path, metavar="FILE", help="a table kept of an earlier one")
    made.add_argument("--draws", type=count, default=DRAWS, metavar="N", help="studies of a truth")
    made.add_argument("--out", type=Path, metavar="DIR", help="in place of the experiment's folder")
    return made
