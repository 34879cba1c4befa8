"""The best setting of every optimizer, over everything that was trained."""

from __future__ import annotations

from dataclasses import dataclass

from optsweep.report.grids import at_edge, chosen_by
from optsweep.report.measures import score
from optsweep.report.settings import family, label, varying
from optsweep.report.statistics import Interval, bootstrap_interval, paired_differences
from optsweep.report.study import TRAINED, Setting, Study

# What tells the settings of one optimizer apart, in the order of a label.
_TOLD = ("lr", "weight_decay", "batch_size", "momentum", "scheduler", "init", "depth", "epochs")
_CHOSEN_BY = {"val_accuracy": "validation", "final_train_accuracy": "training"}
_MARGIN = 0.005  # of test accuracy, as for the claims


@dataclass(frozen=True)
class Best:
    """The best setting of an optimizer.

    Attributes:
        optimizer: As a reader names it.
        setting: What it was set to.
        chosen_by: The images that it was chosen on.
        chosen: Mean accuracy on them.
        test: Its test accuracy, diverged seeds counted as 0.
        num_settings: How many settings were tried.
        edges: Keys whose best value is the least or the largest that was tried.
    """

    optimizer: str
    setting: str
    chosen_by: str
    chosen: float
    test: Interval
    num_settings: int
    edges: tuple[str, ...]
    cell: str


def best_per_optimizer(study: Study) -> list[Best]:
    """The best of each optimizer by validation accuracy, best test accuracy first.

    Settings without validation examples are only considered for an optimizer that has no
    others, and are then chosen by the final weights' accuracy on the training split.
    """
    families: dict[str, list[Setting]] = {}
    for cell, row in study.cells.iterrows():
        if row["status"] in TRAINED:
            one = Setting(str(cell), (str(cell),), {}, row["facets"], row["status"], row["reason"])
            families.setdefault(family(one.facets), []).append(one)
    found = [_best(study, name, settings) for name, settings in families.items()]
    return sorted(found, key=lambda one: -one.test.mean)


def warnings(study: Study, best: list[Best]) -> list[str]:
    """What a careful reader should doubt about the comparison of optimizers."""
    told = [
        f"The best {' and '.join(one.edges)} of {one.optimizer} is the last one tried: "
        "a better one may lie beyond."
        for one in best
        if one.edges
    ]
    by_name = {one.optimizer: one for one in best}
    adam, momentum = by_name.get("adam"), by_name.get("sgd with momentum")
    if adam and momentum:
        difference = bootstrap_interval(
            paired_differences(
                score(study, [adam.cell], "test_accuracy"),
                score(study, [momentum.cell], "test_accuracy"),
            )
        )
        if difference.high < -_MARGIN:
            told.append(
                "Adam ends below SGD with momentum, although it includes that as a limit "
                "(arXiv:1910.05446): suspect its tuning before the optimizer."
            )
    return told


def _best(study: Study, name: str, settings: list[Setting]) -> Best:
    searched = [one for one in settings if one.facets.get("val_size")]
    settings = searched or settings
    best = max(settings, key=lambda one: chosen_by(study, one)[1].mean())
    column, values = chosen_by(study, best)
    varied = varying([one.facets for one in settings])
    return Best(
        optimizer=name,
        setting=label(best.facets, ["lr", *(key for key in _TOLD[1:] if key in varied)]),
        chosen_by=_CHOSEN_BY[column],
        chosen=float(values.mean()),
        test=bootstrap_interval(score(study, best.cells, "test_accuracy")),
        num_settings=len(settings),
        edges=tuple(key.replace("_", " ") for key in at_edge(best, settings)),
        cell=best.cells[0],
    )
