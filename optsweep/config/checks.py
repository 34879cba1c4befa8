"""Checks of single values, with messages that name the value and what would be right."""

from __future__ import annotations

import difflib
import math
from collections.abc import Mapping, Sequence
from typing import Any


class InputError(ValueError):
    """A user's mistake: one line that names the value and what would be right."""


def nearest(name: str, names: Sequence[str]) -> str:
    """A hint at the valid name that is spelt most alike, or the list of all of them."""
    close = difflib.get_close_matches(name, names, n=1)
    return f"did you mean {close[0]}?" if close else f"valid are {', '.join(names)}"


def known_keys(prefix: str, values: Any, names: Sequence[str]) -> None:
    """Refuse a mapping with a key that is not among `names`."""
    if not isinstance(values, Mapping):
        raise InputError(f"{prefix.rstrip('.')}={values}: expected {', '.join(names)}")
    for key in values:
        if key not in names:
            raise InputError(f"there is no key {prefix}{key}; {nearest(key, names)}")


def integer(key: str, value: Any, low: int, high: int, of: str = "") -> int:
    """A whole number from `low` to `high`; `of` says what `high` counts."""
    if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
        what = f" (the number of {of})" if of else ""
        raise InputError(f"{key}={value}: expected a whole number from {low} to {high}{what}")
    return value


def number(key: str, value: Any, below: float = math.inf) -> float:
    """A number in [0, below)."""
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 <= value < below:
        wanted = "a finite number >= 0" if below == math.inf else f"a number in [0, {below})"
        raise InputError(f"{key}={as_text(value)}: expected {wanted}")
    return float(value)


def choice(key: str, value: Any, choices: list[str]) -> str:
    """One of a few words."""
    if value not in choices:
        raise InputError(f"{key}={value}: expected {' or '.join(choices)}")
    return value


def name(key: str, value: Any) -> str:
    """A text that is not empty."""
    if not isinstance(value, str) or not value:
        raise InputError(f"{key}={value}: expected a name")
    return value


def as_text(value: Any) -> str:
    """A value as a command line would have it: lists without spaces."""
    if isinstance(value, Sequence) and not isinstance(value, str):
        return "[" + ",".join(map(str, value)) + "]"
    return str(value)
