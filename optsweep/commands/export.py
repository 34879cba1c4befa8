"""`optsweep export RUNS --to TRACKER`: runs as a tracker wants them, as often as one likes."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from optsweep import runs
from optsweep.cli.mistakes import OneLineParser, in_one_line
from optsweep.config.checks import InputError

if TYPE_CHECKING:
    from optsweep.trackers.records import Sweep

TRACKERS = ("tensorboard", "mlflow", "wandb", "trackio")
_SECONDS = 5.0  # between two looks at a sweep that is running


def main(arguments: Sequence[str] | None = None) -> int:
    """Export; see `--help`.

    Returns:
        The exit code.
    """
    with in_one_line():
        _export(parser().parse_args(arguments))
    return 0


def parser() -> argparse.ArgumentParser:
    """The command's arguments."""
    made = OneLineParser(
        "optsweep export",
        description="Bring runs to an experiment tracker: configuration, history of every seed "
        "and its mean, final scores, figures, and which sweep a cell belongs to. What is there "
        "already is left alone, so that the same command continues.",
    )
    made.add_argument(
        "runs",
        nargs="?",
        default=runs.RUNS_FOLDER,
        metavar="RUNS",
        help="folder of runs, of a sweep or of a cell, or a sweep's name; default: multirun",
    )
    made.add_argument("--to", required=True, choices=TRACKERS, help="each is an extra of its name")
    made.add_argument(
        "--out",
        metavar="PLACE",
        help="tensorboard, wandb: a folder; mlflow: a URI, by default sqlite:///mlflow.db",
    )
    made.add_argument("--project", default="optsweep", metavar="NAME", help="default: optsweep")
    made.add_argument(
        "--follow", action="store_true", help="go on until every cell of the sweep is there"
    )
    return made


def _export(given: argparse.Namespace) -> None:
    _sweeps(given.runs)  # before the tracker is imported, which takes its time
    from optsweep.trackers.export import connect, export  # noqa: PLC0415

    tracker = connect(given.to, given.project, given.out)
    every = _SECONDS if given.follow else None
    number = export(lambda: _sweeps(given.runs), tracker, _say, every)
    _say(f"{number} new to {given.to}; to look: {tracker.hint}")


def _sweeps(text: str) -> list[Sweep]:
    """The sweeps that are meant.

    Raises:
        InputError: If it is nothing of the kind.
    """
    from optsweep.commands.named import find  # noqa: PLC0415
    from optsweep.trackers.export import sweeps_below, sweeps_of  # noqa: PLC0415
    from optsweep.trackers.records import Sweep  # noqa: PLC0415

    folder = Path(text)
    if (folder / runs.CELLS_FOLDER).is_dir():
        return sweeps_below(folder)
    for place in (folder, Path(runs.RUNS_FOLDER, text)):  # a search may not have a trial yet
        if place.is_dir() and (found := sweeps_of(place)):
            return found
    if folder.name in ("", ".", "..") or not text:
        raise InputError(f"{text}: neither runs nor a sweep")
    named = find(text, Path(runs.RUNS_FOLDER))
    return [Sweep(runs.CELLS_FOLDER, named.root, named.cells)]


def _say(line: str) -> None:
    print(line, flush=True)
