"""The rules that decide a claim: what holds, what is contradicted, what stays undecided.

Every rule looks at 95 % bootstrap intervals of paired differences. `margin` is the margin of
practical equivalence: a difference inside it does not matter. Rules that make k comparisons
use intervals of confidence 1 - 0.05 / k, so that all of them are right together.
"""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import pandas as pd
from scipy import stats

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
# With fewer, the bootstrap only repeats the values.
MIN_VALUES = 5


@dataclass(frozen=True)
class Options:
    """Numbers of a claim: practical equivalence, how far "far" is, a threshold, a tolerance."""

    margin: float = 0.0
    far: float = 0.0
    value: float = 0.0
    tolerance: float = 0.0
    ties: bool = False


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


Item = tuple[str, pd.Series]  # the name of a setting and its values
Samples = dict[str, pd.Series]  # name of a setting -> a value per seed, in the claim's order
Rule = Callable[[Samples, Options], Finding]


def tally(verdicts: Sequence[str]) -> str:
    """How many claims have each verdict, as a sentence has it.

    >>> tally([HOLDS, UNDECIDED, HOLDS])
    '2 hold and 1 stays undecided'
    """
    counts = Counter(verdicts)
    return listing([f"{counts[v]} {_VERBS[v][counts[v] > 1]}" for v in VERDICTS if counts[v]])


def greater(samples: Samples, options: Options) -> Finding:
    """The first is greater than the second, by more than `far` where the claim says "far".

    Holds if the whole interval of the difference is above `far` (0) and reaches the margin;
    contradicted if all of it is below the margin, or below `far`.
    """
    return _all_hold([_is_greater(*_pair(samples), options, CONFIDENCE)])


def less(samples: Samples, options: Options) -> Finding:
    """The first is less than the second: `greater` with the signs changed."""
    return _mirrored(greater, samples, options)


def similar(samples: Samples, options: Options) -> Finding:
    """All differ by less than the margin, pair by pair.

    Holds if every pair's interval is inside the margin, contradicted if one is outside of it.
    """
    pairs = list(itertools.combinations(samples.items(), 2))
    return _all_hold(
        [_is_inside(*pair, options.margin, _shared_confidence(len(pairs))) for pair in pairs]
    )


def highest(samples: Samples, options: Options) -> Finding:
    """The first is greater than every other: `greater` for each of them.

    With `ties` it may be as good as others: holds if none is better by more than the margin.
    """
    first, *rivals = samples.items()
    rule = _is_not_less if options.ties else _is_greater
    return _all_hold(
        [rule(first, rival, options, _shared_confidence(len(rivals))) for rival in rivals]
    )


def lowest(samples: Samples, options: Options) -> Finding:
    """The first is less than every other: `highest` with the signs changed."""
    return _mirrored(highest, samples, options)


def rising(samples: Samples, options: Options) -> Finding:
    """Each is greater than the one before it: `greater` for each step."""
    steps = list(itertools.pairwise(samples.items()))
    return _all_hold([_is_greater(b, a, options, _shared_confidence(len(steps))) for a, b in steps])


def falling(samples: Samples, options: Options) -> Finding:
    """Each is less than the one before it: `rising` with the signs changed."""
    return _mirrored(rising, samples, options)


def gains_shrink(samples: Samples, options: Options) -> Finding:
    """What is saved from each to the next is more than what is saved after that.

    `greater` for each saving and the one that follows it.
    """
    savings = {
        f"{a} → {b}": paired_differences(samples[a], samples[b])
        for a, b in itertools.pairwise(samples)
    }
    return falling(savings, options)


