"""More seeds for claims that stay undecided: which cells these are, and how they are trained.

Seeds of a setting need not be trained together: further ones are cells of their own, which the
report joins. A claim is looked at again at the numbers of seeds of `multiplicity.LOOKS`, at each of
which its verdict may spend its share of the error.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from optsweep import interrupts
from optsweep.cli.app import Job, find_or_train
from optsweep.cli.grids import Cell, split_override
from optsweep.config import identity
from optsweep.liveness import alone_in
from optsweep.report.claims import Judgement
from optsweep.report.collection import Collection, Setting
from optsweep.report.findings import UNDECIDED
from optsweep.report.multiplicity import next_look
from optsweep.report.settings import split_overrides
from optsweep.study.experiments import Experiment
from optsweep.sweeps import list_more_seeds

if TYPE_CHECKING:
    from rich.console import Console


class Extension(NamedTuple):
    """A cell with further seeds.

    Attributes:
        cell: The new one.
        extends: Name of the cell that it has all settings of but the seed.
    """

    cell: Cell
    extends: str


def undecided(
    judgements: Iterable[Judgement], collection: Collection, most: int
) -> list[Judgement]:
    """The claims that further seeds may decide: not of those that have all, or that had nothing."""
    return [
        each
        for each in judgements
        if each.verdict == UNDECIDED
        and each.finding.effect.n
        and (look := _look(each, collection)) is not None
        and look <= most
    ]


def extensions(
    judgements: Iterable[Judgement], collection: Collection, experiments: Sequence[Experiment]
) -> dict[str, Extension]:
    """The cells that undecided claims need for their next look, by name.

    Args:
        judgements: Those of `undecided`.
        collection: By which they were judged.
        experiments: Whose cells get further seeds.
    """
    cells = {name: cell for each in experiments for name, cell in each.cells.items()}
    found: dict[str, Extension] = {}
    for each in judgements:
        look = _look(each, collection)
        for setting in each.settings:
            own = [cells[name] for name in setting.cells if name in cells]
            if own and look is not None:
                found |= {one.cell.name: one for one in _further(own, setting, collection, look)}
    return {name: one for name, one in found.items() if name not in cells}


def train(extension: Extension, experiment: Experiment, console: Console) -> dict[str, Any]:
    """The result of a cell with further seeds, which is diagnosed as the experiment's own are."""
    directory = experiment.grid.cells_folder / extension.cell.name
    job = Job(extension.cell.config, directory, rerun=False, composed={})
    result = find_or_train(job, console)
    if experiment.grid.diagnosis is not None:
        from optsweep.cli.diagnose import diagnose  # noqa: PLC0415 - it loads much

        with alone_in(directory, console.print), interrupts.as_interrupt():
            diagnose(directory, experiment.grid.diagnosis, console)
    return result


def keep(extension: Extension, experiments: Iterable[Experiment]) -> None:
    """List a trained cell in every experiment that has the one that it extends."""
    row = {
        "cell": extension.cell.name,
        "overrides": extension.cell.overrides,
        "extends": extension.extends,
    }
    for each in experiments:
        if extension.extends in each.cells:
            list_more_seeds(each.grid.folder, [row])


def _look(judgement: Judgement, collection: Collection) -> int | None:
    return next_look(min(_num_seeds(one, collection) for one in judgement.settings))


def _num_seeds(setting: Setting, collection: Collection) -> int:
    return len(collection.seeds_of(setting.cells))


def _further(
    own: Sequence[Cell], setting: Setting, collection: Collection, look: int
) -> Iterator[Extension]:
    """As many seeds at once as the setting's own cells have, until there are enough."""
    first = min(own, key=lambda cell: cell.config.seed)
    begin, size = first.config.seed, first.config.num_seeds
    for seed in range(begin + _num_seeds(setting, collection), begin + look, size):
        config = dataclasses.replace(first.config, seed=seed)
        told = [one for one in split_overrides(first.overrides) if split_override(one)[0] != "seed"]
        overrides = " ".join([*told, f"seed={seed}"])
        yield Extension(Cell(identity.cell_name(config), overrides, config), first.name)
