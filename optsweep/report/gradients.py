"""Measures on recorded gradients: one number per seed.

Gradients are those of the mean loss over all training examples (see
`optsweep.training.recording`), so that what they do is the training's doing and not a mini-batch's.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import pandas as pd

from optsweep.report.study import Study

# The report's three weights, and the recorded weight whose pixel is most often not black.
REPORT_WEIGHTS = ("linear1.weight[0,724]", "linear1.weight[0,725]", "linear1.weight[0,726]")
SIGNAL = "signal"


def of_quantity(study: Study, cells: Sequence[str], quantity: str) -> pd.DataFrame:
    """The rows of one quantity: seed, epoch, parameter, value."""
    gradients = study.gradients
    chosen = gradients["cell"].isin(list(cells)) & (gradients["quantity"] == quantity)
    return gradients[chosen]


def total_norm(study: Study, cells: Sequence[str], quantity: str) -> pd.DataFrame:
    """Norm over all parameters, from the norms of each: index epoch, a column per seed."""
    rows = of_quantity(study, cells, quantity)
    squares = rows.assign(square=rows["value"] ** 2).groupby(["epoch", "seed"])["square"].sum()
    return np.sqrt(squares).unstack("seed")


def pixel_nonzero(study: Study, cells: Sequence[str], weight: str) -> pd.Series:
    """In what fraction of the training images the weight's pixel is not black."""
    rows = of_quantity(study, cells, "pixel_nonzero_fraction")
    rows = rows[rows["parameter"] == _named(study, cells, weight)]
    return rows.set_index("seed")["value"]


def first_moving_epoch(
    study: Study, cells: Sequence[str], weight: str, fraction: float = 0.1
) -> pd.Series:
    """The first epoch at which |gradient| is at least a fraction of its largest value.

    Infinite for a gradient that is zero throughout.
    """
    sizes = _traces(study, cells, weight).abs()
    moving = (sizes >= fraction * sizes.max()) & (sizes > 0)
    return moving.idxmax().where(moving.any(), math.inf)


def gradient_size(study: Study, cells: Sequence[str], weight: str) -> pd.Series:
    """Root mean square of a weight's gradient over the epochs."""
    return np.sqrt((_traces(study, cells, weight) ** 2).mean())


def sign_changes(study: Study, cells: Sequence[str], of: str) -> pd.Series:
    """Share of the epochs at which a gradient's sign turns, where it is not zero.

    `of` is `max` or `min`: that of the report's three weights which turns most, or least.
    """
    shares = {}
    for weight in REPORT_WEIGHTS:
        signs = np.sign(_traces(study, cells, weight))
        turns = (signs * signs.shift() < 0).sum()
        shares[weight] = turns / (signs != 0).sum().clip(lower=2).sub(1)
    return pd.DataFrame(shares).agg(of, axis=1)


def settling(study: Study, cells: Sequence[str]) -> pd.Series:
    """Root mean square of the last third of a gradient, relative to its largest value.

    Of the report's three weights, the one that settles most; 1 if none ever moves.
    """
    shares = {}
    for weight in REPORT_WEIGHTS:
        trace = _traces(study, cells, weight)
        late = trace.iloc[-max(1, len(trace) // 3) :]
        shares[weight] = (np.sqrt((late**2).mean()) / trace.abs().max()).fillna(1.0)
    return pd.DataFrame(shares).min(axis=1)


def remaining_gradient(study: Study, cells: Sequence[str]) -> pd.Series:
    """Norm of the whole gradient at the end, relative to that of the untrained network."""
    norms = total_norm(study, cells, "gradient_norm")
    return norms.iloc[-1] / norms.iloc[0]


def _traces(study: Study, cells: Sequence[str], weight: str) -> pd.DataFrame:
    """The gradient of a weight: index epoch, a column per seed."""
    rows = of_quantity(study, cells, "gradient")
    rows = rows[rows["parameter"] == _named(study, cells, weight)]
    return rows.pivot(index="epoch", columns="seed", values="value")


def _named(study: Study, cells: Sequence[str], weight: str) -> str:
    if weight != SIGNAL:
        return weight
    fractions = of_quantity(study, cells, "pixel_nonzero_fraction").groupby("parameter")["value"]
    return str(fractions.mean().idxmax()) if len(fractions) else weight
