"""`optsweep lr-range OVERRIDES`: at which learning rates does the loss fall (Smith 2017)?"""

from __future__ import annotations

import argparse
import math
from collections.abc import Sequence
from pathlib import Path

from optsweep.cli.mistakes import OneLineParser, count, in_one_line
from optsweep.config.checks import InputError
from optsweep.runs import RUNS_FOLDER

_FOLDER = "lr_range"
_FEWEST = 5  # steps of a piece


def main(arguments: Sequence[str] | None = None) -> int:
    """Test; see `--help`.

    Returns:
        The exit code.
    """
    with in_one_line():
        given, overrides = parser().parse_known_args(arguments)
        _test(given, overrides)
    return 0


def parser() -> argparse.ArgumentParser:
    """The command's arguments."""
    made = OneLineParser(
        "optsweep lr-range",
        usage="optsweep lr-range [OVERRIDE ...] [--low LR] [--high LR] [--pieces P] [--steps T] "
        "[--smoothing B] [--out DIR]",
        allow_abbrev=False,  # what is not known here may be a flag of Hydra's
        description="The learning rate range test: the loss while the rate grows at every step, "
        "and the interval that this suggests for a search. The range is cut into pieces, which "
        "are trained at once, each from the untrained network; --pieces 1 is the test of "
        "Smith 2017 (arXiv:1506.01186). The cell's schedule, epochs and rate have no part in it. "
        "Lists such as optimizer=sgd,adam test each.",
    )
    made.add_argument("--low", type=_rate, default=1e-6, metavar="LR", help="default: 1e-6")
    made.add_argument("--high", type=_rate, default=10.0, metavar="LR", help="default: 10")
    made.add_argument("--pieces", type=count, default=7, metavar="P", help="default: 7")
    made.add_argument(
        "--steps", type=count, default=100, metavar="T", help="of each piece; default: 100"
    )
    made.add_argument(
        "--smoothing",
        type=_fraction,
        default=0.9,
        metavar="B",
        help="of the exponential average of losses; default: 0.9",
    )
    made.add_argument(
        "--out", type=Path, metavar="DIR", help=f"default: {RUNS_FOLDER}/{_FOLDER}/CELL"
    )
    return made


def _rate(text: str) -> float:
    value = _number(text)
    if not (0 < value < math.inf):
        raise argparse.ArgumentTypeError(f"{text}: expected a learning rate > 0")
    return value


def _fraction(text: str) -> float:
    value = _number(text)
    if not 0 <= value < 1:
        raise argparse.ArgumentTypeError(f"{text}: expected a number in [0, 1)")
    return value


def _number(text: str) -> float:
    """The number that a text is; NaN, which lies in no range, if it is none."""
    try:
        return float(text)
    except ValueError:
        return math.nan


def _test(given: argparse.Namespace, overrides: Sequence[str]) -> None:
    if given.low >= given.high:
        raise InputError(f"--low {given.low:g} --high {given.high:g}: expected a range that rises")
    if given.steps < _FEWEST:
        raise InputError(f"--steps {given.steps}: expected at least {_FEWEST}")
    from rich.console import Console  # noqa: PLC0415

    from optsweep.cli.composition import plan  # noqa: PLC0415
    from optsweep.cli.grids import plan_grid  # noqa: PLC0415
    from optsweep.cli.progress import distinct_words  # noqa: PLC0415
    from optsweep.commands.named import overrides_alone  # noqa: PLC0415

    grid = plan_grid(["--multirun", *overrides_alone(overrides)])
    cells = list({cell.name: cell for cell in grid.cells}.values())
    plans = [plan(cell.config) for cell in cells]  # whatever is wrong, before the first one
    from optsweep.report import pictures, rate_range  # noqa: PLC0415
    from optsweep.runs import write_atomically  # noqa: PLC0415
    from optsweep.training.rate_range import measure_range, rising_rates  # noqa: PLC0415

    console = Console(highlight=False, soft_wrap=True)
    names = [cells[0].name.rpartition("_")[0]]
    if len(cells) > 1:
        names = distinct_words([cell.overrides.split() for cell in cells])
    rates = rising_rates(given.low, given.high, given.pieces, given.steps)
    console.print(
        f"{given.pieces} pieces of {given.steps} steps, rates {given.low:g} … {given.high:g}, "
        f"losses smoothed by {given.smoothing:g}"
    )
    tested = {}
    for name, cell, planned in zip(names, cells, plans, strict=True):
        measured = measure_range(planned, rates, _progress(console, name, given.steps))
        rows = rate_range.table(measured.rates, measured.losses, cell.config.seeds, given.smoothing)
        tested[name] = (rows, rate_range.suggest(rows))
        console.print(f"{name}: {rate_range.in_words(tested[name][1])}", markup=False)
        folder = given.out or grid.folder.parent / _FOLDER / cell.name
        folder = folder / cell.name if given.out and len(cells) > 1 else folder
        folder.mkdir(parents=True, exist_ok=True)
        text = rows.to_csv(index=False, lineterminator="\n")
        write_atomically(folder / "rate_range.csv", text)
        picture = rate_range.draw({name: tested[name]}, given.smoothing)
        write_atomically(folder / "rate_range.png", pictures.png(picture))
        console.print(f"measured: {folder / 'rate_range.csv'}, picture beside it", markup=False)
    if len(cells) > 1:
        together = given.out or grid.folder.parent / _FOLDER
        picture = rate_range.draw(tested, given.smoothing)
        write_atomically(together / "rate_ranges.png", pictures.png(picture))
        console.print(f"all together: {together / 'rate_ranges.png'}", markup=False)


def _progress(console, name: str, num_steps: int):
    """Says how far it is, on a terminal in one line and else at every quarter."""
    in_place = console.is_terminal and console.file.isatty()

    def told(step: int) -> None:
        if in_place:
            end = "\r" if step < num_steps else "\n"
            console.print(f"{name}: step {step}/{num_steps}", end=end, markup=False)
        elif step * 4 // num_steps > (step - 1) * 4 // num_steps:
            console.print(f"{name}: step {step}/{num_steps}", markup=False)

    return told
