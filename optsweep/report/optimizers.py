"""Optimizers compared, each at its best setting: a table, and performance profiles.

Performance profiles answer: on which share of the tasks is an optimizer how close to the fastest?
As AlgoPerf scores them (Dahl et al. 2023, arXiv:2306.07179; Dolan & Moré 2002): with t(o, k) the
time of optimizer o on task k, its profile at r is the share of tasks with
t(o, k) <= r min over o' of t(o', k). Here a task is one seed and one target to reach, and time
is counted in epochs, all of as many steps: seconds would tell what else the machine did.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from optsweep.report.collection import TRAINED, Collection, Setting
from optsweep.report.drawing import legend, log_scale, styles
from optsweep.report.grids import at_edge, best_of, chosen_by
from optsweep.report.measures import difference, located
from optsweep.report.outline import Question
from optsweep.report.pictures import Picture
from optsweep.report.settings import family, label, varying
from optsweep.report.statistics import Interval, time_to_target

# What tells the settings of one optimizer apart, in the order of a label.
_TOLD = ("lr", "weight_decay", "batch_size", "momentum", "scheduler", "init", "depth", "epochs")
_CHOSEN_BY = {"val_accuracy": "validation", "final_train_accuracy": "training"}
_MARGIN = 0.005  # of test accuracy, as for the claims
_TARGETS = (0.80, 0.82, 0.84, 0.86, 0.88)  # test accuracies, from easy to hard


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


def best_per_optimizer(collection: Collection) -> list[Best]:
    """The best of each optimizer by validation accuracy, best test accuracy first.

    Settings without validation examples are only considered for an optimizer that has no
    others, and are then chosen by the final weights' accuracy on the training split.
    """
    cells = [
        Setting(str(cell), (str(cell),), {}, row["facets"], row["status"], row["reason"])
        for cell, row in collection.cells.iterrows()
        if row["status"] in TRAINED
    ]
    found = [_best(collection, *each) for each in by_optimizer(cells).items()]
    return sorted(found, key=lambda one: -one.test.estimate)


def warnings(collection: Collection, best: list[Best]) -> list[str]:
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
        found = difference(collection, [adam.cell], [momentum.cell], "test_accuracy")
        if found.interval().high < -_MARGIN:
            told.append(
                "Adam ends below SGD with momentum, although it includes that as a limit "
                "(arXiv:1910.05446): suspect its tuning before the optimizer."
            )
    return told


def performance_profile(
    collection: Collection, question: Question, experiments: Sequence[str]
) -> Picture | None:
    """The profiles of all optimizers of the searches, each at its best setting."""
    families = by_optimizer(collection.trained(experiments))
    times = pd.DataFrame(
        {name: _times(collection, settings) for name, settings in families.items()}
    )
    if times.shape[1] < 2 or not np.isfinite(times.to_numpy()).any():
        return None
    profiles = profile(times)
    figure = Figure(figsize=(10, 4.2), layout="constrained")
    axes = figure.subplots()
    for name, look in styles(list(profiles)).items():
        axes.step(
            profiles.index,
            profiles[name],
            where="post",
            markevery=max(1, len(profiles) // 8),
            label=name,
            **vars(look),
        )
    axes.set(xlabel="epochs, as a multiple of the fastest optimizer's", ylabel="share of the tasks")
    axes.set(xlim=(1, float(profiles.index[-1])), ylim=(0, 1.02))
    log_scale(axes, "x")
    legend(figure, axes)
    targets = f"{_TARGETS[0]:g} to {_TARGETS[-1]:g}"
    caption = (
        f"Performance profiles: a task is one seed and one of {len(_TARGETS)} targets, test "
        f"accuracies from {targets}; the time is the epochs of training until it is reached. Each "
        "optimizer is at its best setting by validation accuracy. Higher and further left is "
        "better; a target that is missed is never reached."
    )
    return Picture(f"{question.id}_profile", figure, caption)


def profile(times: pd.DataFrame) -> pd.DataFrame:
    """The profile of each column of times: a row per task, infinite for a failure.

    Returns:
        A column per optimizer; index: the ratios at which a profile rises, 1 first.
    """
    fastest = times.min(axis=1)
    ratios = times.div(fastest.where(fastest < math.inf, 1.0), axis=0)
    rises = np.unique(ratios.to_numpy()[np.isfinite(ratios.to_numpy())])
    steps = np.union1d([1.0], rises)
    shares = {name: [(ratios[name] <= step).mean() for step in steps] for name in ratios}
    return pd.DataFrame(shares, index=steps)


def _times(collection: Collection, settings: Sequence[Setting]) -> pd.Series:
    """Epochs to every target, index: seed and target, at the best setting."""
    best = best_of(collection, settings)
    assert best is not None
    history = collection.history_of(best.cells)
    reached = {
        target: time_to_target(history, "test_accuracy", target)["epochs"] for target in _TARGETS
    }
    return pd.DataFrame(reached).stack()


def _best(collection: Collection, name: str, settings: list[Setting]) -> Best:
    searched = [one for one in settings if one.facets.get("val_size")]
    settings = searched or settings
    best = best_of(collection, settings)
    assert best is not None
    column, values = chosen_by(collection, best)
    varied = varying([one.facets for one in settings])
    return Best(
        optimizer=name,
        setting=label(best.facets, ["lr", *(key for key in _TOLD[1:] if key in varied)]),
        chosen_by=_CHOSEN_BY[column],
        chosen=float(values.mean()),
        test=located(collection, best.cells, "test_accuracy").interval(),
        num_settings=len(settings),
        edges=tuple(key.replace("_", " ") for key in at_edge(best, settings)),
        cell=best.cells[0],
    )
