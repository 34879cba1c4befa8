"""What runs recorded of weights and gradients: measures, one number per seed, and figures.

Gradients are those of the mean loss over all training examples (see
`optsweep.training.recording`), so that what they do is the training's doing and not a mini-batch's.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter

from optsweep.report.collection import Collection, Setting, longest
from optsweep.report.curves import seeds_told
from optsweep.report.drawing import (
    INK,
    band,
    epochs,
    legend,
    log_scale,
    panels,
    plain_number,
    styles,
)
from optsweep.report.language import say, sentences
from optsweep.report.outline import Question
from optsweep.report.pictures import Picture
from optsweep.report.settings import label

SIGNAL = "signal"  # the recorded weight whose pixel is most often not black
_MAX_TRACES = 6


def total_norm(collection: Collection, cells: Sequence[str], quantity: str) -> pd.DataFrame:
    """Norm over all parameters, from the norms of each: index epoch, a column per seed."""
    rows = collection.recorded(cells, quantity)
    squares = rows.assign(square=rows["value"] ** 2).groupby(["epoch", "seed"])["square"].sum()
    return np.sqrt(squares).unstack("seed")


def pixel_nonzero(collection: Collection, cells: Sequence[str], weight: str) -> pd.Series:
    """In what fraction of the training images the weight's pixel is not black."""
    rows = collection.recorded(cells, "pixel_nonzero_fraction")
    rows = rows[rows["parameter"] == _named(collection, cells, weight)]
    return rows.set_index("seed")["value"]


def first_moving_epoch(
    collection: Collection, cells: Sequence[str], weight: str, fraction: float = 0.1
) -> pd.Series:
    """The first epoch at which |gradient| is at least a fraction of its largest value.

    Infinite for a gradient that is zero throughout.
    """
    sizes = _traces(collection, cells, weight).abs()
    moving = (sizes >= fraction * sizes.max()) & (sizes > 0)
    return moving.idxmax().where(moving.any(), math.inf)


def gradient_size(collection: Collection, cells: Sequence[str], weight: str) -> pd.Series:
    """Root mean square of a weight's gradient over the epochs."""
    return np.sqrt((_traces(collection, cells, weight) ** 2).mean())


def initial_gradient(collection: Collection, cells: Sequence[str], parameter: str) -> pd.Series:
    """Norm of a parameter's gradient before the first step."""
    rows = collection.recorded(cells, "gradient_norm")
    rows = rows[(rows["epoch"] == 0) & (rows["parameter"] == parameter)]
    return rows.set_index("seed")["value"]


def sign_changes(collection: Collection, cells: Sequence[str], weight: str) -> pd.Series:
    """Share of the epochs at which a gradient's sign turns, where it is not zero."""
    signs = np.sign(_traces(collection, cells, weight))
    turns = (signs * signs.shift() < 0).sum()
    return turns / (signs != 0).sum().clip(lower=2).sub(1)