def gains_more(samples: Samples, options: Options) -> Finding:
    """Settings gain more over their baseline than their counterparts do over another one.

    The first half of the settings is a baseline and others, and so is the second half, in the
    same order. A half's gain is, for each seed, the median over the others of what they have
    beyond the baseline, so that one that fails does not decide for all. `greater` for the first
    half's gain and the second's.
    """
    names = list(samples)
    gains = {}
    for baseline, *others in (names[: len(names) // 2], names[len(names) // 2 :]):
        each = [paired_differences(samples[other], samples[baseline]) for other in others]
        gains[f"median gain over {baseline}"] = pd.concat(each, axis=1).median(axis=1, skipna=False)
    return greater(gains, options)


def at_least(samples: Samples, options: Options) -> Finding:
    """The one setting reaches `value`.

    Holds if its whole interval is at or above the value, contradicted if all of it is below.
    """
    return _all_hold(
        [
            _reaches(item, options.value, _shared_confidence(len(samples)))
            for item in samples.items()
        ]
    )


def at_most(samples: Samples, options: Options) -> Finding:
    """The one setting is not above `value`: `at_least` with the signs changed."""
    return _mirrored(at_least, samples, Options(value=-options.value))


def near(samples: Samples, options: Options) -> Finding:
    """The one setting is within `tolerance` of `value`.

    Holds if its whole interval is, contradicted if none of the interval is.
    """
    (item,) = samples.items()
    fixed = (f"{options.value:g}", pd.Series(options.value, index=item[1].index))
    return _all_hold([_is_inside(item, fixed, options.tolerance, CONFIDENCE)])


def times(samples: Samples, options: Options) -> Finding:
    """The first is at least `value` times the second: `at_least` for the ratio of each pair."""
    (a, left), (b, right) = _pair(samples)
    return at_least({f"{a} : {b}": left / right}, options)


def only(samples: Samples, options: Options) -> Finding:
    """The first is greater than the second, the baseline, and no other is.

    Holds if `greater` holds for the first and is contradicted for all others; contradicted if
    it is contradicted for the first or holds for another.
    """
    first, baseline, *others = samples.items()
    confidence = _shared_confidence(1 + len(others))
    own = _is_greater(first, baseline, options, confidence)
    rest = [_negated(_is_greater(other, baseline, options, confidence)) for other in others]
    return _all_hold([own, *rest])


def only_less(samples: Samples, options: Options) -> Finding:
    """The first is less than the baseline, and no other is: `only` with the signs changed."""
    return _mirrored(only, samples, options)


def only_at_least(samples: Samples, options: Options) -> Finding:
    """The first reaches `value`, and no other does."""
    first, *others = samples.items()
    confidence = _shared_confidence(1 + len(others))
    rest = [_negated(_reaches(other, options.value, confidence)) for other in others]
    return _all_hold([_reaches(first, options.value, confidence), *rest])


def fails(samples: Samples, options: Options) -> Finding:
    """Most seeds diverge or end at or below `value`.

    The effect is the share of such seeds, with Wilson's interval; holds if all of it is above
    one half, contradicted if all of it is below.
    """
    ((name, values),) = samples.items()
    failed = int((values <= options.value).sum())
    ends = stats.binomtest(failed, len(values)).proportion_ci(CONFIDENCE, method="wilson")
    share = Interval(failed / len(values), float(ends.low), float(ends.high), len(values))
    verdict = _side(share.low > 0.5, share.high < 0.5)
    return _all_hold([Finding(verdict, share, f"share of failed seeds, {name}", reference=0.5)])


def identical(samples: Samples, options: Options) -> Finding:
    """Both are equal to the last digit, seed by seed; contradicted if one seed differs."""
    (a, left), (b, right) = _pair(samples)
    differences = paired_differences(left, right)
    same = bool((differences == 0).all())
    verdict = _side(same, not same)
    return _all_hold([Finding(verdict, bootstrap_interval(differences), f"{a} − {b}", signed=True)])


RULES: dict[str, Rule] = {
    rule.__name__: rule
    for rule in (
        *(greater, less, similar, highest, lowest, rising, falling, gains_shrink, gains_more),
        *(at_least, at_most, near, times, only, only_less, only_at_least, fails, identical),
    )
}


def _mirrored(rule: Rule, samples: Samples, options: Options) -> Finding:
    """What `rule` finds of the negated values, told in the original ones."""
    found = rule({name: -values for name, values in samples.items()}, options)
    mean, low, high, n = found.effect
    return replace(found, effect=Interval(-mean, -high, -low, n), reference=-found.reference)


def _pair(samples: Samples) -> tuple[Item, Item]:
    left, right = samples.items()
    return left, right


def _is_greater(left: Item, right: Item, options: Options, confidence: float) -> Finding:
    """Whether left is greater than right, by more than `far`, and by enough to matter."""
    effect, of = _difference(left, right, confidence)
    holds = effect.low > options.far and effect.high >= options.margin
    contradicted = effect.high < max(options.margin, options.far)
    return Finding(_side(holds, contradicted), effect, of, effect.mean, signed=True)


def _is_not_less(left: Item, right: Item, options: Options, confidence: float) -> Finding:
    """Whether left is not less than right by more than the margin."""
    effect, of = _difference(left, right, confidence)
    verdict = _side(effect.low > -options.margin, effect.high < -options.margin)
    return Finding(verdict, effect, of, effect.mean, signed=True)


def _is_inside(left: Item, right: Item, margin: float, confidence: float) -> Finding:
    """Whether left and right differ by less than the margin."""
    effect, of = _difference(left, right, confidence)
    outside = effect.low > margin or effect.high < -margin
    verdict = _side(-margin < effect.low and effect.high < margin, outside)
    return Finding(verdict, effect, of, -abs(effect.mean), signed=True)


def _reaches(item: Item, value: float, confidence: float) -> Finding:
    """Whether the values are at or above a threshold."""
    effect = bootstrap_interval(item[1], confidence)
    verdict = _side(effect.low >= value, effect.high < value)
    return Finding(verdict, effect, item[0], effect.mean, reference=value)


def _difference(left: Item, right: Item, confidence: float) -> tuple[Interval, str]:
    differences = paired_differences(left[1], right[1])
    return bootstrap_interval(differences, confidence), f"{left[0]} − {right[0]}"


def _all_hold(findings: Sequence[Finding]) -> Finding:
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


def _negated(finding: Finding) -> Finding:
    """The contrary finding."""
    other = {HOLDS: CONTRADICTED, CONTRADICTED: HOLDS}.get(finding.verdict, UNDECIDED)
    return replace(finding, verdict=other, support=-finding.support)


def _side(holds: bool, contradicted: bool) -> str:
    """The verdict that one of two conditions gives."""
    return HOLDS if holds else CONTRADICTED if contradicted else UNDECIDED


def _shared_confidence(comparisons: int) -> float:
    """Confidence of each of several intervals, so that all are right together."""
    return 1 - (1 - CONFIDENCE) / max(1, comparisons)
