"""What there is to tell a tracker of a sweep and of its cells, read from their directories."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pandas as pd

from optsweep import runs
from optsweep.config.checks import InputError
from optsweep.config.identity import flat_values

SCORES = tuple(
    f"{split}_{metric}" for split in ("train", "val", "test") for metric in ("loss", "accuracy")
)
_FINALS = (*SCORES, "final_train_loss", "final_train_accuracy")
# What is known of the data by their contents, which nobody chooses.
_FACTS = ("sha256", "checksum", "dataset.num_")
_FORM = 1  # of what is told; another one is told anew


@dataclass(frozen=True)
class Sweep:
    """A sweep and the names of its cells, with the overrides that tell them apart.

    Attributes:
        name: Of the sweep.
        root: The folder of all runs.
        cells: Overrides by names.
        folder: Of the sweep's own files, if it has one.
        is_running: Whether more cells are to come.
    """

    name: str
    root: Path
    cells: Mapping[str, str]
    folder: Path | None = None
    is_running: bool = False


@dataclass(frozen=True)
class Record:
    """A sweep or one of its cells.

    Attributes:
        sweep: Name of the sweep; of a cell without one, `cells`.
        cell: Name of the cell; empty for the sweep itself.
        title: What it is called beside others of its sweep.
        parameters: Its configuration by dotted keys.
        history: Of a cell, its history.csv.
        scores: Final scores: means over seeds by their names.
        per_seed: Final scores of each seed.
        tags: Whatever else there is to know, as text.
        figures: Pictures by their names.
        seconds: When it was finished, since 1970.
        fingerprint: Of all that was read.
    """

    sweep: str
    cell: str
    title: str
    parameters: Mapping[str, Any]
    history: pd.DataFrame
    scores: Mapping[str, float]
    per_seed: Mapping[int, Mapping[str, float]]
    tags: Mapping[str, str]
    figures: Mapping[str, Path]
    seconds: float
    fingerprint: str

    @property
    def name(self) -> str:
        """Unique among all records."""
        return f"{self.sweep}/{self.cell}" if self.cell else self.sweep

    def means(self) -> Iterator[tuple[int, float, dict[str, float]]]:
        """Epoch, seconds of training and what is known, averaged over the living seeds."""
        yield from _epochs(self.history)

    def seeds(self) -> Iterator[tuple[int, list[tuple[int, float, dict[str, float]]]]]:
        """The same of each seed."""
        for seed, rows in self.history.groupby("seed"):
            yield int(seed), list(_epochs(rows))  # type: ignore[call-overload]


def _epochs(history: pd.DataFrame) -> Iterator[tuple[int, float, dict[str, float]]]:
    means = history.groupby("epoch")[["lr", "seconds", *SCORES]].mean()
    for epoch, row in means.iterrows():
        values = known({key: row[key] for key in ("lr", *SCORES)})
        yield int(epoch), float(row["seconds"]), values  # type: ignore[call-overload]


def known(values: Mapping[str, Any]) -> dict[str, float]:
    """The finite numbers among some values."""
    pairs = ((key, value) for key, value in values.items() if value is not None)
    return {key: float(value) for key, value in pairs if math.isfinite(value)}


@dataclass
class Read:
    """Of a sweep: its records, and the cells of which there is none yet."""

    records: list[Record] = field(default_factory=list)
    missing: list[str] = field(default_factory=list)
    damaged: dict[str, str] = field(default_factory=dict)


def read_sweep(sweep: Sweep, is_told: Mapping[str, str]) -> Read:
    """Read a sweep; one that grows is told of itself at the beginning and in the end.

    Args:
        sweep: Which.
        is_told: Fingerprints of what the tracker has, by names; those are not read again.
    """
    found = Read()
    for cell, overrides in sweep.cells.items():
        directory = sweep.root / runs.CELLS_FOLDER / cell
        if not (directory / runs.RESULT_FILE).is_file():
            found.missing.append(cell)
            continue
        try:
            if is_told.get(f"{sweep.name}/{cell}") != fingerprint_of(sweep, directory):
                found.records.append(_read_cell(sweep, directory, overrides))
        except (InputError, OSError, ValueError, KeyError) as error:
            found.damaged[cell] = str(error)
    own = _of_sweep(sweep)
    is_growing = sweep.is_running or found.missing
    if is_told.get(own.name) != own.fingerprint and not (is_growing and own.name in is_told):
        found.records.insert(0, own)
    return found


def fingerprint_of(sweep: Sweep, directory: Path) -> str:
    """Of a finished cell in a sweep."""
    content = (directory / runs.RESULT_FILE).read_bytes()
    return _digest(sweep.name, content.decode())


def _read_cell(sweep: Sweep, directory: Path, overrides: str) -> Record:
    fingerprint = fingerprint_of(sweep, directory)
    result = runs.read_result(directory)
    assert result is not None
    config = runs.read_config(directory)
    parameters = {
        key: value
        for key, value in flat_values(config).items()
        if not any(part in key for part in _FACTS)
    }
    per_seed = {
        each["seed"]: known({key: each.get(key) for key in _FINALS}) for each in result["per_seed"]
    }
    for scores in per_seed.values():
        if {"final_train_accuracy", "test_accuracy"} <= scores.keys():
            gap = scores["final_train_accuracy"] - scores["test_accuracy"]
            scores["generalisation_gap"] = gap
    means = pd.DataFrame(per_seed.values()).mean().to_dict() if per_seed else {}
    diverged = sum(each["status"] != "completed" for each in result["per_seed"])
    tags = {
        "overrides": overrides,
        "sweep": sweep.name,
        "directory": str(directory.resolve()),
        **{key: str(result.get(key, "")) for key in ("status", "device", "engine", "config_hash")},
        **{f"version.{key}": str(value) for key, value in result.get("versions", {}).items()},
    }
    curves = directory / runs.CURVES_FILE
    extra = {"objective": result["objective"], "seconds": result["seconds"]}
    return Record(
        sweep=sweep.name,
        cell=directory.name,
        title=overrides or directory.name,
        parameters=parameters,
        history=pd.read_csv(directory / runs.HISTORY_FILE),
        scores=known({**means, **extra, "num_diverged": diverged}),
        per_seed=per_seed,
        tags=tags,
        figures={"curves": curves},
        seconds=(directory / runs.RESULT_FILE).stat().st_mtime,
        fingerprint=fingerprint,
    )


def _of_sweep(sweep: Sweep) -> Record:
    """A sweep itself: what it lists, and the pictures in its folder."""
    figures = {}
    if sweep.folder is not None:
        paths = sorted((sweep.folder / runs.FIGURES_FOLDER).glob("*.png"))
        figures = {path.stem: path for path in paths}
    digests = [hashlib.sha256(path.read_bytes()).hexdigest() for path in figures.values()]
    cells = dict(sweep.cells)
    return Record(
        sweep=sweep.name,
        cell="",
        title=sweep.name,
        parameters={"num_cells": len(cells)},
        history=pd.DataFrame(columns=["seed", "epoch", "lr", "seconds", *SCORES]),
        scores={},
        per_seed={},
        tags={"cells": json.dumps(cells), "directory": str(sweep.folder or sweep.root)},
        figures=figures,
        seconds=max((path.stat().st_mtime for path in figures.values()), default=0.0),
        fingerprint=_digest(sweep.name, json.dumps(cells, sort_keys=True), *digests),
    )


def _digest(*texts: str) -> str:
    return hashlib.sha256("\n".join([str(_FORM), *texts]).encode()).hexdigest()[:16]


def plain(value: Any) -> str | int | float | bool:
    """A parameter as every tracker takes it."""
    return value if isinstance(value, (str, int, float, bool)) else _text(value)


def _text(value: Any) -> str:
    if isinstance(value, Sequence):
        return f"[{', '.join(map(str, value))}]"
    return "none" if value is None else str(value)
