"""Numbers and lists as readers want them."""

from __future__ import annotations

import math
import re

from optsweep.report.language import ENGLISH, language, listing, say

__all__ = ["count", "interval", "listing", "number", "short"]

# Losses on the way to divergence; written out they would be as long as a line.
_LARGE = 1e7


def number(value: float | None, digits: int, sign: str = "") -> str:
    """A number for readers: a real minus, ∞, an en dash for what is not known.

    >>> number(-0.01234, 4), number(float("inf"), 1), number(float("nan"), 1), number(2e30, 1)
    ('−0.0123', '∞', '–', '2e30')
    """
    if value is None or math.isnan(value):
        return "–"
    if math.isinf(value):
        text = f"{value:{sign}}".replace("inf", "∞")
    elif abs(value) < _LARGE:
        text = f"{value + 0.0:{sign},.{digits}f}"  # + 0.0: no minus before zero
    else:
        text = _exponent(f"{value:{sign}.3g}")
    return text.replace("-", "−")


def short(value: float | None, sign: str = "", digits: int = 3) -> str:
    """A number of any size with a few significant digits.

    >>> short(0.000123), short(2350), short(0.86321, digits=4), short(1.5e-7)
    ('0.000123', '2,350', '0.8632', '1.5e−7')
    """
    if value is None or not math.isfinite(value) or abs(value) >= 1000:
        return number(value, 0, sign)
    text = f"{value + 0.0:{sign}.{digits}g}"  # + 0.0: no minus before zero
    return _exponent(text).replace("-", "−")


def interval(low: float, high: float, digits: int, sign: str = "") -> str:
    """Both ends of an interval, or an en dash."""
    if math.isnan(low):
        return "–"
    return f"{number(low, digits, sign)} … {number(high, digits, sign)}"


def count(n: int, noun: str, plural: str = "") -> str:
    """A number with its noun, in other languages too if the catalogues count it.

    >>> count(1, "seed"), count(3, "seed")
    ('1 seed', '3 seeds')
    """
    if f"count.{noun}" in language(ENGLISH).messages:
        return say(f"count.{noun}", n=n)
    return f"{n:,} {noun if n == 1 else plural or noun + 's'}"


def _exponent(text: str) -> str:
    """`1e-07` -> `1e-7`, `1e+30` -> `1e30`."""
    return re.sub(r"e\+?(-?)0*", r"e\1", text)
