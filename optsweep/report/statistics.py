"""Numbers over seeds: intervals, paired differences, exact tests, Holm's correction, targets.

Every cell of an experiment trains the same seeds, so two cells are compared seed by seed.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike
from scipy import stats

CONFIDENCE = 0.95
_NUM_RESAMPLES = 10_000


class Interval(NamedTuple):
    """A mean and its bootstrap interval, from n values."""

    mean: float
    low: float
    high: float
    n: int


def bootstrap_interval(values: ArrayLike, confidence: float = CONFIDENCE) -> Interval:
    """Mean and percentile bootstrap interval, the same at every call.

    Infinite values (a diverged loss, a target that was missed) have no bootstrap: the interval
    is then the whole range of the values. NaN are left out, and n tells how many remain. A
    single value has no interval.

    >>> bootstrap_interval([1.0, 1.0, 1.0])
    Interval(mean=1.0, low=1.0, high=1.0, n=3)
    """
    known = np.asarray(values, dtype=float)
    known = known[~np.isnan(known)]
    n = len(known)
    if n == 0:
        return Interval(math.nan, math.nan, math.nan, 0)
    low, high = float(known.min()), float(known.max())
    if math.isinf(low) and math.isinf(high) and low != high:
        return Interval(math.nan, low, high, n)
    mean = float(known.mean())
    if n == 1:
        return Interval(mean, math.nan, math.nan, n)
    if math.isfinite(low) and math.isfinite(high) and low != high:
        low, high = stats.bootstrap(
            (known,),
            np.mean,
            confidence_level=confidence,
            n_resamples=_NUM_RESAMPLES,
            method="percentile",
            rng=np.random.default_rng(0),
        ).confidence_interval
    return Interval(mean, float(low), float(high), n)


def paired_differences(values: pd.Series, baseline: pd.Series) -> pd.Series:
    """Differences seed by seed, of the seeds that both have; two infinities are a tie.

    >>> paired_differences(pd.Series([1.0, math.inf]), pd.Series([0.5, math.inf])).tolist()
    [0.5, 0.0]
    """
    left, right = values.align(baseline, join="inner")
    ties = np.isinf(left) & (left == right)
    return left.where(~ties, 0.0) - right.where(~ties, 0.0)


def wilcoxon_p(differences: ArrayLike) -> float:
    """Two-sided p of Wilcoxon's signed-rank test, exact also with ties.

    Accuracies are multiples of 1/10000, so tied differences are common, for which SciPy's
    exact method does not hold. Here the distribution of the rank sum is counted over all signs
    of the (middle) ranks. Zeros are left out, as Wilcoxon did; nothing but zeros gives 1.

    >>> wilcoxon_p([0.1, 0.2, 0.3, 0.4, 0.5])
    0.0625
    """
    known = np.asarray(differences, dtype=float)
    known = known[(known != 0) & ~np.isnan(known)]
    ranks = np.rint(2 * stats.rankdata(np.abs(known))).astype(int)  # doubled: whole numbers
    counts = np.ones(1)
    for rank in ranks:  # each rank is counted with a minus or with a plus
        counts = np.pad(counts, (0, rank)) + np.pad(counts, (rank, 0))
    positive = ranks[known > 0].sum()
    tail = counts[: min(positive, ranks.sum() - positive) + 1].sum()
    return float(min(1.0, 2 * tail / counts.sum()))


def smallest_p(n: int) -> float:
    """The least p that Wilcoxon's test can give with n pairs.

    >>> smallest_p(5), smallest_p(10)
    (0.0625, 0.001953125)
    """
    return min(1.0, 2.0 ** (1 - n))


def holm(p_values: pd.Series) -> pd.Series:
    """Holm's correction of a family of p values; NaN are no members of it.

    >>> holm(pd.Series([0.01, 0.04, 0.03])).tolist()
    [0.03, 0.06, 0.06]
    """
    ranked = p_values.dropna().sort_values()
    corrected = (ranked * np.arange(len(ranked), 0, -1)).cummax().clip(upper=1.0)
    return corrected.reindex(p_values.index)


def time_to_target(history: pd.DataFrame, column: str, target: float) -> pd.DataFrame:
    """Epochs, steps and seconds until each seed first reaches a target; a miss is infinity.

    Args:
        history: Rows of one cell.
        column: A loss, which has to fall to the target, or an accuracy, which has to rise to it.
        target: The value to reach.

    Returns:
        Columns epochs, steps, seconds; a row per seed.
    """
    falls = column.endswith("loss")
    reached = history[history[column] <= target if falls else history[column] >= target]
    first = reached.sort_values("epoch").groupby("seed")[["epoch", "step", "seconds"]].first()
    names = {"epoch": "epochs", "step": "steps"}
    times = first.rename(columns=names).astype(float)
    seeds = pd.Index(sorted(history["seed"].unique()), name="seed")
    return times.reindex(seeds, fill_value=math.inf)
