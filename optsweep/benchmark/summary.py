"""Medians, ratios and fractions of limits, from rows alone."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import pandas as pd

from optsweep.benchmark.network import num_weights
from optsweep.benchmark.peers import OURS
from optsweep.benchmark.tasks import HIDDEN_SIZES, Cell
from optsweep.report.timing import NUM_CLASSES, NUM_INPUTS, flops_per_example

CELL = list(Cell._fields)
_JOB_EPOCHS = 10  # of the job over which compilation is spread: the default one's
# Bytes of weights, gradients and moments that a step has to move for a weight: read by the
# forward pass; weight and moments read and written by the update. Gradients need not be stored.
_BYTES = {"sgd": 12, "momentum": 20, "adam": 28}
# Column -> what it is made of, and how.
_SUMMED: dict[str, tuple[str, str]] = {
    "median": ("per_run", "median"),
    "low": ("per_run", "min"),
    "high": ("per_run", "max"),
    "num_repeats": ("per_run", "size"),
    "num_examples": ("num_examples", "first"),
    "compile_seconds": ("compile_seconds", "median"),
    "job": ("job", "median"),
    "trained_by": ("engine", "first"),  # pandas takes an `engine` for an argument of its own
    "other_cores": ("other_cores", "max"),
}


def timings(rows: pd.DataFrame, num_train: int) -> pd.DataFrame:
    """Seconds per epoch and run.

    Of a peer and cell, the rows with the most examples count; fewer are there for losses.

    Returns:
        A row for each peer and cell: median, low and high over repeats; num_repeats;
        num_examples of the epochs, from which whole ones are scaled; compile_seconds; with_compile,
        seconds per epoch and run in a job of ten epochs; job, seconds per run of whole jobs;
        trained_by, an engine; other_cores, the most that other programs used.
    """
    if rows.empty:
        return pd.DataFrame(columns=["peer", *CELL, *_SUMMED, "with_compile"])
    rows = rows.assign(
        per_run=rows["seconds"] / rows["num_seeds"] * num_train / rows["num_examples"],
        job=rows["job_seconds"] / rows["num_seeds"],
    )
    most = rows.groupby(["peer", *CELL])["num_examples"].transform("max")
    groups = rows[rows["num_examples"] == most].groupby(["peer", *CELL], sort=False)
    found = groups.agg(**_SUMMED).reset_index()
    runs = found["num_seeds"] * _JOB_EPOCHS
    found["with_compile"] = found["median"] + found["compile_seconds"] / runs
    return found


def ratios(times: pd.DataFrame, peer: str, column: str = "median") -> pd.Series:
    """How many times as fast as a peer optsweep is, by cell; cells that both have."""
    seconds = times.set_index(CELL)
    ours = seconds.loc[seconds["peer"] == OURS, column]
    return (seconds.loc[seconds["peer"] == peer, column] / ours).dropna()


def geometric_mean(values: Sequence[float] | pd.Series) -> float:
    """The mean that makes no difference between a ratio and its inverse.

    >>> geometric_mean([0.5, 2.0])
    1.0
    """
    return float(np.exp(np.mean(np.log(np.asarray(values, float))))) if len(values) else math.nan


def best_rate(limits: pd.DataFrame, of: str, batch_size: int | None = None) -> float:
    """The highest rate of what was measured, by any library and with any number of threads."""
    chosen = limits[limits["of"] == of]
    if batch_size is not None:
        chosen = chosen[chosen["batch_size"] == batch_size]
    return float(chosen["rate"].max()) if len(chosen) else math.nan


def bounds(limits: pd.DataFrame, cells: Sequence[Cell], num_train: int) -> pd.DataFrame:
    """Seconds per epoch and run that the measured limits allow, by cell.

    Columns:
        arithmetic: All products at the best rate of any library on the shapes of that step,
            for single examples at that of a large square product.
        bandwidth: Weights and moments moved through the caches, all cores together; of plain
            SGD only the rows of the first layer whose pixel is not zero in the whole batch.
        bound: The larger of both.
    """
    total = num_weights(NUM_INPUTS, NUM_CLASSES)
    first = NUM_INPUTS * HIDDEN_SIZES[0]
    bytes_per_second = best_rate(limits, "a += b, weights") * 1e9
    found = []
    for cell in cells:
        by_shape = best_rate(limits, "products", cell.batch_size)
        peak = by_shape if cell.batch_size > 1 else best_rate(limits, "square product")
        share = 1.0
        if cell.optimizer == "sgd":
            share = best_rate(limits, "pixels not zero", cell.batch_size)
        moved = (total - first + first * share) * _BYTES[cell.optimizer]
        arithmetic = num_train * flops_per_example(HIDDEN_SIZES) / (peak * 1e9)
        bandwidth = math.ceil(num_train / cell.batch_size) * moved / bytes_per_second
        found.append({**cell._asdict(), "arithmetic": arithmetic, "bandwidth": bandwidth})
    table = pd.DataFrame(found, columns=[*CELL, "arithmetic", "bandwidth"])
    return table.assign(bound=table[["arithmetic", "bandwidth"]].max(axis=1, skipna=False))


def fractions(times: pd.DataFrame, bound: pd.DataFrame, column: str = "bound") -> pd.DataFrame:
    """`times` with `fraction`: a limit's seconds over those that were measured."""
    joined = times.merge(bound[[*CELL, column]], on=CELL, how="left")
    return joined.assign(fraction=joined[column] / joined["median"])
