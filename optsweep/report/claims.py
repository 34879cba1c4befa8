"""What the runs say of a claim: the values it compares, the rule's finding, the evidence in words.

Nothing here is a verdict: `rules` decides by the numbers alone.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd

from optsweep.config.checks import InputError
from optsweep.report import grids, settings, timing
from optsweep.report.collection import DIVERGED, Collection, Setting
from optsweep.report.measures import describe, measure
from optsweep.report.outline import Claim
from optsweep.report.rules import MIN_VALUES, MISSING, RULES, Finding, Samples
from optsweep.report.statistics import Interval
from optsweep.report.wording import count, short

# Measures of several settings at once, such as a fit over all batch sizes.
_OF_MANY: dict[str, Callable[..., pd.Series]] = {
    "fixed_share": timing.fixed_share,
    "interaction": grids.interaction,
}
# What a cell of a claim says beside its settings: where it is, and that the best is meant.
_DIRECTIONS = ("in", "best")
_NOTHING = Interval(float("nan"), float("nan"), float("nan"), 0)


@dataclass(frozen=True)
class Judgement:
    """A claim with its verdict, the comparison that decided it, and the evidence in words."""

    claim: Claim
    finding: Finding
    evidence: str

    @property
    def verdict(self) -> str:
        """One of `rules.VERDICTS`."""
        return self.finding.verdict


def judge(claim: Claim, collection: Collection) -> Judgement:
    """Decide one claim; one whose cells are not all trained is missing, and says which."""
    try:
        samples, compared = _samples(claim, collection)
    except InputError as error:
        return Judgement(claim, Finding(MISSING, _NOTHING, ""), str(error))
    finding = RULES[claim.kind](samples, claim.options)
    return Judgement(claim, finding, _evidence(claim, collection, samples, compared, finding))


def claims_table(judgements: Sequence[Judgement]) -> pd.DataFrame:
    """A row per claim: what it says, the effect that decided it, the verdict and the evidence."""
    rows = [
        {
            "id": each.claim.id,
            "question": each.claim.question,
            "claim": each.claim.claim,
            "reported": each.claim.reported,
            **dict(zip(("effect", "low", "high", "n"), each.finding.effect, strict=True)),
            "verdict": each.verdict,
            "evidence": each.evidence,
        }
        for each in judgements
    ]
    return pd.DataFrame(rows)


def _samples(claim: Claim, collection: Collection) -> tuple[Samples, list[Setting]]:
    """The values that are compared by the names of their settings, and these settings.

    Raises:
        InputError: If a setting is not there or not trained.
    """
    samples: Samples = {}
    compared: list[Setting] = []
    name = claim.measure["name"]
    for cell in claim.cells:
        found = _find(claim, collection, cell)
        if cell.get("best"):
            found = [one for one in [grids.best_of(collection, found)] if one]
        compared += found
        if name in _OF_MANY:
            options = {key: value for key, value in claim.measure.items() if key != "name"}
            samples[_name(claim, cell)] = _OF_MANY[name](collection, found, **options)
        elif len(found) != 1:
            raise InputError(f"{_name(claim, cell)}: {len(found)} settings of the experiment fit")
        else:
            samples[_name(claim, cell)] = measure(collection, found[0].cells, claim.measure)
    if claim.others is not None:
        for one in _find(claim, collection, claim.others):
            if one not in compared:
                compared.append(one)
                samples[one.label] = measure(collection, one.cells, claim.measure)
    return samples, compared


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


def _evidence(
    claim: Claim,
    collection: Collection,
    samples: Samples,
    compared: Sequence[Setting],
    finding: Finding,
) -> str:
    means = [f"{name} = {short(values.mean(), digits=4)}" for name, values in samples.items()]
    measured = describe(claim.measure)
    (place, *more) = sorted({claim.experiment(cell) for cell in claim.cells})
    place = "" if more or place == claim.question else f" in {place}"
    told = f"{measured[0].upper()}{measured[1:]}{place}: {'; '.join(means)}."
    sentences = [told, _decision(finding, samples)]
    chosen = [
        one.label for one, cell in zip(compared, claim.cells, strict=False) if cell.get("best")
    ]
    if chosen:
        sentences.append("Chosen on validation examples: " + "; ".join(chosen) + ".")
    diverged = [
        f"{one.label} {int((seeds['status'] != 'completed').sum())} of {len(seeds)}"
        for one in compared
        if one.status in DIVERGED
        for seeds in [collection.seeds_of(one.cells)]
    ]
    if diverged:
        sentences.append("Diverged seeds: " + "; ".join(diverged) + ".")
    left_out = sum(int(values.isna().sum()) for values in samples.values())
    if left_out:
        sentences.append(f"{count(left_out, 'value')} not known and left out.")
    return " ".join(sentences)


def _decision(finding: Finding, samples: Samples) -> str:
    unit = "epoch" if "epoch" in next(iter(samples.values())).index.names else "seed"
    mean, low, high, n = finding.effect
    if not n:
        return "Nothing to compare."
    sign = "+" if finding.signed else ""
    span = f", interval {short(low, sign)} … {short(high, sign)}" if n > 1 else ""
    held = "" if finding.signed else f", against {short(finding.reference, digits=4)}"
    few = f"; fewer than {MIN_VALUES} decide nothing" if n < MIN_VALUES else ""
    return f"Decided by {finding.of}: {short(mean, sign)}{held}{span}, n = {count(n, unit)}{few}."
