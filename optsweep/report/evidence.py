"""The evidence for a verdict in words: the values compared, what decided, which seeds failed."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from optsweep.report import multiplicity
from optsweep.report.collection import DIVERGED, Collection, Setting
from optsweep.report.findings import HOLDS, MIN_VALUES, REVERSED, UNDECIDED, Finding, Sample
from optsweep.report.language import Text, say, sentence_start, sentences
from optsweep.report.measures import collapsed, describe, has_two_modes
from optsweep.report.outline import Claim
from optsweep.report.statistics import share
from optsweep.report.wording import count, interval, number, short


@dataclass(frozen=True)
class Compared:
    """A claim's finding, and what it was found of; of several readings, of which."""

    claim: Claim
    finding: Finding
    samples: Sequence[Sample] = ()
    settings: Sequence[Setting] = ()
    problem: str = ""
    of_all_readings: Sequence[Setting] = ()
    reading: str = ""  # the one that decides
    left_out: Sequence[str] = ()  # readings under which there is too little to compare
    is_hopeless: bool = False  # see `claims.Judgement`

    @property
    def unit(self) -> str:
        """What its values are of."""
        return _unit(self.claim)

    @property
    def is_known(self) -> bool:
        """Whether every setting has enough values, such as seeds that learned."""
        return all(sample.values.count() >= MIN_VALUES for sample in self.samples)


def evidence(each: Compared, verdict: str, collection: Collection) -> Text:
    """All that a reader needs to check a verdict, in sentences."""
    told = [_values(each), _decision(each, verdict)]
    if each.reading and verdict == HOLDS:
        told.append(say("evidence.holds_under", reading=each.reading))
    elif each.reading and verdict != UNDECIDED:
        told.append(say("evidence.holds_under_none"))
    if each.left_out:
        told.append(say("evidence.left_out", readings=_semicolons(each.left_out)))
    chosen = [
        one.label
        for one, cell in zip(each.settings, each.claim.cells, strict=False)
        if cell.get("best")
    ]
    if chosen:
        told.append(say("evidence.chosen", settings=_semicolons(chosen)))
    for key, told_of in (("collapsed", _collapsed), ("diverged", _diverged)):
        found = [text for one in each.settings if (text := told_of(collection, one))]
        if found:
            told.append(say(f"evidence.{key}", seeds=_semicolons(dict.fromkeys(found))))
    left_out = sum(int(sample.values.isna().sum()) for sample in each.samples)
    if left_out:
        told.append(say("evidence.not_known", values=count(left_out, "value")))
    return sentences(told)


def _unit(claim: Claim) -> str:
    return "run" if claim.is_timed else "seed"


def in_short(claim: Claim, finding: Finding) -> Text:
    """The comparison that decided in a line: its effect, how sure that is, and what would matter.

    Empty if there was nothing to compare.
    """
    estimate, low, high, n = finding.effect
    if not n:
        return Text("")
    sign = "+" if finding.signed else ""
    middle = "evidence.median" if finding.by_median else "evidence.mean"
    return say(
        "evidence.short",
        measure=sentence_start(describe(claim.measure)),
        of=finding.of,
        effect=say(middle, value=short(estimate, sign)),
        span=say("evidence.span", low=short(low, sign), high=short(high, sign)),
        held=(
            say("evidence.margin", margin=f"{claim.options.margin:g}")
            if finding.signed
            else say("evidence.against", reference=short(finding.reference, digits=4))
        ),
        n=count(n, _unit(claim)),
    )


def _values(each: Compared) -> Text:
    claim = each.claim
    means = [say("evidence.value", name=one.name, value=_middle(one)) for one in each.samples]
    (place, *more) = sorted({claim.experiment(cell) for cell in claim.cells})
    key = "evidence.values" if more or place == claim.question else "evidence.values_in"
    measured = sentence_start(describe(claim.measure))
    return say(key, measure=measured, place=place, values=_semicolons(means))


def _semicolons(items: Sequence[str] | dict[str, None]) -> Text:
    first, *others = items
    told = Text(first) if not isinstance(first, Text) else first
    for each in others:
        told = say("join.semicolon", one=told, other=each)
    return told


def _middle(sample: Sample) -> str:
    """Where a sample lies: its mean, or its median if that would be a mean of two kinds."""
    values = sample.values
    return short(values.median() if sample.two_modes else values.mean(), digits=4)


def _collapsed(collection: Collection, setting: Setting) -> str:
    """How many seeds have collapsed, and the mean of the others; empty if all are alike."""
    which = collapsed(collection, setting.cells)
    if not has_two_modes(which):
        return ""
    found = share(which)
    others = collection.seeds_of(setting.cells)["test_accuracy"][~which]
    return say(
        "evidence.share",
        setting=setting.label,
        num=int(which.sum()),
        of=found.n,
        share=interval(*found[1:3], 2),
        others=number(others.mean(), 3),
    )


def _diverged(collection: Collection, setting: Setting) -> str:
    if setting.status not in DIVERGED:
        return ""
    seeds = collection.seeds_of(setting.cells)
    num = int((seeds["status"] != "completed").sum())
    return say("evidence.some_of", setting=setting.label, num=num, of=len(seeds))


def _decision(each: Compared, verdict: str) -> Text:
    finding = each.finding
    estimate, low, high, n = finding.effect
    if not n:
        return say("evidence.nothing")
    sign = "+" if finding.signed else ""
    middle = "evidence.median" if finding.by_median else "evidence.mean"
    held = (
        Text("")
        if finding.signed
        else say("evidence.against", reference=short(finding.reference, digits=4))
    )
    kind = "evidence.prediction_interval" if finding.of_one_run else "evidence.interval"
    span = say(kind, low=short(low, sign), high=short(high, sign)) if n > 1 else Text("")
    p = (
        say("evidence.p_tiny")
        if finding.least_p < 1e-4
        else say("evidence.p", p=short(finding.least_p, digits=2))
    )
    return say(
        "evidence.decided",
        of=finding.of,
        effect=say(middle, value=short(estimate, sign)),
        held=held,
        span=span,
        p=p,
        n=count(n, each.unit),
        why=_why(each, verdict),
    )


def _why(each: Compared, verdict: str) -> str:
    """What else there is to be said of a decision; empty if nothing."""
    finding, margin = each.finding, each.claim.options.margin
    _, low, high, n = finding.effect
    if n < MIN_VALUES:
        return say("evidence.too_few", least=MIN_VALUES)
    if each.is_hopeless:
        return say("evidence.hopeless", seeds=count(multiplicity.FORESEEN, each.unit))
    if verdict == UNDECIDED and finding.least_p <= multiplicity.LEVEL:
        return say("evidence.too_many_looks")
    is_little = min(abs(low), abs(high)) < margin
    if verdict == UNDECIDED and finding.signed and low * high > 0 and is_little:
        side = "above" if low > 0 else "below"
        return say(f"evidence.{side}_but_little", margin=f"{margin:g}")
    if verdict in (HOLDS, REVERSED) and not finding.signed and not each.claim.is_ratio:
        return _other_thresholds(finding)
    return ""


def _other_thresholds(finding: Finding) -> str:
    """Which other thresholds the interval excludes as well, if it excludes the claim's own."""
    low, high = finding.effect.low, finding.effect.high
    if finding.of_one_run or low <= finding.reference <= high or math.isnan(low):
        return ""
    above = finding.reference < low
    end, side = (low, "below") if above else (high, "above")
    return say(f"evidence.thresholds_{side}", end=short(end, digits=4))
