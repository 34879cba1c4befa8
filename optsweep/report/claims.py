"""The report's claims, which are data (claims.yaml), and what the runs say of each.

Nothing here or there is a verdict: `comparisons` decides by the numbers alone.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

import pandas as pd
import yaml

from optsweep.config.checks import InputError
from optsweep.report import grids, settings, timing
from optsweep.report.comparisons import RULES, Samples
from optsweep.report.measures import describe, measure
from optsweep.report.statistics import Interval
from optsweep.report.study import Setting, Study
from optsweep.report.verdicts import MIN_VALUES, MISSING, Finding, Options
from optsweep.report.wording import count, short

_CLAIMS_FILE = Path(__file__).with_name("claims.yaml")
COLUMNS = (
    "id",
    "question",
    "claim",
    "reported",
    "effect",
    "low",
    "high",
    "n",
    "verdict",
    "evidence",
)
# Measures of several settings at once, such as a fit over all batch sizes.
_OF_MANY: dict[str, Callable[..., pd.Series]] = {
    "fixed_share": timing.fixed_share,
    "interaction": grids.interaction,
}
# What a cell of a claim says beside its settings: where it is, and that the best is meant.
_DIRECTIONS = ("in", "best")
_NOTHING = Interval(float("nan"), float("nan"), float("nan"), 0)


@dataclass(frozen=True)
class Claim:
    """One claim; claims.yaml explains the fields."""

    id: str
    question: str
    claim: str
    kind: str
    measure: dict[str, Any]
    cells: Sequence[dict[str, Any]]
    others: dict[str, Any] | None = None
    reported: str = ""
    cause: str = ""
    test: str = ""
    options: Options = field(default_factory=Options)

    def experiment(self, cell: Mapping[str, Any]) -> str:
        """The experiment that one of the compared cells belongs to."""
        return str(cell.get("in", self.question))


@dataclass(frozen=True)
class Judgement:
    """A claim with its verdict, the comparison that decided it, and the evidence in words."""

    claim: Claim
    finding: Finding
    evidence: str

    @property
    def verdict(self) -> str:
        """One of `verdicts.VERDICTS`."""
        return self.finding.verdict


@functools.cache
def load_claims() -> tuple[Claim, ...]:
    """All claims, in the order of the study."""
    content = yaml.safe_load(_CLAIMS_FILE.read_text(encoding="utf-8"))
    margins = content["margins"]
    return tuple(_claim(entry, margins) for entry in content["claims"])


def judge_claims(study: Study) -> list[Judgement]:
    """Decide every claim by the runs there are."""
    return [judge(claim, study) for claim in load_claims()]


def judge(claim: Claim, study: Study) -> Judgement:
    """Decide one claim; one whose cells are not all trained is missing, and says which."""
    try:
        samples, compared = _samples(claim, study)
    except InputError as error:
        return Judgement(claim, Finding(MISSING, _NOTHING, ""), str(error))
    finding = RULES[claim.kind](samples, claim.options)
    return Judgement(claim, finding, _evidence(claim, study, samples, compared, finding))


def claims_table(judgements: Sequence[Judgement]) -> pd.DataFrame:
    """A row per claim, with `COLUMNS`."""
    rows = []
    for each in judgements:
        mean, low, high, n = each.finding.effect
        told = (each.claim.id, each.claim.question, each.claim.claim, each.claim.reported)
        rows.append((*told, mean, low, high, n, each.verdict, each.evidence))
    return pd.DataFrame(rows, columns=list(COLUMNS))


def _claim(entry: dict[str, Any], margins: dict[str, float]) -> Claim:
    entry = dict(entry)
    entry["measure"] = (
        entry["measure"] if isinstance(entry["measure"], dict) else {"name": entry["measure"]}
    )
    measured = str(entry["measure"].get("of", entry["measure"]["name"]))
    options = {each.name: entry.pop(each.name) for each in fields(Options) if each.name in entry}
    kind = next((kind for kind in margins if measured.endswith(kind)), None)
    options.setdefault("margin", margins[kind] if kind else 0.0)
    return Claim(**entry, options=Options(**options))


def _samples(claim: Claim, study: Study) -> tuple[Samples, list[Setting]]:
    """The values that are compared by the names of their settings, and these settings.

    Raises:
        InputError: If a setting is not there or not trained.
    """
    samples: Samples = {}
    compared: list[Setting] = []
    for cell in claim.cells:
        found = _find(claim, study, cell)
        if cell.get("best"):
            found = [one for one in [grids.best_of(study, found)] if one]
        compared += found
        if claim.measure["name"] in _OF_MANY:
            samples[_name(claim, cell)] = _measure_many(claim, study, found)
        elif len(found) != 1:
            raise InputError(f"{_name(claim, cell)}: {len(found)} settings of the experiment fit")
        else:
            samples[_name(claim, cell)] = measure(study, found[0].cells, claim.measure)
    if claim.others is not None:
        for one in _find(claim, study, claim.others):
            if one not in compared:
                compared.append(one)
                samples[one.label] = measure(study, one.cells, claim.measure)
    return samples, compared


def _find(claim: Claim, study: Study, cell: Mapping[str, Any]) -> list[Setting]:
    where = {key: value for key, value in cell.items() if key not in _DIRECTIONS}
    experiment = claim.experiment(cell)
    found = study.find(experiment, where)
    if not found:
        raise InputError(f"{_name(claim, cell)}: no such cell in {experiment}")
    for setting in found:
        if not setting.trained:
            raise InputError(f"{setting.label} in {experiment}: {setting.status}, {setting.reason}")
    return found


def _measure_many(claim: Claim, study: Study, found: Sequence[Setting]) -> pd.Series:
    options = dict(claim.measure)
    return _OF_MANY[options.pop("name")](study, found, **options)


def _name(claim: Claim, cell: Mapping[str, Any]) -> str:
    where = {key: value for key, value in cell.items() if key not in _DIRECTIONS}
    experiment = claim.experiment(cell)
    named = settings.label(where, list(where))
    if not named or len({claim.experiment(each) for each in claim.cells}) == 1:
        return named or experiment
    return named if experiment == claim.question else f"{named} ({experiment})"


def _evidence(
    claim: Claim, study: Study, samples: Samples, compared: Sequence[Setting], finding: Finding
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
        if one.status == "diverged"
        for seeds in [study.seeds_of(one.cells)]
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
