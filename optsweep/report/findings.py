"""What one comparison finds: a p value for each verdict, and the verdict that a level allows.

An effect is held against its margin of practical equivalence, which divides what may be true into
three: the difference is of the claimed sign and matters (holds), of the other sign and matters
(reversed), or too small to matter (negligible). A verdict is given where all values but those of
its own part are excluded; where more than one part remains, the comparison is undecided.
"""

from __future__ import annotations

import functools
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from optsweep.report.language import listing, say
from optsweep.report.statistics import Interval, Location, paired_differences

HOLDS, REVERSED, NEGLIGIBLE = "holds", "reversed", "negligible"
UNDECIDED, NOT_TESTED = "undecided", "not tested here"
VERDICTS = (HOLDS, REVERSED, NEGLIGIBLE, UNDECIDED, NOT_TESTED)
# With fewer values nothing is decided, whatever they are.
MIN_VALUES = 5


def tally(verdicts: Sequence[str]) -> str:
    """How many claims have each verdict, as a sentence has it.

    >>> tally([HOLDS, UNDECIDED, HOLDS])
    '2 hold and 1 stays undecided'
    """
    counts = Counter(verdicts)
    return listing([say(f"tally.{v}", n=counts[v]) for v in VERDICTS if counts[v]])


class Sample(NamedTuple):
    """What a setting has of a measure.

    Attributes:
        name: Of the setting.
        values: One for each seed or repeated run.
        modes: What each seed has become: 0 where it learned, another number where it collapsed;
            None: all are alike.
    """

    name: str
    values: pd.Series
    modes: pd.Series | None = None

    @property
    def two_modes(self) -> bool:
        """Whether some of the seeds whose values are known have collapsed.

        Also where all have: what they end with is a few values and a long tail, and no mean.
        """
        if self.modes is None:
            return False
        return bool(self._modes_of(self.values.index)[self.values.notna().to_numpy()].any())

    @property
    def located(self) -> Location:
        """Where the values lie."""
        return Location.of(self.values, self.two_modes)

    def like(self, value: float) -> Sample:
        """The seeds of that kind whose mean is nearest to one value."""
        if not self.two_modes:
            return self
        values = self.values.dropna()
        groups = values.groupby(self._modes_of(values.index))
        mode = int((groups.mean() - value).abs().idxmin())
        return Sample(self.name, groups.get_group(mode), pd.Series(mode, groups.groups[mode]))

    def less(self, other: Sample, name: str = "") -> Sample:
        """The differences from another setting, seed by seed."""
        values = paired_differences(self.values, other.values)
        modes = None
        if self.modes is not None or other.modes is not None:
            ours, theirs = (each._modes_of(values.index) for each in (self, other))
            modes = pd.Series(ours * (theirs.max(initial=0) + 1) + theirs, values.index)
        return Sample(name or say("of.less", left=self.name, right=other.name), values, modes)

    def _modes_of(self, seeds: pd.Index) -> NDArray[np.int64]:
        if self.modes is None:
            return np.zeros(len(seeds), dtype=np.int64)
        same = self.modes.index.equals(seeds)
        return (self.modes if same else self.modes[seeds]).to_numpy(np.int64)


def repeated(samples: Sequence[Sample], num: int) -> list[Sample]:
    """The samples as if their seeds came again and again until there are `num` of them.

    Of the seeds that all samples have, in the same order, so that they stay pairs.
    """
    common = functools.reduce(pd.Index.intersection, (one.values.index for one in samples))
    if not 0 < len(common) < num:
        return list(samples)
    seeds = pd.Index(np.resize(common.to_numpy(), num))
    return [
        Sample(
            one.name,
            pd.Series(one.values[seeds].to_numpy()),
            None if one.modes is None else pd.Series(one._modes_of(seeds)),
        )
        for one in samples
    ]


@dataclass(frozen=True)
class Finding:
    """The comparison that decides a claim.

    Attributes:
        p: Of each verdict that is possible, the level at which it would just be given.
        effect: What was compared, with its interval of 95 %.
        of: Names the two that were compared, or the one.
        support: How much the effect speaks for the claim.
        reference: What the effect is held against: 0 for a difference, or a threshold.
        signed: Whether the effect is a difference.
        by_median: Whether it is a median, for its values are of two kinds or infinite.
        of_one_run: Whether it asks if a single run could be one of ours: it could, unless it is
            shown that it could not.
    """

    p: Mapping[str, float]
    effect: Interval
    of: str
    support: float = 0.0
    reference: float = 0.0
    signed: bool = False
    by_median: bool = False
    of_one_run: bool = False

    @property
    def least_p(self) -> float:
        """The least level at which a verdict is given."""
        return min(self.p.values(), default=1.0)

    def verdict(self, level: float) -> str:
        """The verdict at a level, such as 0.05."""
        if not self.p:
            return NOT_TESTED
        if self.least_p > level:
            return HOLDS if self.of_one_run else UNDECIDED
        return min(self.p, key=self.p.__getitem__)


