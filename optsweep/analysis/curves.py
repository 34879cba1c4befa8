"""The picture of one cell: loss and error against epochs, median and band over its seeds."""

from __future__ import annotations

from pathlib import Path

import matplotlib as mpl
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from optsweep.runs import HISTORY_FILE

# Okabe & Ito's colours: told apart by colour-blind people and in grey.
_COLOURS = {"train": "#0072B2", "val": "#009E73", "test": "#D55E00"}
_DASHES = {"train": "-", "val": ":", "test": "--"}


def draw_curves(directory: Path, picture: Path) -> None:
    """Draw a finished cell's `history.csv` into `picture`."""
    history = pd.read_csv(directory / HISTORY_FILE)
    figure = Figure(figsize=(9, 3.6), layout="constrained")
    loss, error = figure.subplots(1, 2)
    for split in _COLOURS:
        if history[f"{split}_loss"].notna().any():
            _band(loss, history, f"{split}_loss", split)
            _band(error, history.eval(f"error = 1 - {split}_accuracy"), "error", split)
    loss.set(ylabel="cross entropy", yscale="log")
    error.set(ylabel="error (fraction)", ylim=(0, None))
    num_seeds = history["seed"].nunique()
    for axes in (loss, error):
        axes.set(xlabel="epoch", xlim=(0, max(1, history["epoch"].max())))
        axes.spines[["top", "right"]].set_visible(False)
        axes.grid(color="0.9")
    error.legend(frameon=False)
    seeds = "one seed" if num_seeds == 1 else f"median and quartiles of {num_seeds} seeds"
    figure.suptitle(f"{directory.resolve().name}: {seeds}", fontsize="medium")
    with mpl.rc_context({"savefig.dpi": 150}):
        figure.savefig(picture)


def _band(axes: Axes, history: pd.DataFrame, column: str, split: str) -> None:
    quartiles = history.groupby("epoch")[column].quantile([0.25, 0.5, 0.75]).unstack()
    axes.plot(quartiles.index, quartiles[0.5], _DASHES[split], color=_COLOURS[split], label=split)
    if history["seed"].nunique() > 1:
        axes.fill_between(
            quartiles.index,
            quartiles[0.25],
            quartiles[0.75],
            color=_COLOURS[split],
            alpha=0.2,
            lw=0,
        )
