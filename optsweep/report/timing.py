"""Why large batches are fast: t(b) = a + c b seconds per step of b examples.

`a` is what every step costs whatever its size, `c` the work of one more example.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import pandas as pd

from optsweep.report.measures import seconds_per_step
from optsweep.report.study import Setting, Study

# All data sets that optsweep offers have images of 28 x 28 pixels and ten classes.
NUM_INPUTS, NUM_CLASSES = 784, 10


class Fit(NamedTuple):
    """Seconds per step: `overhead` + `per_example` * batch size."""

    overhead: float
    per_example: float

    def seconds(self, batch_size: float) -> float:
        """Seconds of a step by the fit."""
        return self.overhead + self.per_example * batch_size


def fit_step_time(batch_sizes: Sequence[float], seconds: Sequence[float]) -> Fit:
    """Least squares of the relative errors, neither coefficient below zero.

    Relative, for the seconds span orders of magnitude, and absolute errors would let the
    largest batch decide alone.

    >>> fit = fit_step_time([1, 100, 1000], [0.011, 0.11, 1.01])
    >>> round(fit.overhead, 6), round(fit.per_example, 6)
    (0.01, 0.001)
    """
    from scipy.optimize import nnls  # noqa: PLC0415 - not needed to read a study

    sizes, times = np.asarray(batch_sizes, float), np.asarray(seconds, float)
    scaled = np.column_stack([1 / times, sizes / times / sizes.max()])
    (overhead, work), _ = nnls(scaled, np.ones(len(times)))
    return Fit(float(overhead), float(work / sizes.max()))


def step_times(study: Study, settings: Sequence[Setting]) -> pd.DataFrame:
    """Seconds per step: a row per repeated run and epoch, a column per batch size.

    Only runs of one network are timings; in a stack of seeds a step trains all of them.
    """
    columns = {
        int(setting.facets["batch_size"]): seconds_per_step(study, setting.cells)
        for setting in settings
        if setting.trained and _alone(study, setting)
    }
    return pd.DataFrame(columns).sort_index(axis=1)


def fixed_share(study: Study, settings: Sequence[Setting], batch_size: int) -> pd.Series:
    """The share a / (a + c b) of a step's time that does not depend on its batch.

    Fitted anew for every repeated run and epoch; empty with fewer than three batch sizes.
    """
    times = step_times(study, settings).dropna()
    if times.shape[1] < 3:
        return pd.Series(dtype=float)
    fits = [fit_step_time(list(times.columns), list(row)) for row in times.to_numpy()]
    return pd.Series([fit.overhead / fit.seconds(batch_size) for fit in fits], index=times.index)


def flops_per_example(hidden_sizes: Sequence[int]) -> int:
    """Floating-point operations of one example's forward and backward pass.

    Two for each weight forward, two for its gradient, and two to pass the gradient on, which
    the first layer does not do. Activations and the optimizer's own work are left out.

    >>> flops_per_example([128, 56])
    447776
    """
    widths = [NUM_INPUTS, *hidden_sizes, NUM_CLASSES]
    weights = [a * b for a, b in itertools.pairwise(widths)]
    return 6 * sum(weights) - 2 * weights[0]


def _alone(study: Study, setting: Setting) -> bool:
    seeds = study.cells.loc[list(setting.cells), "num_seeds"]
    return bool((seeds.astype(float) == 1).all())
