"""What the runs say of a claim: the values it compares, the rule's finding, the evidence in words.

Nothing here is a verdict: `rules` decides by the numbers alone.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import pandas as pd

from optsweep.config.checks import InputError
from optsweep.report import findings, grids, loops, multiplicity, settings, timing
from optsweep.report.collection import DIVERGED, Collection, Setting
from optsweep.report.findings import (
    HOLDS,
    MIN_VALUES,
    REVERSED,
    UNDECIDED,
    Finding,
    Sample,
)
from optsweep.report.measures import collapsed, describe, has_two_modes, sample_of
from optsweep.report.outline import Claim
from optsweep.report.rules import RULES, of_ratios
from optsweep.report.statistics import Interval, share
from optsweep.report.wording import count, interval, number, short

# Measures of several settings at once, such as a fit over all batch sizes.
_OF_MANY: dict[str, Callable[..., pd.Series]] = {
    "fixed_share": timing.fixed_share,
    "interaction": grids.interaction,
    "loop_ratio": loops.loop_ratio,
}
# Of these, what says nothing of the settings themselves.
_OF_NONE = ("loop_ratio",)
# What a cell of a claim says beside its settings: where it is, and that the best is meant.
_DIRECTIONS = ("in", "best")
_NOTHING = Interval(float("nan"), float("nan"), float("nan"), 0)


@dataclass(frozen=True)
class Judgement:
    """A claim with its verdict, the comparison that decided it, and the evidence in words.

    Attributes:
        claim: What is claimed.
        finding: The comparison that decided.
        evidence: In words.
        verdict: One of `findings.VERDICTS`, together with the question's other claims.
        settings: All that were compared, under whatever reading.
    """

    claim: Claim
    finding: Finding
    evidence: str
    verdict: str
    settings: Sequence[Setting] = ()


@dataclass(frozen=True)
class _Comparison:
    """A claim's finding, and what it was found of; of several readings, of which."""

    claim: Claim
    finding: Finding
    samples: Sequence[Sample] = ()
    settings: Sequence[Setting] = ()
    problem: str = ""
    of_all_readings: Sequence[Setting] = ()
    reading: str = ""  # the one that decides
    left_out: Sequence[str] = ()  # readings under which there is too little to compare

    @property
    def is_known(self) -> bool:
        """Whether every setting has enough values, such as seeds that learned."""
        return all(sample.values.count() >= MIN_VALUES for sample in self.samples)


def judge(claims: Sequence[Claim], collection: Collection) -> list[Judgement]:
    """Decide claims, those of a question together; one that cannot be tested says why."""
    compared = [_compare(claim, collection) for claim in claims]
    verdict_of: dict[str, str] = {}
    for question in dict.fromkeys(claim.question for claim in claims):
        own = [each for each in compared if each.claim.question == question]
        found = multiplicity.verdicts([each.finding for each in own])
        verdict_of |= {each.claim.id: verdict for each, verdict in zip(own, found, strict=True)}
    return [_judgement(each, verdict_of[each.claim.id], collection) for each in compared]


def _compare(claim: Claim, collection: Collection) -> _Comparison:
    if claim.not_tested:
        return _Comparison(claim, Finding({}, _NOTHING, ""), problem=claim.not_tested)
    if claim.readings:
        return _compare_readings(claim, collection)
    try:
        samples, compared = _samples(claim, collection)
    except InputError as error:
        return _Comparison(claim, Finding({}, _NOTHING, ""), problem=str(error))
    return _Comparison(claim, decide(claim, samples), samples, compared)


def decide(claim: Claim, samples: Sequence[Sample]) -> Finding:
    """What the claim's rule finds of the values that it compares."""
    rule = RULES[claim.kind]
    if claim.is_ratio:
        return of_ratios(rule, samples, claim.options)
    return rule(samples, claim.options)