def greater(left: Sample, right: Sample, margin: float) -> Finding:
    """Whether left is greater than right by more than the margin."""
    where, effect, of = _difference(left, right)
    p = {HOLDS: where.p_above(margin), REVERSED: where.p_below(-margin)}
    if margin:
        p[NEGLIGIBLE] = _inside(where, margin)
    return Finding(p, effect, of, effect.estimate, signed=True, by_median=where.by_median)


def not_less(left: Sample, right: Sample, margin: float) -> Finding:
    """Whether left is not less than right by more than the margin."""
    where, effect, of = _difference(left, right)
    p = {HOLDS: where.p_above(-margin, or_equal=True), REVERSED: where.p_below(-margin)}
    return Finding(p, effect, of, effect.estimate, signed=True, by_median=where.by_median)


def equivalent(left: Sample, right: Sample, margin: float) -> Finding:
    """Whether left and right differ by less than the margin."""
    where, effect, of = _difference(left, right)
    p = {
        HOLDS: _inside(where, margin),
        REVERSED: min(where.p_above(margin), where.p_below(-margin)),
    }
    return Finding(p, effect, of, -abs(effect.estimate), signed=True, by_median=where.by_median)


def reaches(sample: Sample, value: float) -> Finding:
    """Whether the values are at or above a threshold."""
    where = sample.located
    p = {HOLDS: where.p_above(value, or_equal=True), REVERSED: where.p_below(value)}
    effect = where.interval()
    return Finding(
        p, effect, sample.name, effect.estimate, reference=value, by_median=where.by_median
    )


def not_greater(left: Sample, right: Sample, margin: float) -> Finding:
    """Whether left is not greater than right by more than the margin."""
    found = not_less(right, left, margin)
    mean, low, high, n = found.effect
    effect = Interval(-mean, -high, -low, n)
    return replace(found, effect=effect, of=say("of.less", left=left.name, right=right.name))


def misses(sample: Sample, value: float) -> Finding:
    """Whether the values are below a threshold."""
    found = reaches(sample, value)
    p = {HOLDS: found.p[REVERSED], REVERSED: found.p[HOLDS]}
    return replace(found, p=p, support=-found.support)


def all_hold(findings: Sequence[Finding]) -> Finding:
    """All have to hold; told is the one that decides.

    That all hold needs no correction, for each has to (an intersection-union test); that one of
    k does not, could be found by chance in any of them, and its p value is k times as large.
    """
    if not findings:
        raise ValueError("a claim needs something to compare")
    checked = [
        each if each.effect.n >= MIN_VALUES else replace(each, p=dict.fromkeys(each.p, 1.0))
        for each in findings
    ]
    weakest = max(checked, key=lambda each: (each.p[HOLDS], -each.support))
    p, decides = {HOLDS: weakest.p[HOLDS]}, {HOLDS: weakest}
    for verdict in (REVERSED, NEGLIGIBLE):
        among = [each for each in checked if verdict in each.p]
        if among:
            strongest = min(among, key=lambda each: (each.p[verdict], each.support))
            p[verdict] = min(1.0, len(checked) * strongest.p[verdict])
            decides[verdict] = strongest
    told = decides[min(p, key=p.__getitem__)]
    return replace(told, p=p)


def any_holds(findings: Mapping[str, Finding]) -> Finding:
    """Whether a claim holds under any of its readings.

    It is reversed, or negligible, only if it is so under all of them: that needs no correction,
    and that one of k holds does. Told is the reading that decides.

    Args:
        findings: By the name of the reading.
    """
    of_reading = {
        name: replace(each, of=say("of.reading", of=each.of, name=name))
        for name, each in findings.items()
    }
    # A single run is compatible with a reading unless it is shown that it is not.
    holding = min(of_reading.values(), key=lambda each: each.p.get(HOLDS, 1.0))
    holds = min(1.0, len(findings) * holding.p.get(HOLDS, 1.0))
    contrary = {
        name: min(each.p[REVERSED], each.p.get(NEGLIGIBLE, 1.0))
        for name, each in of_reading.items()
    }
    last = of_reading[max(contrary, key=contrary.__getitem__)]
    verdict = min((v for v in (REVERSED, NEGLIGIBLE) if v in last.p), key=last.p.__getitem__)
    # Where both are as far, told is the reading under which it is not contradicted.
    p = {verdict: max(contrary.values()), HOLDS: holds}
    told = last if p[verdict] <= holds else holding
    return replace(told, p=p)


def _difference(left: Sample, right: Sample) -> tuple[Location, Interval, str]:
    difference = left.less(right)
    where = difference.located
    return where, where.interval(), difference.name


def _inside(where: Location, margin: float) -> float:
    """P value of the contrary of "the effect is inside the margin": two one-sided tests."""
    return max(where.p_above(-margin), where.p_below(margin))
