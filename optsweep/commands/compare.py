"""`optsweep compare A B`: what differs in two cells or sweeps, and by how much each score does."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from optsweep.cli.mistakes import OneLineParser, in_one_line
from optsweep.config.checks import InputError
from optsweep.runs import RUNS_FOLDER


def main(arguments: Sequence[str] | None = None) -> int:
    """Compare; see `--help`.

    Returns:
        The exit code.
    """
    with in_one_line():
        _compare(parser().parse_args(arguments))
    return 0


def parser() -> argparse.ArgumentParser:
    """The command's arguments."""
    made = OneLineParser(
        "optsweep compare",
        description="What differs between two cells or sweeps, and every score's paired "
        "difference over seeds. A and B are folders, names of sweeps, labels of cells, or "
        "overrides such as 'optimizer=adam num_seeds=5'. Settings of two sweeps are paired that "
        "agree in all that varies within a sweep; a search stands for its best trial.",
    )
    made.add_argument("a", metavar="A")
    made.add_argument("b", metavar="B")
    made.add_argument("--html", type=Path, metavar="FILE", help="write a page of its own")
    made.add_argument("--png", type=Path, metavar="FILE", help="write the curves")
    made.add_argument(
        "--runs", type=Path, default=Path(RUNS_FOLDER), metavar="RUNS", help="default: multirun"
    )
    return made


def _compare(given: argparse.Namespace) -> None:
    # Only now, for it takes its time.
    from rich.console import Console  # noqa: PLC0415

    from optsweep.commands.tables import shown_table  # noqa: PLC0415
    from optsweep.report import comparison, pictures  # noqa: PLC0415
    from optsweep.runs import write_atomically  # noqa: PLC0415

    a, b = (_side(text, given.runs) for text in (given.a, given.b))
    if comparison.same_cells(a, b):
        raise InputError(f"{given.a} and {given.b} are the same")
    found = comparison.compare(a, b)
    console = Console(highlight=False, soft_wrap=True)
    for letter, side in (("A", a), ("B", b)):
        console.print(f"{letter}: {side.name}", markup=False)
    console.print(shown_table("What differs in the configuration", found.configuration))
    for pair in found.pairs:
        title = pair.title or "Scores"
        console.print(shown_table(title, comparison.readable(pair.scores)))
    for line in comparison.remarks(found):
        console.print(line, markup=False)
    picture = comparison.draw(found) if given.html or given.png else None
    if given.png:
        if picture is None:
            raise InputError(f"{given.png}: there is nothing to draw, for nothing was compared")
        given.png.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(given.png, pictures.png(picture))
        console.print(f"curves: {given.png}", markup=False)
    if given.html:
        from optsweep.report.page import render_comparison  # noqa: PLC0415

        given.html.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(given.html, render_comparison(found, picture))
        console.print(f"page: {given.html}", markup=False)


def _side(text: str, root: Path):
    from optsweep.commands.named import find  # noqa: PLC0415
    from optsweep.report.comparison import Side  # noqa: PLC0415

    named = find(text, root)
    if named.is_search:
        from optsweep.commands.best import best_of  # noqa: PLC0415

        named = best_of(named).named
    collection = named.collect()
    return Side(text, collection, named.trained(collection))
