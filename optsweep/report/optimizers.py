"""Optimizers compared, each at the best of as many settings, chosen on validation images."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from optsweep.report.collection import Collection, Setting
from optsweep.report.grids import at_edge, best_of, chosen_by
from optsweep.report.language import Text, listing, say
from optsweep.report.measures import difference, in_words, located
from optsweep.report.settings import family, label, varying
from optsweep.report.statistics import Interval
from optsweep.report.wording import count, interval, number

# What tells the settings of one optimizer apart, in the order of a label.
_TOLD = ("lr", "weight_decay", "batch_size", "momentum", "scheduler", "init", "depth", "epochs")
_MARGIN = 0.005  # of test accuracy, as for the claims


def by_optimizer(settings: Iterable[Setting]) -> dict[str, list[Setting]]:
    """Trained settings by the optimizer that a reader would name."""
    families: dict[str, list[Setting]] = {}
    for setting in settings:
        families.setdefault(family(setting.facets), []).append(setting)
    return families


@dataclass(frozen=True)
class Best:
    """The best setting of an optimizer.

    Attributes:
        optimizer: As a reader names it.
        setting: What it was set to.
        chosen: Mean accuracy on the validation images that it was chosen on.
        test: Its test accuracy, diverged seeds counted as 0.
        num_settings: How many settings were tried.
        edges: Keys whose best value is the least or the largest that was tried.
        cells: Its cells.
    """

    optimizer: str
    setting: str
    chosen: float
    test: Interval
    num_settings: int
    edges: tuple[str, ...]
    cells: tuple[str, ...]


def best_per_optimizer(collection: Collection, experiments: Sequence[str]) -> list[Best]:
    """The best of each optimizer of some searches, best test accuracy first.

    Only those of which equally many settings were tried are compared, as many as most have: who
    has tried more finds better ones.
    """
    searched = collection.trained(collection.searches(experiments))
    families = by_optimizer(searched)
    if len(families) < 2:
        return []
    ((usual, _),) = Counter(map(len, families.values())).most_common(1)
    alike = {name: found for name, found in families.items() if len(found) == usual}
    if len(alike) < 2:
        return []
    found = [_best(collection, name, settings) for name, settings in alike.items()]
    return sorted(found, key=lambda one: -one.test.estimate)


def ranking(collection: Collection, best: Sequence[Best]) -> list[Text]:
    """Who is first, and of whom that is sure."""
    if len(best) < 2:
        return [say("fair.nothing")]
    first, *others = best
    told = say(
        "fair.first",
        optimizers=count(len(best), "optimizer"),
        settings=count(first.num_settings, "setting"),
        first=first.optimizer,
        accuracy=number(first.test.estimate, 4),
        interval=interval(first.test.low, first.test.high, 4),
    )
    near = [one.optimizer for one in others if not _is_ahead(collection, first, one)]
    if not near:
        return [told, say("fair.ahead", margin=f"{_MARGIN:g}")]
    return [told, say("fair.not_ahead", margin=f"{_MARGIN:g}", others=listing(near))]


def warnings(collection: Collection, best: Sequence[Best]) -> list[Text]:
    """What a careful reader should doubt about the comparison of optimizers."""
    told = [
        say(
            "fair.edge",
            keys=listing([in_words(key) for key in one.edges]),
            optimizer=one.optimizer,
        )
        for one in best
        if one.edges
    ]
    by_name = {one.optimizer: one for one in best}
    adam, momentum = by_name.get("adam"), by_name.get("sgd with momentum")
    if adam and momentum and _is_ahead(collection, momentum, adam):
        told.append(say("fair.suspect_adam"))
    return told


def _is_ahead(collection: Collection, one: Best, other: Best) -> bool:
    """Whether one is surely better by more than the margin, seed by seed."""
    found = difference(collection, one.cells, other.cells, "test_accuracy")
    return found.interval().low > _MARGIN


def _best(collection: Collection, name: str, settings: Sequence[Setting]) -> Best:
    best = best_of(collection, settings)
    assert best is not None
    varied = varying([one.facets for one in settings])
    return Best(
        optimizer=name,
        setting=label(best.facets, ["lr", *(key for key in _TOLD[1:] if key in varied)]),
        chosen=float(chosen_by(collection, best)[1].mean()),
        test=located(collection, best.cells, "test_accuracy").interval(),
        num_settings=len(settings),
        edges=tuple(at_edge(best, settings)),
        cells=best.cells,
    )