def _compare_readings(claim: Claim, collection: Collection) -> _Comparison:
    """A claim under all of its readings; told are the settings of the reading that decides.

    A reading under which a setting has too few values can neither confirm nor contradict, and is
    left out as long as another has enough.
    """
    found = {name: _compare(read, collection) for name, read in claim.read().items()}
    for each in found.values():
        if each.problem:
            return replace(each, claim=claim)
    known = {name: each for name, each in found.items() if each.is_known} or found
    decided = findings.any_holds({name: each.finding for name, each in known.items()})
    reading = next(name for name in known if decided.of.endswith(f"({name})"))
    left_out = [name for name in found if name not in known]
    compared = {one.cells: one for each in found.values() for one in each.settings}
    return replace(
        found[reading],
        finding=decided,
        reading=reading,
        left_out=left_out,
        of_all_readings=[*compared.values()],
    )


def _judgement(each: _Comparison, verdict: str, collection: Collection) -> Judgement:
    evidence = each.problem or _evidence(each, verdict, collection)
    compared = each.of_all_readings or each.settings
    return Judgement(each.claim, each.finding, evidence, verdict, compared)


def claims_table(judgements: Sequence[Judgement]) -> pd.DataFrame:
    """A row per claim: what it says, the effect that decided it, the verdict and the evidence."""
    rows = [
        {
            "id": each.claim.id,
            "question": each.claim.question,
            "claim": each.claim.claim,
            "reported": each.claim.reported,
            **dict(zip(("effect", "low", "high", "n"), each.finding.effect, strict=True)),
            "margin": each.claim.options.margin,
            "p": each.finding.least_p if each.finding.p else float("nan"),
            "verdict": each.verdict,
            "evidence": each.evidence,
        }
        for each in judgements
    ]
    return pd.DataFrame(rows)


def _samples(claim: Claim, collection: Collection) -> tuple[list[Sample], list[Setting]]:
    """The values that are compared, and their settings.

    Raises:
        InputError: If a setting is not there or not trained.
    """
    samples: list[Sample] = []
    compared: list[Setting] = []
    name = claim.measure["name"]
    for cell in claim.cells:
        found = _find(claim, collection, cell)
        if cell.get("best"):
            found = [one for one in [grids.best_of(collection, found)] if one]
        if name not in _OF_NONE:
            compared += found
        if name in _OF_MANY:
            options = {key: value for key, value in claim.measure.items() if key != "name"}
            samples.append(Sample(_name(claim, cell), _OF_MANY[name](collection, found, **options)))
        elif len(found) != 1:
            raise InputError(f"{_name(claim, cell)}: {len(found)} settings of the experiment fit")
        else:
            samples.append(_sample(claim, collection, _name(claim, cell), found[0]))
    if claim.others is not None:
        for one in _find(claim, collection, claim.others):
            if one not in compared:
                compared.append(one)
                samples.append(_sample(claim, collection, one.label, one))
    return samples, compared


def _sample(claim: Claim, collection: Collection, name: str, setting: Setting) -> Sample:
    return sample_of(collection, setting.cells, claim.measure, name)


def _find(claim: Claim, collection: Collection, cell: Mapping[str, Any]) -> list[Setting]:
    experiment = claim.experiment(cell)
    found = collection.find(experiment, _where(cell))
    if not found:
        raise InputError(f"{_name(claim, cell)}: no such cell in {experiment}")
    for setting in found:
        if not setting.is_trained:
            raise InputError(f"{setting.label} in {experiment}: {setting.status}, {setting.reason}")
    return found


def _where(cell: Mapping[str, Any]) -> settings.Settings:
    return {key: value for key, value in cell.items() if key not in _DIRECTIONS}


def _name(claim: Claim, cell: Mapping[str, Any]) -> str:
    where = _where(cell)
    experiment = claim.experiment(cell)
    named = settings.label(where, list(where))
    if not named or len({claim.experiment(each) for each in claim.cells}) == 1:
        return named or experiment
    return named if experiment == claim.question else f"{named} ({experiment})"


