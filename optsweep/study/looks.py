"""More seeds where they are wanted: which cells these are, and how they are trained.

Seeds of a setting need not be trained together: further ones are cells of their own, which the
report joins. A claim that stays undecided is looked at again at the numbers of seeds of
`multiplicity.LOOKS`, at each of which its verdict may spend its share of the error. A setting of
which some seeds learn and others do not has `SEEDS_OF_SCATTERED`, whether a claim that compares it
is decided or not, or none does.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, NamedTuple

from optsweep import interrupts
from optsweep.cli.grids import Cell, split_override
from optsweep.cli.jobs import Job, find_or_train
from optsweep.config import identity
from optsweep.liveness import alone_in
from optsweep.report.claims import Judgement
from optsweep.report.collection import TRAINED, Collection, Setting, is_search
from optsweep.report.findings import UNDECIDED
from optsweep.report.multiplicity import LOOKS, next_look
from optsweep.report.settings import split_overrides
from optsweep.study.apart import train_apart
from optsweep.study.experiments import Experiment
from optsweep.sweeps import list_more_seeds

if TYPE_CHECKING:
    import pandas as pd
    from rich.console import Console

# Seeds of a setting whose own scatter, with a standard deviation of test accuracy above `SCATTER`.
# Ten tell little there: Adam's at a rate of 0.1 end at 0.45 +- 0.18.
SEEDS_OF_SCATTERED, SCATTER = 40, 0.1


class Extension(NamedTuple):
    """A cell with further seeds.

    Attributes:
        cell: The new one.
        extends: Name of the cell that it has all settings of but the seed.
    """

    cell: Cell
    extends: str


def wanted(
    judgements: Iterable[Judgement],
    collection: Collection,
    experiments: Sequence[Experiment],
    most: int,
) -> dict[str, list[Extension]]:
    """What claims need for their next look, by the claim's id, and settings by their labels.

    Settings need what makes them forty where they scatter, and what was trained once and is gone.

    Nothing for claims that had no seeds to compare, or that compare settings of other experiments
    too, whose seeds are not these experiments' to add.

    Args:
        judgements: On the claims of the study.
        collection: By which they were judged.
        experiments: Whose cells get further seeds.
        most: Seeds of a setting.
    """
    cells = {name: cell for each in experiments for name, cell in each.cells.items()}
    ours = {id(one) for each in experiments for one in collection.settings_of(each.name)}
    found: dict[str, list[Extension]] = {}
    for each in judgements:
        has_values = each.finding.effect.n > 0 and each.settings and each.claim.gains_by_seeds
        is_ours = all(id(one) in ours for one in each.settings)  # cells are shared, settings not
        if not has_values or not is_ours:
            continue
        look = _next_look(each, collection, most)
        needed = [more for one in each.settings for more in _further(one, cells, look)]
        found |= {each.claim.id: needed} if needed else {}
    known = {one.cell.name for needed in found.values() for one in needed}
    for name, setting in _scattered(collection, experiments):
        needed = [*_further(setting, cells, min(SEEDS_OF_SCATTERED, most))]
        if any(one.cell.name not in known for one in needed):
            found[f"{name}: {setting.label}"] = needed
    for name in (each.name for each in experiments):
        for setting in collection.settings_of(name):
            if lost := _lost(setting, cells, collection):
                found[f"{name}: {setting.label}"] = lost
    return found


def _lost(setting: Setting, cells: Mapping[str, Cell], collection: Collection) -> list[Extension]:
    """Further seeds that were trained once, and are gone."""
    status = collection.cells["status"]
    gone = {name for name in setting.cells if name not in cells and status[name] not in TRAINED}
    if not gone:
        return []
    anew = dataclasses.replace(setting, cells=tuple(set(setting.cells) - gone))
    return [one for one in _further(anew, cells, LOOKS[-1]) if one.cell.name in gone]


def _scattered(
    collection: Collection, experiments: Sequence[Experiment]
) -> Iterator[tuple[str, Setting]]:
    """Settings whose seeds scatter, but for searches, times and diagnoses, with their experiment.

    Of fewer seeds than a first look has, nobody asked for more.
    """
    for each in experiments:
        settings = collection.trained([each.name])
        if each.is_timed or each.grid.diagnosis is not None or is_search(settings):
            continue
        for setting in settings:
            seeds = collection.seeds_of(setting.cells)
            if len(seeds) >= LOOKS[0] and _scatter(seeds):
                yield each.name, setting


def _scatter(seeds: pd.DataFrame) -> bool:
    return bool(seeds["test_accuracy"].std() > SCATTER)


def _next_look(judgement: Judgement, collection: Collection, most: int) -> int:
    """How many seeds the settings of a claim are to have, at most `most`; 0: what they have."""
    results = [collection.seeds_of(one.cells) for one in judgement.settings]
    has = min(len(seeds) for seeds in results)
    of_scattered = min(SEEDS_OF_SCATTERED, most)
    if any(map(_scatter, results)) and not judgement.claim.is_timed and has < of_scattered:
        return of_scattered
    if judgement.verdict != UNDECIDED or judgement.is_hopeless:
        return 0
    look = next_look(has)
    return look if look is not None and look <= most else 0


def by_seed(waiting: Mapping[str, Sequence[Extension]]) -> list[Extension]:
    """All of them seed by seed: times that are compared, in pairs, are taken one after the other.

    A machine that others share is slower in one hour than in the next.
    """
    every = [one for needed in waiting.values() for one in needed]
    return sorted(every, key=lambda one: one.cell.config.seed)


def train(extension: Extension, experiment: Experiment, console: Console) -> None:
    """Train a cell with further seeds, timed or diagnosed as the experiment's own are."""
    directory = experiment.grid.cells_folder / extension.cell.name
    if experiment.is_timed:
        return train_apart(extension.cell.config, directory)
    find_or_train(Job(extension.cell.config, directory, rerun=False, composed={}), console)
    if experiment.grid.diagnosis is not None:
        from optsweep.cli.diagnose import diagnose  # noqa: PLC0415 - it loads much

        with alone_in(directory, console.print), interrupts.as_interrupt():
            diagnose(directory, experiment.grid.diagnosis, console)


def keep(extension: Extension, experiments: Iterable[Experiment]) -> None:
    """List a trained cell in every experiment that has the one that it extends.

    With the overrides that this one has there: by others it would be a setting of its own.
    """
    cell, extends = extension
    for each in experiments:
        if extends in each.cells:
            overrides = _with_seed(each.cells[extends].overrides, cell.config.seed)
            row = {"cell": cell.name, "overrides": overrides, "extends": extends}
            list_more_seeds(each.grid.folder, [row])


def _further(setting: Setting, cells: Mapping[str, Cell], look: int) -> Iterator[Extension]:
    """As many seeds at once as the setting's own cells have, until there are enough."""
    own = [cells[name] for name in setting.cells if name in cells]
    if not own:
        return
    first = min(own, key=lambda cell: cell.config.seed)
    begin, size = first.config.seed, first.config.num_seeds
    for seed in range(begin, begin + look, size):
        config = dataclasses.replace(first.config, seed=seed)
        name = identity.cell_name(config)
        if name not in setting.cells:
            yield Extension(Cell(name, _with_seed(first.overrides, seed), config), first.name)


def _with_seed(overrides: str, seed: int) -> str:
    others = [one for one in split_overrides(overrides) if split_override(one)[0] != "seed"]
    return " ".join([*others, f"seed={seed}"])
