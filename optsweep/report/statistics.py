"""Numbers over seeds: intervals, paired differences, exact tests, Holm's correction, targets.

Every cell of an experiment trains the same seeds, so two cells are compared seed by seed.
"""

from __future__ import annotations

import functools
import math
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray
from scipy import special, stats

CONFIDENCE = 0.95
# Of a prediction interval, so that a run of the same kind is outside of it at most once in forty:
# the seeds of real cells are skewed, and have outliers, of which an interval of 97.5 % misses more.
PREDICTION_CONFIDENCE = 0.998


class Interval(NamedTuple):
    """An estimate and its interval, from n values; NaN where there is none."""

    estimate: float
    low: float
    high: float
    n: int


@dataclass(frozen=True)
class Location:
    """Where values lie, and how surely above or below a number; NaN are left out.

    By their mean with Student's t, which holds its error rate for the few values of a study
    where a percentile bootstrap of ten covers 90 % and says 95. By their median with order
    statistics, which is exact whatever the distribution, where a mean has no meaning: with two
    modes, or with infinite values (a diverged loss, a target that was missed). Values that are all
    the same have no spread to judge a mean by; how sure they are is that of a median, too.

    Attributes:
        values: Independent of each other: one for each seed, or for each repeated run.
        two_modes: Whether the values are known to be of two kinds, such as seeds of which some
            have collapsed.
    """

    values: NDArray[np.float64]
    two_modes: bool = False

    @classmethod
    def of(cls, values: ArrayLike, two_modes: bool = False) -> Location:
        """The location of the values that are known."""
        known = np.asarray(values, dtype=float)
        return cls(np.sort(known[~np.isnan(known)]), two_modes)

    @functools.cached_property
    def by_median(self) -> bool:
        """Whether the median tells where the values lie, and not the mean."""
        return self.two_modes or bool(np.isinf(self.values).any())

    def interval(self, confidence: float = CONFIDENCE) -> Interval:
        """The estimate and its two-sided interval.

        >>> Location.of([1.0, 1.0, 1.0]).interval()
        Interval(estimate=1.0, low=1.0, high=1.0, n=3)
        """
        n = len(self.values)
        if n == 0:
            return Interval(math.nan, math.nan, math.nan, 0)
        if self.by_median:
            k = _order(n, confidence)
            ends = (self.values[k - 1], self.values[n - k]) if k else (math.nan, math.nan)
            return Interval(_median(self.values), float(ends[0]), float(ends[1]), n)
        mean = float(self.values.mean())
        if n == 1:
            return Interval(mean, math.nan, math.nan, n)
        reach = _t_quantile(n - 1, confidence) * self._error
        return Interval(mean, mean - reach, mean + reach, n)

    def p_above(self, number: float, or_equal: bool = False) -> float:
        """P value of the contrary of "above the number": twice the one-sided one.

        It is at most 0.05 where the interval of 95 % lies above the number. `or_equal` decides
        for values that all are the number itself.
        """
        return self._p(self.values - number, or_equal)

    def p_below(self, number: float) -> float:
        """P value of the contrary of "below the number"."""
        return self._p(number - self.values)

    def _p(self, excess: NDArray[np.float64], or_equal: bool = False) -> float:
        n = len(excess)
        if n < 2:
            return 1.0
        error = self._error
        if self.by_median or error == 0:  # the sign test; a tie speaks against
            above = int((excess >= 0 if or_equal else excess > 0).sum())
            return min(1.0, 2 * float(special.bdtrc(above - 1, n, 0.5))) if above else 1.0
        return min(1.0, 2 * float(special.stdtr(n - 1, -excess.mean() / error)))

    @functools.cached_property
    def _error(self) -> float:
        """The standard error of the mean; 0 where all values are the same but for rounding."""
        if self.by_median:
            return math.nan
        spread = self.values[-1] - self.values[0]  # they are sorted
        if spread <= _ROUNDING * np.abs(self.values).max():
            return 0.0
        return float(self.values.std(ddof=1)) / math.sqrt(len(self.values))


# Of the difference of two numbers that would be the same in exact arithmetic.
_ROUNDING = 1e-9