def _evidence(each: _Comparison, verdict: str, collection: Collection) -> str:
    claim = each.claim
    means = [f"{sample.name} = {_told(sample)}" for sample in each.samples]
    measured = describe(claim.measure)
    (place, *more) = sorted({claim.experiment(cell) for cell in claim.cells})
    place = "" if more or place == claim.question else f" in {place}"
    told = f"{measured[0].upper()}{measured[1:]}{place}: {'; '.join(means)}."
    sentences = [told, _decision(each, verdict)]
    if each.reading and verdict == HOLDS:
        sentences.append(f"It holds under the reading “{each.reading}”.")
    elif each.reading and verdict != UNDECIDED:
        sentences.append("It holds under none of its readings.")
    if each.left_out:
        sentences.append(f"With too few seeds to compare: {'; '.join(each.left_out)}.")
    chosen = [
        one.label for one, cell in zip(each.settings, claim.cells, strict=False) if cell.get("best")
    ]
    if chosen:
        sentences.append("Chosen on validation examples: " + "; ".join(chosen) + ".")
    for title, told_of in (("Collapsed seeds", _collapsed), ("Diverged seeds", _diverged)):
        found = [text for one in each.settings if (text := told_of(collection, one))]
        if found:
            sentences.append(f"{title}: " + "; ".join(dict.fromkeys(found)) + ".")
    left_out = sum(int(sample.values.isna().sum()) for sample in each.samples)
    if left_out:
        sentences.append(f"{count(left_out, 'value')} not known and left out.")
    return " ".join(sentences)


def _told(sample: Sample) -> str:
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
    return (
        f"{setting.label} {int(which.sum())} of {found.n} (share {interval(*found[1:3], 2)}), the "
        f"others reach {number(others.mean(), 3)}"
    )


def _diverged(collection: Collection, setting: Setting) -> str:
    if setting.status not in DIVERGED:
        return ""
    seeds = collection.seeds_of(setting.cells)
    return f"{setting.label} {int((seeds['status'] != 'completed').sum())} of {len(seeds)}"


def _decision(each: _Comparison, verdict: str) -> str:
    finding, margin = each.finding, each.claim.options.margin
    unit = "run" if each.claim.is_timed else "seed"
    estimate, low, high, n = finding.effect
    if not n:
        return "Nothing to compare."
    sign = "+" if finding.signed else ""
    kind = "prediction interval" if finding.of_one_run else "interval"
    span = f", {kind} {short(low, sign)} … {short(high, sign)}" if n > 1 else ""
    held = "" if finding.signed else f", against {short(finding.reference, digits=4)}"
    middle = "median " if finding.by_median else ""
    p = ", p < 0.0001" if finding.least_p < 1e-4 else f", p = {short(finding.least_p, digits=2)}"
    told = f"Decided by {finding.of}: {middle}{short(estimate, sign)}{held}{span}{p}"
    told += f", n = {count(n, unit)}"
    if n < MIN_VALUES:
        return f"{told}; fewer than {MIN_VALUES} decide nothing."
    if verdict == UNDECIDED and finding.least_p <= multiplicity.LEVEL:
        told += "; too little for so many claims and looks"
    elif verdict == UNDECIDED and finding.signed and low * high > 0 and margin:
        side = "above" if low > 0 else "below"
        told += f"; {side} 0, but it may be by less than the margin of {margin:g}"
    elif verdict in (HOLDS, REVERSED) and not finding.signed and not each.claim.is_ratio:
        told += _other_thresholds(finding)
    return f"{told}."


def _other_thresholds(finding: Finding) -> str:
    """Which other thresholds the interval excludes as well, if it excludes the claim's own."""
    low, high = finding.effect.low, finding.effect.high
    if finding.of_one_run or low <= finding.reference <= high or math.isnan(low):
        return ""
    above = finding.reference < low
    end, side = (low, "below") if above else (high, "above")
    return f"; every threshold {side} {short(end, digits=4)} is outside of the interval, too"
