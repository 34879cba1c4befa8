"""What a search judges a cell by: its validation accuracies, never the test set's.

From those of earlier trials also follows what a new one has to reach after each epoch.
"""

from __future__ import annotations

import itertools
import math
import statistics
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pandas as pd
from optuna.study import Study
from optuna.trial import TrialState

from optsweep.runs import counted_accuracies, mean_accuracy

MIN_TRIALS = 5  # before them a median says little
_FREE_EPOCHS = 1  # nothing is asked of the first epoch


def objective(result: Mapping[str, Any], standard_errors: float) -> float:
    """Mean validation accuracy less some standard errors; a diverged seed counts as 0.

    A single seed has no standard error, and nothing is taken off.

    >>> seeds = [{"val_accuracy": 0.8}, {"val_accuracy": 0.9}, {"val_accuracy": None}]
    >>> round(objective({"per_seed": seeds[:2]}, 1.0), 4), objective({"per_seed": seeds}, 9.0)
    (0.8, 0.0)
    """
    accuracies = counted_accuracies(seed["val_accuracy"] for seed in result["per_seed"])
    error = statistics.stdev(accuracies) / len(accuracies) ** 0.5 if len(accuracies) > 1 else 0.0
    return max(0.0, mean_accuracy(accuracies) - standard_errors * error)


def validation_accuracies(path: Path) -> list[tuple[int, float, list[float]]]:
    """Epochs from 1, the mean validation accuracy after each and that of each seed.

    A seed that has diverged counts as 0.
    """
    # As text first, for pandas's own reading of numbers rounds in some versions.
    history = pd.read_csv(path, dtype={"val_accuracy": str}).astype({"val_accuracy": float})
    by_epoch = history.pivot(index="epoch", columns="seed", values="val_accuracy")
    return [
        (int(epoch), mean_accuracy(row), counted_accuracies(row))
        for epoch, row in by_epoch.iterrows()
        if epoch
    ]


def median_floor(study: Study, margin: float) -> list[float]:
    """Accuracies for `StoppingConfig.floor`, the last epoch's left out; empty if it is too early.

    Args:
        study: An Optuna study, whose complete trials have reported their validation accuracy
            after every epoch.
        margin: How far below the median a trial may be and still have a hope.
    """
    complete = study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))
    curves = [
        list(itertools.accumulate((values[epoch] for epoch in sorted(values)), max))
        for values in (trial.intermediate_values for trial in complete)
        if values
    ]
    if len(curves) < MIN_TRIALS:
        return []
    length = max(map(len, curves)) - 1
    floor = []
    for epoch in range(length):
        # A trial that diverged early keeps the best that it had.
        median = statistics.median(curve[min(epoch, len(curve) - 1)] for curve in curves)
        wanted = math.floor(1e4 * (median - margin)) / 1e4  # four digits, for the command line
        floor.append(max(0.0, wanted) if epoch >= _FREE_EPOCHS else 0.0)
    return floor
