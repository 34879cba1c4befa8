"""What a diagnosis keeps in its cell's folder: a file for each checkpoint, tables, a summary."""

from __future__ import annotations

import dataclasses
import json
import math
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from scipy import stats

import optsweep
from optsweep import runs
from optsweep.diagnosis.done import Asked
from optsweep.diagnosis.examination import Examination
from optsweep.diagnosis.readings import BASE, Readings
from optsweep.diagnosis.verdicts import judge

CONFIDENCE = 0.95
VERDICT_COLUMNS = ("seed", "epoch", "verdict", "decided_by")
READING_COLUMNS = ("seed", "epoch", "quantity", "value")
SPECTRUM_COLUMNS = ("seed", "epoch", "kind", "value", "weight", "residual")
PIXEL_COLUMNS = ("epoch", "pixel", "nonzero_fraction", "moved")
FORK_COLUMNS = ("seed", "epoch", "fork", "step", "train_loss")


def record(seed: int, found: Examination) -> dict[str, Any]:
    """One seed's examination as plain data that JSON knows: not a number is null, "inf" infinite.

    There is no verdict in it: that is what the rules of today say of the readings.
    """
    readings = dataclasses.asdict(found.readings)
    readings.pop("falls")
    forks = {
        name: {
            "train_loss": {str(step): _plain(loss) for step, loss in of.losses.items()},
            "falls": {str(end): _plain(fall) for end, fall in found.readings.falls[name].items()},
        }
        for name, of in found.forks.items()
    }
    return {
        "seed": seed,
        "readings": {name: _plain(value) for name, value in readings.items()},
        "eigenvalues": [float(value) for value in found.eigenpairs.values],
        "residuals": [float(value) for value in found.eigenpairs.residuals],
        "density": {
            "nodes": [float(value) for value in found.density.nodes],
            "weights": [float(value) for value in found.density.weights],
            "accuracy": found.density.accuracy,
        },
        "forks": forks,
    }


def readings_of(one: Mapping[str, Any]) -> Readings:
    """The readings in a record."""
    values: dict[str, Any] = {name: _number(value) for name, value in one["readings"].items()}
    falls = {
        name: {int(end): _number(fall) for end, fall in fork["falls"].items()}
        for name, fork in one["forks"].items()
    }
    return Readings(**values, falls=falls)


def write_epoch(asked: Asked, epoch: int, found: Sequence[Mapping[str, Any]]) -> None:
    """Keep a checkpoint's examinations, so that a diagnosis that is killed goes on after it."""
    folder = asked.directory / runs.DIAGNOSIS_FOLDER
    folder.mkdir(exist_ok=True)
    content = {"cell": asked.cell, "settings": asked.key(epoch), "epoch": epoch, "seeds": found}
    text = json.dumps(content, allow_nan=False) + "\n"
    runs.write_atomically(folder / runs.EXAMINED_FILE.format(epoch), text)


def write(asked: Asked) -> dict[str, Any]:
    """Judge what the files of all checkpoints have, and write the tables and the summary.

    Returns:
        The summary: of each checkpoint how many seeds have each verdict, and what forks gain over
        the one that changes nothing, paired over seeds, with intervals.
    """
    folder = asked.directory / runs.DIAGNOSIS_FOLDER
    found = {epoch: [_judged(one) for one in asked.found(epoch) or []] for epoch in asked.epochs}
    tables = (
        (runs.VERDICTS_FILE, VERDICT_COLUMNS, _verdicts),
        (runs.READINGS_FILE, READING_COLUMNS, _readings),
        (runs.SPECTRA_FILE, SPECTRUM_COLUMNS, _spectra),
        (runs.FORKS_FILE, FORK_COLUMNS, _forks),
    )
    for name, columns, rows_of in tables:
        rows = [
            {"seed": one["seed"], "epoch": epoch, **row}
            for epoch, seeds in found.items()
            for one in seeds
            for row in rows_of(one)
        ]
        runs.write_atomically(folder / name, runs.to_csv(columns, rows))
    summary = {
        "config_hash": asked.cell,
        "version": optsweep.__version__,
        "settings": asked.measured,
        "epochs": [
            {
                "epoch": epoch,
                "verdicts": dict(Counter(one["cause"] for one in seeds)),
                "gains": _gains(seeds),
            }
            for epoch, seeds in found.items()
        ],
    }
    text = json.dumps(summary, indent=2, allow_nan=False) + "\n"
    runs.write_atomically(folder / runs.DIAGNOSIS_FILE, text)
    return summary


def write_pixels(directory: Path, rows: Sequence[Mapping[str, Any]]) -> None:
    """Keep how far the weights of each pixel have moved by each checkpoint, if there are such."""
    if rows:
        path = directory / runs.DIAGNOSIS_FOLDER / runs.PIXELS_FILE
        runs.write_atomically(path, runs.to_csv(PIXEL_COLUMNS, rows))


def _judged(one: Mapping[str, Any]) -> dict[str, Any]:
    return {**one, **dataclasses.asdict(judge(readings_of(one)))}


def _verdicts(one: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    yield {"verdict": one["cause"], "decided_by": one["decided_by"]}


def _readings(one: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    for quantity, value in one["readings"].items():
        yield {"quantity": quantity, "value": value}
    yield {"quantity": "density_accuracy", "value": one["density"]["accuracy"]}
    for name, fork in one["forks"].items():
        for end, fall in fork["falls"].items():
            yield {"quantity": f"fall after {end} steps, {name}", "value": fall}


def _spectra(one: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    for value, residual in zip(one["eigenvalues"], one["residuals"], strict=True):
        yield {"kind": "eigenvalue", "value": value, "residual": residual}
    for node, weight in zip(one["density"]["nodes"], one["density"]["weights"], strict=True):
        yield {"kind": "density", "value": node, "weight": weight}


def _forks(one: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    for name, fork in one["forks"].items():
        for step, loss in fork["train_loss"].items():
            yield {"fork": name, "step": step, "train_loss": loss}


def _gains(seeds: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """What each fork lowers the loss by beyond the one that changes nothing, at each horizon."""
    rows = []
    names = [name for name in (seeds[0]["forks"] if seeds else ()) if name != BASE]
    for name in names:
        for end in seeds[0]["forks"][name]["falls"]:
            pairs = [
                [_number(s["forks"][each]["falls"][end]) for each in (name, BASE)] for s in seeds
            ]
            gains = [own - base for own, base in pairs if math.isfinite(own - base)]
            failed = len(pairs) - len(gains)
            rows.append(
                {"fork": name, "steps": int(end), "failed": failed, **_interval(np.array(gains))}
            )
    return rows


def _interval(values: np.ndarray) -> dict[str, Any]:
    """Mean of paired differences with Student's and a bootstrap interval (BCa)."""
    known: dict[str, Any] = {"n": len(values), "mean": None, "t": None, "bootstrap": None}
    if len(values):
        known["mean"] = float(values.mean())
    if len(values) > 1 and np.ptp(values) > 0:
        ends = stats.ttest_1samp(values, 0).confidence_interval(CONFIDENCE)
        drawn = stats.bootstrap(
            (values,), np.mean, confidence_level=CONFIDENCE, rng=np.random.default_rng(0)
        ).confidence_interval
        known["t"] = [_plain(float(end)) for end in ends]
        known["bootstrap"] = [_plain(float(end)) for end in drawn]
    return known


def _plain(value: float) -> float | str | None:
    if math.isnan(value):
        return None
    return value if math.isfinite(value) else str(value)


def _number(value: float | str | None) -> float:
    return math.nan if value is None else float(value)
