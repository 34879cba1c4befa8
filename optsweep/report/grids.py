"""Grids of two numbers, such as learning rate and weight decay, and searches over them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd

from optsweep.report.measures import score
from optsweep.report.study import Setting, Study

# What may span an axis: first the learning rate, which lies along x.
NUMERIC_KEYS = ("lr", "batch_size", "weight_decay", "momentum")
_MIN_VALUES = 3


def is_search(settings: Sequence[Setting]) -> bool:
    """Whether the settings hold out validation examples, on which a best value is chosen."""
    known = [setting for setting in settings if setting.facets]
    return bool(known) and all(setting.facets.get("val_size") for setting in known)


def axes(settings: Sequence[Setting]) -> list[str]:
    """At most two numeric keys that vary over at least three values.

    A key that every setting leaves to its optimizer's default is none.
    """
    return [
        key
        for key in NUMERIC_KEYS
        if len({setting.value(key) for setting in settings} - {None}) >= _MIN_VALUES
    ][:2]


def chosen_by(study: Study, setting: Setting) -> tuple[str, pd.Series]:
    """The score that a best setting is chosen by, never the test split's, and its values."""
    column = "val_accuracy" if setting.facets.get("val_size") else "final_train_accuracy"
    return column, score(study, setting.cells, column)


def best_of(study: Study, settings: Sequence[Setting]) -> Setting | None:
    """The trained setting with the best mean of what it is chosen by."""
    trained = [setting for setting in settings if setting.trained]
    return max(trained, key=lambda one: chosen_by(study, one)[1].mean(), default=None)


def at_edge(best: Setting, settings: Sequence[Setting]) -> list[str]:
    """The axes on whose end the best setting lies: a better one may lie beyond."""
    edges = []
    for key in axes(settings):
        values: list[Any] = sorted({one.value(key) for one in settings} - {None})
        # Beyond these there is nothing: no decay, no momentum, one example, or all of them.
        ends = {0, 1, best.facets.get("num_train")} if key == "batch_size" else {0}
        if best.value(key) in {values[0], values[-1]} - ends:
            edges.append(key)
    return edges


def interaction(
    study: Study, settings: Sequence[Setting], keys: Sequence[str], of: str = "val_accuracy"
) -> pd.Series:
    """How far a score over a grid is from a sum of one term per row and one per column.

    For each seed, the sum of squares that such a sum leaves, relative to the whole sum of
    squares about the mean: 0 if the best value of one key is the same for all values of the
    other.
    """
    values = {
        tuple(setting.value(key) for key in keys): score(study, setting.cells, of)
        for setting in settings
        if setting.trained
    }
    table = pd.DataFrame(values)
    if table.empty:
        return pd.Series(dtype=float)
    shares = {}
    for seed, of_seed in table.iterrows():
        grid = of_seed.unstack().to_numpy(dtype=float)
        centred = grid - grid.mean()
        rest = centred - centred.mean(0) - centred.mean(1)[:, None]
        total = (centred**2).sum()
        shares[seed] = (rest**2).sum() / total if total else np.nan
    return pd.Series(shares, dtype=float)
