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
from optsweep.diagnosis.examination import Examination
from optsweep.diagnosis.readings import BASE
from optsweep.diagnosis.verdicts import Verdict

CONFIDENCE = 0.95
VERDICT_COLUMNS = ("seed", "epoch", "verdict", "decided_by")
READING_COLUMNS = ("seed", "epoch", "quantity", "value")
SPECTRUM_COLUMNS = ("seed", "epoch", "kind", "value", "weight", "residual")
PIXEL_COLUMNS = ("epoch", "pixel", "nonzero_fraction", "moved")
FORK_COLUMNS = ("seed", "epoch", "fork", "step", "train_loss")


def record(seed: int, found: Examination, verdict: Verdict) -> dict[str, Any]:
    """One seed's examination as plain data that JSON knows: infinite numbers are null."""
    readings = dataclasses.asdict(found.readings)
    readings.pop("falls")
    forks = {
        name: {
            "train_loss": {str(step): _finite(loss) for step, loss in of.losses.items()},
            "falls": {str(end): _finite(fall) for end, fall in found.readings.falls[name].items()},
        }
        for name, of in found.forks.items()
    }
    return {
        "seed": seed,
        "verdict": verdict.cause,
        "decided_by": verdict.decided_by,
        "readings": {name: _finite(value) for name, value in readings.items()},
        "eigenvalues": [float(value) for value in found.eigenpairs.values],
        "residuals": [float(value) for value in found.eigenpairs.residuals],
        "density": {
            "nodes": [float(value) for value in found.density.nodes],
            "weights": [float(value) for value in found.density.weights],
            "accuracy": found.density.accuracy,
        },
        "forks": forks,
    }


def write_epoch(
    directory: Path,
    epoch: int,
    cell: str,
    settings: Mapping[str, Any],
    found: Sequence[Mapping[str, Any]],
) -> None:
    """Keep a checkpoint's examinations, so that a diagnosis that is killed goes on after it."""
    folder = directory / runs.DIAGNOSIS_FOLDER
    folder.mkdir(exist_ok=True)
    content = {"cell": cell, "settings": settings, "epoch": epoch, "seeds": found}
    text = json.dumps(content, allow_nan=False) + "\n"
    runs.write_atomically(folder / runs.EXAMINED_FILE.format(epoch), text)


def read_epoch(
    directory: Path, epoch: int, cell: str, settings: Mapping[str, Any]
) -> list[dict[str, Any]] | None:
    """What was found at a checkpoint of this cell with these settings; None if nothing was."""
    path = directory / runs.DIAGNOSIS_FOLDER / runs.EXAMINED_FILE.format(epoch)
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        same = content["cell"] == cell and content["settings"] == dict(settings)
        return content["seeds"] if same else None
    except (OSError, ValueError, KeyError, TypeError):
        return None


def write(directory: Path, settings: Mapping[int, Mapping[str, Any]], cell: str) -> dict[str, Any]:
    """Write the tables and the summary from the files of all checkpoints.

    Args:
        directory: Of the cell.
        settings: Of each checkpoint, see `read_epoch`.
        cell: Its hash.

    Returns:
        The summary: of each checkpoint how many seeds have each verdict, and what forks gain over
        the one that changes nothing, paired over seeds, with intervals.
    """
    folder = directory / runs.DIAGNOSIS_FOLDER
    found = {
        epoch: read_epoch(directory, epoch, cell, own) or [] for epoch, own in settings.items()
    }
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
        "config_hash": cell,
        "version": optsweep.__version__,
        "settings": dict(next(iter(settings.values()))),
        "epochs": [
            {
                "epoch": epoch,
                "verdicts": dict(Counter(one["verdict"] for one in seeds)),
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


def _verdicts(one: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    yield {"verdict": one["verdict"], "decided_by": one["decided_by"]}


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
                (s["forks"][name]["falls"][end], s["forks"][BASE]["falls"][end]) for s in seeds
            ]
            gains = [own - base for own, base in pairs if own is not None and base is not None]
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
        known["t"] = [_finite(float(end)) for end in ends]
        known["bootstrap"] = [_finite(float(end)) for end in drawn]
    return known


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None
