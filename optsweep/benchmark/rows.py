"""Measurements as rows of CSV files, written one by one as they are made."""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

TIMES = (
    "peer",
    "batch_size",
    "optimizer",
    "num_seeds",
    "num_examples",
    "repeat",
    "seconds",
    "job_seconds",
    "compile_seconds",
    "losses",
    "engine",
    "other_cores",
)
TIMES_KEY = TIMES[:6]
LIMITS = ("of", "library", "how", "batch_size", "rate", "unit", "other_cores")
STARTS = ("what", "repeat", "seconds", "told", "trains", "megabytes")


class Rows:
    """A CSV file that grows."""

    def __init__(self, path: Path, columns: Sequence[str]) -> None:
        """Continue the file, or start it."""
        self.path = path
        self.columns = columns
        if not path.exists() or not path.read_text(encoding="utf-8").endswith("\n"):
            self._without_torn_line()

    def read(self) -> pd.DataFrame:
        """All rows so far."""
        return pd.read_csv(self.path, keep_default_na=False, na_values=[""], dtype={"losses": str})

    def add(self, row: Mapping[str, Any]) -> None:
        """Append a row; what it lacks is left empty."""
        with self.path.open("a", encoding="utf-8", newline="") as file:
            csv.DictWriter(file, self.columns, lineterminator="\n").writerow(row)

    def keys(self, columns: Sequence[str]) -> set[tuple[Any, ...]]:
        """What is there, by some of the columns."""
        return set(self.read()[list(columns)].itertuples(index=False, name=None))

    def _without_torn_line(self) -> None:
        """A program that was killed may have left half a line, which is measured again."""
        whole = self.path.read_text(encoding="utf-8") if self.path.exists() else ""
        whole = whole[: whole.rfind("\n") + 1] or ",".join(self.columns) + "\n"
        self.path.write_text(whole, encoding="utf-8", newline="")


def losses_of(text: str) -> list[float]:
    """The losses that a row keeps as text.

    >>> losses_of(losses_text([0.5, float("nan")]))
    [0.5, nan]
    """
    return [float(part) for part in text.split()]


def losses_text(losses: Sequence[float]) -> str:
    """Losses as one field."""
    return " ".join(f"{loss:.6g}" for loss in losses)
