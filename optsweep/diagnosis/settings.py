"""How much a diagnosis measures, and at which epochs."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from optsweep.config.checks import InputError, integer, known_keys, number

LARGEST, SMALLEST = 10, 5  # eigenvalues that are told


@dataclass(frozen=True)
class Settings:
    """How much is measured.

    Attributes:
        examples: Training examples of all readings, the first so many in a shuffled order; None:
            all.
        lanczos_steps: At most, of each probe.
        tolerance: Residual, by the largest eigenvalue, with which Lanczos ends earlier.
        probes: Starts of Lanczos, over which the density is averaged.
        batches: Mini-batches for noise and budget.
        steps: Of a fork, the first horizon.
        epoch: Whether forks go on for an epoch.
        checkpoints: Epochs that are looked at, at most.
        seeds: Of the cell, the first so many; None: all.
    """

    examples: int | None = 5000
    lanczos_steps: int = 80
    tolerance: float = 1e-3
    probes: int = 1
    batches: int = 8
    steps: int = 50
    epoch: bool = True
    checkpoints: int = 12
    seeds: int | None = None

    @classmethod
    def from_mapping(cls, values: Mapping[str, Any]) -> Settings:
        """Validate what a command line or a file says; null stands for all.

        Raises:
            InputError: If a key is unknown or a value cannot be used.
        """
        known_keys("diagnose.", values, [field.name for field in dataclasses.fields(cls)])
        values = dict(values)
        for name in ("examples", "seeds"):
            if values.get(name) == "all":
                values[name] = None
            elif values.get(name) is not None:
                values[name] = integer(f"diagnose.{name}", values[name], 1, 10**9)
        for name, least in _LEAST.items():
            if name in values:
                values[name] = integer(f"diagnose.{name}", values[name], least, 10**6)
        if "tolerance" in values:
            values["tolerance"] = number("diagnose.tolerance", values["tolerance"], below=1)
        if not isinstance(values.get("epoch", True), bool):
            raise InputError(f"diagnose.epoch={values['epoch']}: expected true or false")
        return cls(**values)


_LEAST = {
    "lanczos_steps": LARGEST + SMALLEST,
    "probes": 1,
    "batches": 2,
    "steps": 1,
    "checkpoints": 1,
}


def log_spaced(last: int, count: int) -> list[int]:
    """At most `count` epochs from 0 to `last`, each so many times the one before.

    >>> log_spaced(30, 12)
    [0, 1, 2, 3, 4, 5, 7, 10, 13, 17, 23, 30]
    >>> log_spaced(3, 12), log_spaced(30, 1)
    ([0, 1, 2, 3], [30])
    >>> log_spaced(40, 3)  # the start, the middle, the end
    [0, 6, 40]
    """
    if last < count:
        return list(range(last + 1))
    if count < 3:
        return [0, last][-count:]
    if count == 3:
        return [0, round(last**0.5), last]
    for steps in range(count - 2, 100 * count):
        found = {0} | {round(last ** (index / steps)) for index in range(steps + 1)}
        if len(found) >= count:
            break
    return [*sorted(found)[: count - 1], last]


def chosen_epochs(kept: Sequence[int], count: int) -> list[int]:
    """Of the epochs that were kept, at most `count`, as if these were all.

    >>> chosen_epochs([0, 10, 20, 30], 3)
    [0, 20, 30]
    """
    return [kept[place] for place in log_spaced(len(kept) - 1, count)]
