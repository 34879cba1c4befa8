"""The picture of one cell: loss and error against epochs, median and band over its seeds."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
from matplotlib.figure import Figure

from optsweep.report.drawing import band, epochs, log_scale, style, styles
from optsweep.runs import HISTORY_FILE


def draw_curves(directory: Path, picture: Path) -> None:
    """Draw a finished cell's `history.csv` into `picture`."""
    history = pd.read_csv(directory / HISTORY_FILE)
    history = history.assign(
        **{f"{split}_error": 1 - history[f"{split}_accuracy"] for split in ("train", "val", "test")}
    )
    splits = [name for name in ("train", "val", "test") if history[f"{name}_loss"].notna().any()]
    with style():
        figure = Figure(figsize=(9, 3.6), layout="constrained")
        loss, error = figure.subplots(1, 2)
        for split, looks in styles(splits).items():
            band(loss, history, "epoch", f"{split}_loss", looks, split)
            band(error, history, "epoch", f"{split}_error", looks, split)
        loss.set(ylabel="cross entropy")
        log_scale(loss, "y")
        error.set(ylabel="error (fraction)", ylim=(0, None))
        for axes in (loss, error):
            epochs(axes, history["epoch"].max())
        error.legend()
        num_seeds = history["seed"].nunique()
        seeds = "one seed" if num_seeds == 1 else f"median and quartiles of {num_seeds} seeds"
        figure.suptitle(f"{directory.resolve().name}: {seeds}", fontsize="medium")
        figure.savefig(picture, dpi=150)