def settling(collection: Collection, cells: Sequence[str], weight: str) -> pd.Series:
    """Root mean square of the last third of a gradient, relative to its largest value.

    1 if it never moves.
    """
    trace = _traces(collection, cells, weight)
    late = trace.iloc[-max(1, len(trace) // 3) :]
    return (np.sqrt((late**2).mean()) / trace.abs().max()).fillna(1.0)


def _traces(collection: Collection, cells: Sequence[str], weight: str) -> pd.DataFrame:
    """The gradient of a weight: index epoch, a column per seed."""
    rows = collection.recorded(cells, "gradient")
    rows = rows[rows["parameter"] == _named(collection, cells, weight)]
    return rows.pivot(index="epoch", columns="seed", values="value")


def _named(collection: Collection, cells: Sequence[str], weight: str) -> str:
    if weight != SIGNAL:
        return weight
    rows = collection.recorded(cells, "pixel_nonzero_fraction")
    fractions = rows.groupby("parameter")["value"].mean()
    return str(fractions.idxmax()) if len(fractions) else weight


def weight_norms(
    collection: Collection, question: Question, experiments: Sequence[str]
) -> Picture | None:
    """Norm of all weights against epochs, a panel for each learning rate."""
    settings = _recorded(collection, experiments, "weight_norm")
    if not settings:
        return None
    rates = sorted({float(setting.value("lr")) for setting in settings})
    keys = ("optimizer", "weight_decay")
    looks = styles(list(dict.fromkeys(label(setting.facets, keys) for setting in settings)))
    figure = Figure(figsize=(10, 4.0), layout="constrained")
    drawn = panels(figure, len(rates), len(rates))
    for axes, rate in zip(drawn, rates, strict=True):
        shown = [setting for setting in settings if setting.value("lr") == rate]
        for setting in shown:
            name = label(setting.facets, keys)
            norms = total_norm(collection, setting.cells, "weight_norm")
            rows = norms.stack().rename("norm").reset_index()
            band(axes, rows, "epoch", "norm", looks[name], name)
        axes.set_title(f"learning rate {rate:g}: norm of all weights")
        log_scale(axes, "y")
        epochs(axes, longest(shown))
    legend(figure, drawn[0])
    caption = sentences([say("caption.weight_norms"), seeds_told(collection, settings)])
    return Picture(f"{question.id}_weight_norms", figure, caption)


def gradient_norms(
    collection: Collection, question: Question, experiments: Sequence[str]
) -> Picture | None:
    """Norms of gradient, weights and update of every layer against epochs."""
    one = next(iter(_recorded(collection, experiments, "gradient_norm")), None)
    if one is None:
        return None
    figure = Figure(figsize=(10, 3.9), layout="constrained")
    titles = {
        "gradient_norm": "norm of the gradient",
        "weight_norm": "norm of the weights",
        "update_norm": "norm of an epoch's update",
    }
    drawn = panels(figure, 3, 3)
    for axes, (quantity, title) in zip(drawn, titles.items(), strict=True):
        rows = collection.recorded(one.cells, quantity)
        rows = rows[rows["parameter"].str.endswith("weight")]
        names = sorted(rows["parameter"].unique())
        for name, look in styles(names, ordered=True).items():
            told = name.removesuffix(".weight").replace("linear", "layer ")
            band(axes, rows[rows["parameter"] == name], "epoch", "value", look, told)
        axes.set_title(title)
        log_scale(axes, "y")
        epochs(axes, longest([one]))
    legend(figure, drawn[0])
    caption = sentences([say("caption.layer_norms"), seeds_told(collection, [one])])
    return Picture(f"{question.id}_norms", figure, caption)


def gradient_traces(
    collection: Collection, question: Question, experiments: Sequence[str]
) -> Picture | None:
    """The full-data gradients of single weights of the first layer, a line per seed."""
    one = next(iter(_recorded(collection, experiments, "gradient")), None)
    if one is None:
        return None
    rows = collection.recorded(one.cells, "gradient")
    fractions = collection.recorded(one.cells, "pixel_nonzero_fraction")
    bright = fractions.groupby("parameter")["value"].mean()
    names = list(rows["parameter"].unique())[:_MAX_TRACES]
    figure = Figure(figsize=(10, 2.7 * -(-len(names) // 3)), layout="constrained")
    seed_colour = list(styles(["", "seed"], "").values())[1].color
    for axes, name in zip(panels(figure, len(names), 3, sharex=True), names, strict=True):
        traces = rows[rows["parameter"] == name].pivot(
            index="epoch", columns="seed", values="value"
        )
        axes.plot(traces, color=seed_colour, lw=0.7, alpha=0.5)
        axes.plot(traces.median(axis=1), color=INK, lw=1.8)
        axes.axhline(0, color=INK, lw=0.6)
        pixel = name.rpartition(",")[2].rstrip("]")
        share = f", lit in {bright[name]:.1%} of images" if name in bright else ""
        axes.set_title(f"pixel {pixel}{share}", fontsize=9.5)
        axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: plain_number(value)))
        epochs(axes, longest([one]))
    return Picture(f"{question.id}_traces", figure, say("caption.traces"))


def _recorded(collection: Collection, experiments: Sequence[str], quantity: str) -> list[Setting]:
    return [
        setting
        for setting in collection.trained(experiments)
        if len(collection.recorded(setting.cells, quantity))
    ]
