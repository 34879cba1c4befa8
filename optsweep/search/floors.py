"""What a new trial has to reach after each epoch: the median of those before it, less a margin."""

from __future__ import annotations

import itertools
import math
import statistics

from optuna.study import Study
from optuna.trial import TrialState

MIN_TRIALS = 5  # before them a median says little
_FREE_EPOCHS = 1  # nothing is asked of the first epoch


def median_floor(study: Study, margin: float) -> list[float]:
    """Accuracies for `StoppingConfig.floor`, the last epoch's left out; empty if it is too early.

    Args:
        study: Its complete trials have reported their validation accuracy after every epoch.
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