@functools.cache
def _order(n: int, confidence: float) -> int:
    """Which of n values from either end bounds the interval of their median; 0: there is none.

    Below the k-th lies the median with probability P(X < k) of n fair coins; five values have no
    interval of 95 %.
    """
    return int(stats.binom.ppf((1 - confidence) / 2, n, 0.5))


@functools.cache
def _t_quantile(degrees: int, confidence: float) -> float:
    return float(stats.t.isf((1 - confidence) / 2, degrees))


def mean_interval(values: ArrayLike) -> Interval:
    """The mean of the known values with its interval; the median, if some are infinite."""
    return Location.of(values).interval()


def prediction(
    values: ArrayLike, reported: float, rounding: float = 0.0, is_normal: bool = True
) -> tuple[Interval, float]:
    """Where one more run would lie, and the p value of a single reported one.

    Args:
        values: Of runs that are independent of each other.
        reported: The number of another run.
        rounding: How far the run's number may be from the reported one.
        is_normal: Whether the values are about normal. If not, or if all are the same, only their
            range tells: of n + 1 runs, the last is the lowest or the highest by 2 / (n + 1).

    Returns:
        The mean of the values with Student's prediction interval for one more value (Hahn and
        Meeker, Statistical Intervals, 1991), or their range, and the two-sided p of the reported
        one; NaN where some values are infinite, which have no such interval, unless all are: 0.
    """
    known = Location.of(values).values
    n = len(known)
    if n < 2 or np.isinf(known).any():
        p = 0.0 if n and np.isinf(known).all() else math.nan
        return Interval(_median(known), math.nan, math.nan, n), p
    mean, low, high = (float(each) for each in (known.mean(), known[0], known[-1]))
    if not is_normal or high - low <= _ROUNDING * np.abs(known).max():
        outside = max(low - reported, reported - high) - rounding > _ROUNDING * abs(mean)
        return Interval(mean, low, high, n), min(1.0, 2 / (n + 1)) if outside else 1.0
    spread = float(known.std(ddof=1)) * math.sqrt(1 + 1 / n)
    reach = _t_quantile(n - 1, PREDICTION_CONFIDENCE) * spread
    beyond = max(0.0, abs(reported - mean) - rounding)
    p = 2 * float(special.stdtr(n - 1, -beyond / spread))
    return Interval(mean, mean - reach, mean + reach, n), p


def share(of: ArrayLike) -> Interval:
    """The share of what is true, with Wilson's interval.

    >>> round(share([True, False, False, False]).high, 3)
    0.699
    """
    counted = np.asarray(of, dtype=bool)
    return wilson(int(counted.sum()), len(counted))


def wilson(num: int, n: int) -> Interval:
    """The share of `num` of n, with Wilson's interval."""
    if n == 0:
        return Interval(math.nan, math.nan, math.nan, 0)
    ends = stats.binomtest(num, n).proportion_ci(CONFIDENCE, method="wilson")
    return Interval(num / n, float(ends.low), float(ends.high), n)


def _median(ordered: NDArray[np.float64]) -> float:
    """The median, also of infinite values; NaN between minus and plus infinity."""
    if len(ordered) == 0:
        return math.nan
    low, high = (float(ordered[(len(ordered) - shift) // 2]) for shift in (1, 0))
    return low if low == high else (low + high) / 2


def paired_differences(values: pd.Series, baseline: pd.Series) -> pd.Series:
    """Differences seed by seed, of the seeds that both have; two infinities are a tie.

    >>> paired_differences(pd.Series([1.0, math.inf]), pd.Series([0.5, math.inf])).tolist()
    [0.5, 0.0]
    """
    left, right = values, baseline
    if not left.index.equals(right.index):
        left, right = left.align(right, join="inner")
    ones, others = left.to_numpy(float), right.to_numpy(float)
    with np.errstate(invalid="ignore"):  # infinity less infinity, where it is no tie: unknown
        ties = np.isinf(ones) & (ones == others)
        return pd.Series(np.where(ties, 0.0, ones - others), left.index)


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
