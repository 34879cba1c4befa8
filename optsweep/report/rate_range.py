"""A learning rate range test: its smoothed losses, what they suggest, and their picture."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator

from optsweep.report.drawing import INK, log_scale, spread, style, styles
from optsweep.report.pictures import Picture
from optsweep.report.wording import short

SMOOTHING = 0.9  # of an exponential average over steps, corrected for its beginning
COLUMNS = ("piece", "seed", "step", "lr", "loss", "smoothed_loss")
_NOTICEABLE = 0.1  # of the most that the loss fell
_LEAST = 0.02  # of the loss; by less it also changes from batch to batch
_MARK = "#d55e00"


class Suggestion(NamedTuple):
    """An interval of rates for a search.

    Attributes:
        low: The lowest rate of the first piece whose loss falls noticeably.
        best: Where the smoothed loss is lowest.
        high: The last rate, going up from there, with which the loss is below the beginning's.
        is_open: Whether the loss was still below it at the end of the range.
    """

    low: float
    best: float
    high: float
    is_open: bool


def smoothed(losses: np.ndarray, smoothing: float = SMOOTHING) -> np.ndarray:
    """Exponential averages over the last axis, corrected as Adam's; NaN from a NaN on.

    >>> smoothed(np.array([1.0, 1.0, 3.0]), 0.5).round(4).tolist()
    [1.0, 1.0, 2.1429]
    """
    found, average = np.empty_like(losses), np.zeros(losses.shape[:-1])
    for step in range(losses.shape[-1]):
        average = smoothing * average + (1 - smoothing) * losses[..., step]
        found[..., step] = average / (1 - smoothing ** (step + 1))
    return found


def table(rates: np.ndarray, losses: np.ndarray, seeds: range, smoothing: float) -> pd.DataFrame:
    """What was measured: a row for each piece, seed and step.

    Args:
        rates: (P, T).
        losses: (P, S, T).
        seeds: The S seeds.
        smoothing: See `smoothed`.
    """
    num_pieces, num_seeds, num_steps = losses.shape
    pieces, places, steps = np.indices(losses.shape)
    columns = (
        *(pieces, np.array(seeds)[places], steps),
        *(np.broadcast_to(rates[:, None], losses.shape), losses, smoothed(losses, smoothing)),
    )
    flat = (np.asarray(column).reshape(num_pieces * num_seeds * num_steps) for column in columns)
    return pd.DataFrame(dict(zip(COLUMNS, flat, strict=True)))


def suggest(measured: pd.DataFrame) -> Suggestion | None:
    """Read an interval off the median over seeds of the smoothed losses; None: no rate helps.

    A network that has diverged has an infinite loss.
    """
    curve = _curve(measured)
    start = float(curve.loc[curve["step"] == 0, "loss"].median())
    finite = curve[np.isfinite(curve["loss"])]
    fallen = start - float(finite["loss"].min()) if len(finite) else 0.0
    if not fallen > _LEAST * start:
        return None
    best = finite.loc[finite["loss"].idxmin()]
    lows = curve.groupby("piece")["loss"].min()
    noticed = lows.index[start - lows >= _NOTICEABLE * fallen]
    low = float(curve.loc[curve["piece"] == noticed.min(), "lr"].min())
    if curve["piece"].nunique() == 1:  # Smith's own: where the loss begins to fall
        falling = curve[start - curve["loss"] >= _NOTICEABLE * fallen]
        low = float(falling["lr"].min())
    above = curve[curve["lr"] >= best["lr"]]
    lost = above[~(above["loss"] < start)]
    # The first steps of a piece are at the beginning's loss, whatever the rate.
    lost = lost[(lost["step"] > 0) & ~np.isclose(lost["loss"], start, rtol=0.02)]
    ended = above[above["lr"] < lost["lr"].min()] if len(lost) else above
    return Suggestion(low, float(best["lr"]), float(ended["lr"].max()), not len(lost))


def _curve(measured: pd.DataFrame) -> pd.DataFrame:
    """Median over seeds of the smoothed loss at every rate: piece, step, lr, loss."""
    filled = measured.assign(loss=measured["smoothed_loss"].fillna(math.inf))
    keys = ["piece", "step", "lr"]
    return filled.groupby(keys)["loss"].median().reset_index()


def in_words(found: Suggestion | None) -> str:
    """A suggestion, with the override of a search."""
    if found is None:
        return "no rate in this range makes the loss fall"
    low, high = (f"{value:.2g}" for value in (found.low, found.high))
    told = (
        f"lowest loss at {short(found.best, digits=2)}; for a search: "
        f"optimizer.lr='tag(log,interval({low},{high}))'"
    )
    return told + ("; it may go further up, for the range ended first" if found.is_open else "")


def draw(tested: Mapping[str, tuple[pd.DataFrame, Suggestion | None]], smoothing: float) -> Picture:
    """Smoothed loss against the rate, a panel for each cell, with what is suggested."""
    with style():
        columns = min(3, len(tested))
        rows = -(-len(tested) // columns)
        width = 7.5 if columns == 1 else 4.2 * columns
        figure = Figure(figsize=(width, 3.4 * rows + 0.3), layout="constrained")
        grid = figure.subplots(rows, columns, squeeze=False)
        for axes in grid.flat[len(tested) :]:
            axes.set_visible(False)
        for axes, (name, (measured, found)) in zip(grid.flat, tested.items(), strict=False):
            number = measured["piece"].nunique()
            looks = styles([str(piece) for piece in range(number)], ordered=number > 1)
            for piece, its in measured.groupby("piece"):
                quartiles = its.groupby("lr")["smoothed_loss"].quantile([0.25, 0.5, 0.75]).unstack()
                quartiles = quartiles.dropna()
                look = looks[str(piece)]
                plain = type(look)(look.color, "-", "")
                spread(axes, quartiles.index, quartiles, plain)
            start = float(measured.loc[measured["step"] == 0, "loss"].median())
            lowest = float(measured["smoothed_loss"].min())
            room = max(start - lowest, 0.05 * start)
            axes.axhline(start, color=INK, lw=0.8, ls=":")
            if found is not None:
                axes.axvspan(found.low, found.high, color=_MARK, alpha=0.12, lw=0)
                axes.axvline(found.best, color=_MARK, lw=1)
            axes.set(title=name, xlabel="learning rate", ylabel="smoothed loss")
            axes.set_ylim(lowest - 0.15 * room, start + 0.8 * room)
            axes.set_xlim(measured["lr"].min(), measured["lr"].max())
            log_scale(axes, "x")
            axes.xaxis.set_major_locator(LogLocator(numticks=6))
    caption = (
        f"Loss of each step's batch, smoothed by an exponential average of {smoothing:g}, while "
        "the rate grows at every step; each line begins with the untrained network, whose loss is "
        "dotted. Shaded: suggested for a search; its line: the lowest loss."
    )
    return Picture("rate_range", figure, caption)
