"""What a search judges a cell by: its validation accuracies, never the test set's."""

from __future__ import annotations

import csv
import math
import statistics
from collections.abc import Mapping
from pathlib import Path
from typing import Any


def objective(result: Mapping[str, Any], standard_errors: float) -> float:
    """Mean validation accuracy less some standard errors; a diverged seed counts as 0.

    A single seed has no standard error, and nothing is taken off.

    >>> seeds = [{"val_accuracy": 0.8}, {"val_accuracy": 0.9}, {"val_accuracy": None}]
    >>> round(objective({"per_seed": seeds[:2]}, 1.0), 4), objective({"per_seed": seeds}, 9.0)
    (0.8, 0.0)
    """
    accuracies = [seed["val_accuracy"] or 0.0 for seed in result["per_seed"]]
    mean = math.fsum(accuracies) / len(accuracies)
    error = statistics.stdev(accuracies) / len(accuracies) ** 0.5 if len(accuracies) > 1 else 0.0
    return max(0.0, mean - standard_errors * error)


def validation_accuracies(path: Path) -> list[tuple[int, float]]:
    """Epochs from 1 and the mean validation accuracy after each, a diverged seed's being 0."""
    with path.open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    num_seeds = len({row["seed"] for row in rows})
    sums: dict[int, float] = {}
    for row in rows:
        epoch = int(row["epoch"])
        sums[epoch] = sums.get(epoch, 0.0) + float(row["val_accuracy"] or 0)
    return [(epoch, total / num_seeds) for epoch, total in sorted(sums.items()) if epoch]
