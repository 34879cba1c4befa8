"""Every claim's effect on one axis: in units of its margin, to the right as claimed.

A claim against a threshold has no margin: its unit is half the width of its interval, so that an
interval that leaves the threshold out lies beyond one unit, too.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from optsweep.report.claims import Judgement

# In units; whatever lies beyond is drawn at the end.
END = 100.0
TICKS = (-100, -10, -1, 0, 1, 10, 100)
# Rules whose effect is below zero where they hold.
_MIRRORED = ("less", "lowest", "falling", "only_less", "at_most", "gains_shrink")
# Rules that hold inside the margin: on which side of it the effect lies says nothing.
_WITHOUT_SIDES = ("similar", "identical", "near")


@dataclass(frozen=True)
class Mark:
    """Where a claim lies, each in percent of the axis.

    Attributes:
        low: The interval's left end.
        middle: The estimate.
        high: The interval's right end.
        has_margin: Whether the unit is the claim's margin.
    """

    low: float
    middle: float
    high: float
    has_margin: bool


def mark(judgement: Judgement) -> Mark | None:
    """A claim on the axis; None if nothing was compared, or it has no interval."""
    finding, claim = judgement.finding, judgement.claim
    values = [float(value) for value in finding.effect[:3]]
    reference, margin = finding.reference, claim.options.margin
    if finding.effect.n < 2 or not all(map(math.isfinite, values)):
        return None
    if claim.is_ratio or claim.kind == "times":
        if min(values) <= 0:
            return None
        values = [math.log(value) for value in values]
        reference, margin = math.log(reference), math.log1p(margin)
    estimate, low, high = (value - reference for value in values)
    unit = margin or (high - low) / 2
    if not unit:
        return None
    sign = -1 if claim.kind in _MIRRORED else 1
    left, middle, right = (place(sign * value / unit) for value in (low, estimate, high))
    return Mark(min(left, right), middle, max(left, right), bool(margin))


def has_sides(judgement: Judgement) -> bool:
    """Whether right of zero speaks for the claim and left against it."""
    return judgement.claim.kind not in _WITHOUT_SIDES


def place(units: float) -> float:
    """Percent of the axis: linear about 0 and logarithmic beyond, 0 in the middle.

    >>> place(0), place(100), place(-1e6), round(place(1), 1)
    (50.0, 100.0, 0.0, 57.5)
    """
    size = math.log1p(abs(units)) / math.log1p(END)
    return 50 + 50 * math.copysign(min(1.0, size), units)
