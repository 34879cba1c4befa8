"""The comparisons that rules are made of: each gives a verdict with the effect it rests on."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace

import pandas as pd

from optsweep.report.statistics import (
    CONFIDENCE,
    Interval,
    bootstrap_interval,
    paired_differences,
)
from optsweep.report.wording import listing

HOLDS, CONTRADICTED, UNDECIDED, MISSING = "holds", "contradicted", "undecided", "missing"
VERDICTS = (HOLDS, CONTRADICTED, UNDECIDED, MISSING)
_VERBS = {
    HOLDS: ("holds", "hold"),
    CONTRADICTED: ("is contradicted", "are contradicted"),
    UNDECIDED: ("stays undecided", "stay undecided"),
    MISSING: ("lacks its runs", "lack their runs"),
}
# With fewer, the bootstrap only repeats the values; the study promises five seeds a cell.
MIN_VALUES = 5


@dataclass(frozen=True)
class Finding:
    """A verdict with the comparison that decided it.

    Attributes:
        verdict: One of `VERDICTS`.
        effect: What was compared, with its interval.
        of: Names the two that were compared, or the one.
        support: How much the effect speaks for the claim.
        reference: What the effect is held against: 0 for a difference, or a threshold.
        signed: Whether the effect is a difference.
    """

    verdict: str
    effect: Interval
    of: str
    support: float = 0.0
    reference: float = 0.0
    signed: bool = False


@dataclass(frozen=True)
class Options:
    """Numbers of a claim: practical equivalence, how far "far" is, a threshold, a tolerance."""

    margin: float = 0.0
    far: float = 0.0
    value: float = 0.0
    tolerance: float = 0.0
    ties: bool = False


Item = tuple[str, pd.Series]  # the name of a setting and its values


def is_greater(left: Item, right: Item, options: Options, confidence: float) -> Finding:
    """Whether left is greater than right, by more than `far`, and by enough to matter."""
    effect, of = _difference(left, right, confidence)
    holds = effect.low > options.far and effect.high >= options.margin
    contradicted = effect.high < max(options.margin, options.far)
    return Finding(side(holds, contradicted), effect, of, effect.mean, signed=True)


def is_not_less(left: Item, right: Item, options: Options, confidence: float) -> Finding:
    """Whether left is not less than right by more than the margin."""
    effect, of = _difference(left, right, confidence)
    verdict = side(effect.low > -options.margin, effect.high < -options.margin)
    return Finding(verdict, effect, of, effect.mean, signed=True)


def is_inside(left: Item, right: Item, margin: float, confidence: float) -> Finding:
    """Whether left and right differ by less than the margin."""
    effect, of = _difference(left, right, confidence)
    outside = effect.low > margin or effect.high < -margin
    verdict = side(-margin < effect.low and effect.high < margin, outside)
    return Finding(verdict, effect, of, -abs(effect.mean), signed=True)


def reaches(item: Item, value: float, confidence: float) -> Finding:
    """Whether the values are at or above a threshold."""
    effect = bootstrap_interval(item[1], confidence)
    verdict = side(effect.low >= value, effect.high < value)
    return Finding(verdict, effect, item[0], effect.mean, reference=value)


def _difference(left: Item, right: Item, confidence: float) -> tuple[Interval, str]:
    differences = paired_differences(left[1], right[1])
    return bootstrap_interval(differences, confidence), f"{left[0]} − {right[0]}"


def all_hold(findings: Sequence[Finding]) -> Finding:
    """All have to hold; told is the one that decides, which supports the claim least."""
    checked = [
        each if each.effect.n >= MIN_VALUES else replace(each, verdict=UNDECIDED)
        for each in findings
    ]
    for verdict in (CONTRADICTED, UNDECIDED, HOLDS):
        among = [each for each in checked if each.verdict == verdict]
        if among:
            return min(among, key=lambda each: each.support)
    raise ValueError("a claim needs something to compare")


def negated(finding: Finding) -> Finding:
    """The contrary finding."""
    other = {HOLDS: CONTRADICTED, CONTRADICTED: HOLDS}.get(finding.verdict, UNDECIDED)
    return replace(finding, verdict=other, support=-finding.support)


def side(holds: bool, contradicted: bool) -> str:
    """The verdict that one of two conditions gives."""
    return HOLDS if holds else CONTRADICTED if contradicted else UNDECIDED


def tally(verdicts: Sequence[str]) -> str:
    """How many claims have each verdict, as a sentence has it.

    >>> tally([HOLDS, UNDECIDED, HOLDS])
    '2 hold and 1 stays undecided'
    """
    counts = Counter(verdicts)
    return listing([f"{counts[v]} {_VERBS[v][counts[v] > 1]}" for v in VERDICTS if counts[v]])


def shared_confidence(comparisons: int) -> float:
    """Confidence of each of several intervals, so that all are right together."""
    return 1 - (1 - CONFIDENCE) / max(1, comparisons)
