"""The report's own numbers beside ours: where one more run would lie."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from optsweep.report.claims import Judgement
from optsweep.report.collection import Collection
from optsweep.report.measures import measure, possible
from optsweep.report.outline import Figure
from optsweep.report.statistics import Interval, prediction
from optsweep.report.wording import interval, short

SINGLE = "near"  # the rule of claims that are a single number of the report


@dataclass(frozen=True)
class Number:
    """A number of the report.

    Attributes:
        claim: The judgement on it; None if it decides nothing.
        figure: What it is, where no claim tells that.
        reported: As the report gives it.
        ours: The mean of ours.
        prediction: Where one more run of ours would lie.
        n: How many runs of ours there are.
    """

    claim: Judgement | None
    figure: Figure | None
    reported: str
    ours: str
    prediction: str
    n: int


def numbers(
    collection: Collection, judgements: Sequence[Judgement], figures: Sequence[Figure]
) -> list[Number]:
    """Every number of the report, in the order of the claims, then those that decide nothing."""
    rows = [
        Number(each, None, each.claim.reported, *_ours(each.finding.effect, 3))
        for each in judgements
        if each.claim.kind == SINGLE
    ]
    return rows + [
        Number(None, each, f"{each.value:g} {each.unit}", *_ours(_measured(collection, each), 3))
        for each in figures
        if rows or collection.find(each.experiment, each.cell)
    ]


def _measured(collection: Collection, figure: Figure) -> Interval:
    nothing = Interval(math.nan, math.nan, math.nan, 0)
    found = [one for one in collection.find(figure.experiment, figure.cell) if one.is_trained]
    if len(found) != 1:
        return nothing
    values = measure(collection, found[0].cells, figure.measure).dropna()
    if len(values) < 2:
        return nothing
    one = possible(prediction(values, figure.value / figure.times)[0], figure.measure)
    estimate, low, high = (figure.times * end for end in one[:3])
    return Interval(estimate, low, high, one.n)


def _ours(found: Interval, digits: int) -> tuple[str, str, int]:
    if not found.n:
        return "–", "–", 0
    return (
        short(found.estimate, digits=digits + 1),
        interval(found.low, found.high, digits),
        found.n,
    )
