"""The rules that decide a claim.

Each compares the samples of a claim, seed by seed where there are two, and finds a p value for
each verdict; `findings` has what a single comparison finds. `margin` is the margin of practical
equivalence: a difference inside it does not matter.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd
from scipy import stats

from optsweep.report import findings
from optsweep.report.findings import HOLDS, REVERSED, Finding, Sample, all_hold
from optsweep.report.language import Text, say
from optsweep.report.statistics import (
    Interval,
    mean_interval,
    paired_differences,
    prediction,
    share,
)


@dataclass(frozen=True)
class Options:
    """Numbers of a claim: practical equivalence, a threshold, how a figure may be rounded."""

    margin: float = 0.0
    value: float = 0.0
    rounding: float = 0.0
    ties: bool = False


Samples = Sequence[Sample]  # in the claim's order
Rule = Callable[[Samples, Options], Finding]


def greater(samples: Samples, options: Options) -> Finding:
    """The first is greater than the second, by more than the margin.

    Reversed if it is less by more than the margin, negligible if they differ by less.
    """
    left, right = samples
    return all_hold([findings.greater(left, right, options.margin)])


def less(samples: Samples, options: Options) -> Finding:
    """The first is less than the second: `greater` with the signs changed."""
    return _mirrored(greater, samples, options)


def similar(samples: Samples, options: Options) -> Finding:
    """All differ by less than the margin, pair by pair; reversed if one pair differs by more."""
    pairs = itertools.combinations(samples, 2)
    return all_hold([findings.equivalent(*pair, options.margin) for pair in pairs])


def highest(samples: Samples, options: Options) -> Finding:
    """The first is greater than every other: `greater` for each of them.

    With `ties` it may be as good as others: holds if none is better by more than the margin.
    """
    first, *rivals = samples
    compare = findings.not_less if options.ties else findings.greater
    return all_hold([compare(first, rival, options.margin) for rival in rivals])


def lowest(samples: Samples, options: Options) -> Finding:
    """The first is less than every other: `highest` with the signs changed."""
    return _mirrored(highest, samples, options)


def rising(samples: Samples, options: Options) -> Finding:
    """Each is greater than the one before it: `greater` for each step."""
    steps = itertools.pairwise(samples)
    return all_hold([findings.greater(b, a, options.margin) for a, b in steps])


def falling(samples: Samples, options: Options) -> Finding:
    """Each is less than the one before it: `rising` with the signs changed."""
    return _mirrored(rising, samples, options)


def gains_shrink(samples: Samples, options: Options) -> Finding:
    """What is saved from each to the next is more than what is saved after that.

    `greater` for each saving and the one that follows it.
    """
    savings = [a.less(b, f"{a.name} → {b.name}") for a, b in itertools.pairwise(samples)]
    return falling(savings, options)


def gains_more(samples: Samples, options: Options) -> Finding:
    """Settings gain more over their baseline than their counterparts do over another one.

    The first half of the settings is a baseline and others, and so is the second half, in the
    same order. A half's gain is, for each seed, the median over the others of what they have
    beyond the baseline, so that one that fails does not decide for all. `greater` for the first
    half's gain and the second's.
    """
    half = len(samples) // 2
    gains = []
    for baseline, *others in (samples[:half], samples[half:]):
        each = [other.less(baseline) for other in others]
        gain = pd.concat([one.values for one in each], axis=1).median(axis=1, skipna=False)
        modes = None
        if all(one.modes is not None for one in each):  # what the seed is for most of them
            modes = pd.concat([one.modes for one in each], axis=1).median(axis=1).round()
        gains.append(Sample(say("of.gain", name=baseline.name), gain, modes))
    return greater(gains, options)


def at_least(samples: Samples, options: Options) -> Finding:
    """Each setting reaches `value`; reversed if one is below."""
    return all_hold([findings.reaches(one, options.value) for one in samples])


def at_most(samples: Samples, options: Options) -> Finding:
    """No setting is above `value`: `at_least` with the signs changed."""
    return _mirrored(at_least, samples, replace(options, value=-options.value))


def near(samples: Samples, options: Options) -> Finding:
    """A single reported run could be one of ours.

    Reversed if the reported `value`, give or take its `rounding`, lies outside of the 99.8 %
    prediction interval for one more run, and holds else: it is compatible with the runs, which
    is not to say that it is their mean. Where some seeds have collapsed and others have not, it
    is held against those of the two kinds whose mean is nearer to it; those that collapsed tell
    only by the range in which they end.
    """
    (one,) = samples
    alike = one.like(options.value)
    effect, p = prediction(alike.values, options.value, options.rounding, not alike.two_modes)
    known = effect.n >= findings.MIN_VALUES and not math.isnan(p)
    return Finding(
        {REVERSED: p if known else 1.0},
        effect,
        say("of.one_more_run", name=one.name),
        reference=options.value,
        of_one_run=known,
    )


def times(samples: Samples, options: Options) -> Finding:
    """The first is at least `value` times the second: `at_least` for the ratio of each pair."""
    return of_ratios(_exceeds, samples, options)


def _exceeds(samples: Samples, options: Options) -> Finding:
    left, right = samples
    return at_least([left.less(right)], options)


def of_ratios(rule: Rule, samples: Samples, options: Options) -> Finding:
    """What a rule finds of logarithms, told as ratios.

    A ratio and its inverse are as far from 1, and a margin of 0.1 is a tenth of the whole.
    """
    with np.errstate(divide="ignore"):  # no seconds at all: a target that is reached untrained
        logarithms = [one._replace(values=np.log(one.values)) for one in samples]
        value = float(np.log(options.value))
    found = rule(logarithms, replace(options, margin=math.log1p(options.margin), value=value))
    estimate, low, high = (math.exp(end) for end in found.effect[:3])
    return replace(
        found,
        effect=Interval(estimate, low, high, found.effect.n),
        of=_as_ratio(found.of),
        reference=math.exp(found.reference),
        signed=False,
    )


def _as_ratio(of: str) -> str:
    """What names a difference, for the ratio that it is the logarithm of."""
    is_difference = isinstance(of, Text) and of.key == "of.less"
    return say("of.ratio", **of.values) if is_difference else of  # type: ignore[attr-defined]


def only(samples: Samples, options: Options) -> Finding:
    """The first is greater than the second, the baseline, and no other is."""
    first, baseline, *others = samples
    rest = [findings.not_greater(other, baseline, options.margin) for other in others]
    return all_hold([findings.greater(first, baseline, options.margin), *rest])


def only_less(samples: Samples, options: Options) -> Finding:
    """The first is less than the baseline, and no other is: `only` with the signs changed."""
    return _mirrored(only, samples, options)


def only_at_least(samples: Samples, options: Options) -> Finding:
    """The first reaches `value`, and no other does."""
    first, *others = samples
    rest = [findings.misses(other, options.value) for other in others]
    return all_hold([findings.reaches(first, options.value), *rest])


def fails(samples: Samples, options: Options) -> Finding:
    """Most seeds diverge or end at or below `value`.

    The effect is the share of such seeds, with Wilson's interval; the exact binomial test holds
    it against one half.
    """
    (one,) = samples
    return _held_by_most(one.values <= options.value, say("of.failed", name=one.name))


def mostly(samples: Samples, options: Options) -> Finding:
    """Most seeds reach `value`.

    Decided as `fails` is: by the share of such seeds, with Wilson's interval, against one half.
    """
    (one,) = samples
    return _held_by_most(one.values >= options.value, say("of.such", name=one.name))


def _held_by_most(which: pd.Series, told: str) -> Finding:
    effect, num_true = share(which), int(which.sum())
    above, below = (
        min(1.0, 2 * float(stats.binomtest(num_true, len(which), alternative=side).pvalue))
        if len(which)
        else 1.0
        for side in ("greater", "less")
    )
    return all_hold([Finding({HOLDS: above, REVERSED: below}, effect, told, reference=0.5)])


def identical(samples: Samples, options: Options) -> Finding:
    """Both are equal to the last digit, seed by seed; reversed if one seed differs."""
    left, right = samples
    differences = paired_differences(left.values, right.values)
    same = bool((differences == 0).all())
    p = {HOLDS: float(not same), REVERSED: float(same)}
    of = say("of.less", left=left.name, right=right.name)
    return all_hold([Finding(p, mean_interval(differences), of, signed=True)])


RULES: dict[str, Rule] = {
    rule.__name__: rule
    for rule in (
        *(greater, less, similar, highest, lowest, rising, falling, gains_shrink, gains_more),
        *(at_least, at_most, near, times, only, only_less, only_at_least, fails, mostly, identical),
    )
}


def _mirrored(rule: Rule, samples: Samples, options: Options) -> Finding:
    """What `rule` finds of the negated values, told in the original ones."""
    found = rule([one._replace(values=-one.values) for one in samples], options)
    mean, low, high, n = found.effect
    return replace(found, effect=Interval(-mean, -high, -low, n), reference=-found.reference)
