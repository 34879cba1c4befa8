"""`optsweep diagnose DIR`, and `diagnose=curvature` of a run: why does a cell train slowly?"""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.progress import TimeRemainingColumn
from rich.table import Table

from optsweep import runs
from optsweep.cli.mistakes import OneLineParser, count, in_one_line
from optsweep.cli.progress import Bar
from optsweep.cli.time_left import in_words
from optsweep.config.checks import InputError
from optsweep.config.targets import allow_targets
from optsweep.diagnosis.settings import Settings
from optsweep.interrupts import as_interrupt
from optsweep.liveness import STALE_SECONDS, alone_in

if TYPE_CHECKING:
    from optsweep.diagnosis.cell import Progress as Step


def main(arguments: Sequence[str] | None = None) -> int:
    """Read the arguments and diagnose a cell; see `--help`.

    Returns:
        The exit code.
    """
    with in_one_line():
        given = vars(_parser().parse_args(arguments))
        directory = given.pop("directory")
        allow_targets(given.pop("allow_targets"))
        settings = Settings.from_mapping({k: v for k, v in given.items() if v is not None})
        if not directory.is_dir():
            raise InputError(f"{directory}: there is no such folder")
        runs.read_config(directory)  # which says so if it is no cell
        console = Console(highlight=False, soft_wrap=True)
        with alone_in(directory, console.print, STALE_SECONDS), as_interrupt():
            diagnose(directory, settings, console)
    return 0


def diagnose(directory: Path, settings: Settings, console: Console) -> None:
    """Examine the checkpoints of a cell that have not been yet, and show the verdicts.

    Raises:
        InputError: If it has kept no weights, or they cannot be read.
    """
    from optsweep.diagnosis.cell import Diagnosis  # noqa: PLC0415 (PyTorch)

    diagnosis = Diagnosis(directory, settings)
    missing, seeds = diagnosis.missing, diagnosis.seeds
    if missing:
        told = f"{len(missing)} checkpoints of {len(seeds)} seed{'s' if len(seeds) > 1 else ''}"
        seconds = diagnosis.expected_seconds()
        console.print(f"diagnosis: {told}, {in_words(seconds)}", highlight=False)
    with _Display(console) as display:
        summary = diagnosis.run(display)
    for note in diagnosis.notes:
        console.print(f"diagnosis: {note}")
    console.print(_table(summary))
    console.print(f"diagnosis: {directory / runs.DIAGNOSIS_FOLDER}")


class _Display(Bar):
    """A bar on a terminal, one line a checkpoint elsewhere."""

    def __init__(self, console: Console) -> None:
        super().__init__(console, "diagnosis", None, TimeRemainingColumn())
        self._last: int | None = None

    def __call__(self, step: Step) -> None:
        told = f"epoch {step.epoch}, seed {step.seed}: {step.what}"
        if not self.move(step.done, told, step.total) and step.epoch != self._last:
            self._last = step.epoch
            self.console.print(f"diagnosis {step.done}/{step.total}: epoch {step.epoch}")


def _table(summary: Mapping[str, Any]) -> Table:
    """A row for each checkpoint: how many seeds have which verdict."""
    table = Table(title="why training is where it is", title_justify="left")
    for heading in ("epoch", "verdict", "a smaller rate gains"):
        table.add_column(heading)
    for epoch in summary["epochs"]:
        verdicts = sorted(epoch["verdicts"].items(), key=lambda item: -item[1])
        told = ", ".join(f"{verdict} ({number})" for verdict, number in verdicts)
        gains = [gain for gain in epoch["gains"] if gain["fork"] == "lr x 0.1"]
        table.add_row(str(epoch["epoch"]), told or "diverged", _gain(gains))
    return table


def _gain(gains: Sequence[Mapping[str, Any]]) -> str:
    """What the fork with a tenth of the rate has gained at each horizon, of the loss."""
    told = []
    for gain in gains:
        if gain["mean"] is not None:
            between = f" ({gain['t'][0]:+.1%} to {gain['t'][1]:+.1%})" if gain["t"] else ""
            told.append(f"{gain['mean']:+.1%}{between} in {gain['steps']} steps")
    return ", ".join(told)


def _parser() -> argparse.ArgumentParser:
    parser = OneLineParser(
        "optsweep diagnose",
        description="Why does a cell train slowly? From the weights that it has kept.",
    )
    parser.add_argument("directory", type=Path, metavar="DIR", help="of the cell")
    parser.add_argument("--examples", type=_count_or_all, help="looked at, or all; 5000")
    parser.add_argument("--seeds", type=_count_or_all, help="of the cell, or all; all")
    parser.add_argument("--checkpoints", type=count, help="at most; 12")
    parser.add_argument("--steps", type=count, help="of a fork; 50")
    parser.add_argument(
        "--no-epoch", dest="epoch", action="store_const", const=False, help="short forks alone"
    )
    parser.add_argument("--lanczos-steps", type=count, help="at most; 80")
    parser.add_argument("--probes", type=count, help="starts of Lanczos for the density; 1")
    parser.add_argument("--batches", type=count, help="for noise and budget; 8")
    parser.add_argument(
        "--allow-targets",
        nargs="*",
        default=[],
        metavar="PACKAGE",
        help="of yours, as allow_targets",
    )
    return parser


def _count_or_all(text: str) -> Any:
    return text if text == "all" else count(text)
