"""Figures of what diagnoses found: stability, spectra, forks, verdicts, pixels with signal."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.colors import ListedColormap
from matplotlib.figure import Figure

from optsweep import runs
from optsweep.diagnosis.readings import BASE, FREED, KICKED, PROJECTED
from optsweep.diagnosis.verdicts import VERDICTS
from optsweep.report.collection import Collection, Setting
from optsweep.report.diagnosis import described, diagnosed, found, gains, kind_of
from optsweep.report.drawing import COLOURS, FAINT, INK, Style, band, log_scale, panels, styles
from optsweep.report.language import say, sentences
from optsweep.report.outline import Question
from optsweep.report.pictures import Picture
from optsweep.report.statistics import mean_interval
from optsweep.report.wording import count

_LEAST_WEIGHT = 1e-6  # of a density's bin that is drawn
_NUM_BINS = 80
_DIRECTIONS = (PROJECTED, FREED, KICKED)  # forks that change where a step leads
_WORST_GAIN = -0.5  # what is below is drawn there
# Of each verdict, in the timeline: a colour, and a letter for who sees no colours.
_COLOURS = dict(zip(VERDICTS, [*list(COLOURS)[1:], "#e4e6ea"], strict=False))
_ALPHA = 0.75  # so that letters can be read
_LETTERS = dict(zip(VERDICTS, "ELNSPFM0+?", strict=True))


def stability(
    collection: Collection, question: Question, experiments: Sequence[str]
) -> Picture | None:
    """Sharpness by the rate's limit, the largest step, and the noise scale, against epochs."""
    settings = diagnosed(collection, experiments)[:1]
    if not settings:
        return None
    (one,) = settings
    readings = found(collection, one.cells, runs.READINGS_FILE)
    figure = Figure(figsize=(10, 3.8), layout="constrained")
    axes = panels(figure, 3, 3)
    looks = styles(["lr λ of all images", "batch sharpness"])
    for (name, look), quantity in zip(looks.items(), ("sharpness", "stability"), strict=True):
        band(axes[0], _of(readings, quantity), "epoch", "value", look, name)
    axes[0].set(title="sharpness by the rate's limit", ylim=(0, None))
    axes[0].legend(loc="lower right")
    band(axes[1], _of(readings, "critical_multiple"), "epoch", "value", next(iter(looks.values())))
    axes[1].set(title="largest step, by the one taken")
    band(axes[2], _of(readings, "noise_scale"), "epoch", "value", next(iter(looks.values())))
    axes[2].set(title="noise scale, images")
    lines = (1.0, 1.0, float(_of(readings, "batch_size")["value"].median()))
    for each, line, told in zip(axes, lines, ("the edge", "the step", "the batch"), strict=True):
        each.axhline(line, color=INK, lw=1, ls="--")
        each.annotate(
            told, (1, line), xycoords=("axes fraction", "data"), xytext=(-2, 3),
            textcoords="offset points", ha="right", fontsize=8.5,
        )  # fmt: skip
        each.set_xlabel("epoch")
    for each in axes[1:]:
        if all((np.asarray(line.get_ydata(), dtype=float) > 0).any() for line in each.lines):
            log_scale(each, "y")
    told = say("caption.stability", described=described(one))
    caption = sentences([told, _seeds_told(collection, one)])
    return Picture(f"{question.id}_stability", figure, caption)


def spectra(
    collection: Collection, question: Question, experiments: Sequence[str]
) -> Picture | None:
    """Densities of the Hessian's eigenvalues at the start, the middle and the end."""
    settings = diagnosed(collection, experiments)[:1]
    if not settings:
        return None
    (one,) = settings
    rows = found(collection, one.cells, runs.SPECTRA_FILE)
    readings = found(collection, one.cells, runs.READINGS_FILE)
    chosen = _start_middle_end(rows)
    rows = rows[rows["epoch"].isin(chosen)]
    limit = (_values(readings, "largest") / _values(readings, "sharpness")).median()
    is_known = not math.isnan(limit)
    largest = max(rows["value"].max(), limit) if is_known else rows["value"].max()
    bins = np.linspace(rows["value"].min(), largest + 1e-9, _NUM_BINS + 1)
    num_seeds = rows["seed"].nunique()
    figure = Figure(figsize=(10, 3.4), layout="constrained")
    drawn = panels(figure, len(chosen), 3, sharey=True, sharex=True)
    for axes, epoch in zip(drawn, chosen, strict=True):
        at = rows[rows["epoch"] == epoch]
        nodes = at[at["kind"] == "density"]
        shares, _ = np.histogram(nodes["value"], bins, weights=nodes["weight"] / num_seeds)
        axes.stairs(np.maximum(shares, _LEAST_WEIGHT), bins, fill=True, color="#0072b2", alpha=0.5)
        extremes = at[at["kind"] == "eigenvalue"]["value"]
        axes.plot(extremes, np.full(len(extremes), 2.0), "|", color="#d55e00", markersize=9,
                  markeredgewidth=0.8)  # fmt: skip
        if is_known:
            axes.axvline(limit, color=INK, lw=1, ls="--")
        axes.set(title=f"epoch {epoch}", xlabel="eigenvalue", ylim=(_LEAST_WEIGHT, 5))
        log_scale(axes, "y")
    drawn[0].set_ylabel("share of all eigenvalues")
    seeds = count(num_seeds, "seed")
    caption = say("caption.spectra", described=described(one), seeds=seeds)
    return Picture(f"{question.id}_spectra", figure, caption)


def fork_curves(
    collection: Collection, question: Question, experiments: Sequence[str]
) -> Picture | None:
    """What becomes of the loss under other rates, batches and directions, and what each gains."""
    settings = diagnosed(collection, experiments)[:1]
    if not settings:
        return None
    (one,) = settings
    rows = found(collection, one.cells, runs.FORKS_FILE)
    readings = found(collection, one.cells, runs.READINGS_FILE)
    chosen = _start_middle_end(rows)
    names = list(rows["fork"].unique())
    directions = [name for name in names if name in _DIRECTIONS]
    kinds = {
        "other rates and batches": [name for name in names if name not in directions],
        "other directions": [BASE, *directions],
    }
    kinds = {kind: ways for kind, ways in kinds.items() if len(ways) > 1}
    figure = Figure(figsize=(10, 4.3 * len(kinds)), layout="constrained")
    parts = figure.subfigures(len(kinds), 1, squeeze=False)[:, 0]
    for part, (kind, ways) in zip(parts, kinds.items(), strict=True):
        looks = styles(ways, BASE)
        above, below = part.subfigures(2, 1, squeeze=False, height_ratios=(1.25, 1))[:, 0]
        _draw_losses(above.subplots(1, len(chosen), squeeze=False)[0], rows, chosen, looks, kind)
        axes = below.subplots()
        _draw_gains(axes, readings, [name for name in ways if name != BASE], looks)
        handles = [axes.plot([], [], **vars(look))[0] for look in looks.values()]
        below.legend(handles, list(looks), loc="outside lower center", ncols=len(looks))
    caption = say(
        "caption.forks",
        described=described(one),
        ways=len(names),
        seeds=count(rows["seed"].nunique(), "seed"),
        worst=f"{-_WORST_GAIN:.0%}",
    )
    return Picture(f"{question.id}_forks", figure, caption)


def _draw_losses(
    panels_of: Sequence[Axes],
    rows: pd.DataFrame,
    epochs: Sequence[int],
    looks: Mapping[str, Style],
    kind: str,
) -> None:
    """Train loss along some forks, a panel for each checkpoint."""
    for axes, epoch in zip(panels_of, epochs, strict=True):
        at = rows[rows["epoch"] == epoch]
        for name, look in looks.items():
            losses = at[at["fork"] == name].groupby("step")["train_loss"].median()
            width = 2.4 if name == BASE else 1.3
            axes.plot(losses.index, losses, color=look.color, ls=look.linestyle, lw=width)
        axes.set(title=f"{kind}, from epoch {epoch}", xlabel="step")
        base = at[at["fork"] == BASE]["train_loss"].replace([np.inf, -np.inf], np.nan).dropna()
        if len(base):
            axes.set_ylim(0.6 * base.min(), 1.25 * base.max())
    panels_of[0].set_ylabel("train loss")


def _draw_gains(
    axes: Axes, readings: pd.DataFrame, names: Sequence[str], looks: Mapping[str, Style]
) -> None:
    """What each fork gains at each checkpoint, side by side."""
    epochs = sorted(readings["epoch"].unique())
    for index, name in enumerate(names):
        table = gains(readings, name).reindex(epochs)
        of_seeds = [mean_interval(table.loc[epoch].dropna()) for epoch in epochs]
        # (3, epochs): the mean, and the ends of its interval; of one seed there is none.
        told = np.array([each[:3] for each in of_seeds]).T
        middle, low, high = np.clip(np.where(np.isnan(told), told[0], told), _WORST_GAIN, None)
        axes.errorbar(
            np.arange(len(epochs)) + 0.09 * (index - (len(names) - 1) / 2),
            100 * middle,
            100 * np.array([middle - low, high - middle]),
            color=looks[name].color,
            marker=looks[name].marker,
            ls="none",
            lw=1.1,
        )
    axes.axhline(0, color=INK, lw=1)
    axes.set_xticks(range(len(epochs)), [str(epoch) for epoch in epochs])
    axes.set(xlabel="checkpoint, epoch", ylabel="gain, % of the loss")
    axes.grid(visible=False, axis="x")


def verdict_timeline(
    collection: Collection, question: Question, experiments: Sequence[str]
) -> Picture | None:
    """The verdicts of each seed of the setting with most seeds, and of each other kind of cell."""
    settings = diagnosed(collection, experiments)
    if not settings:
        return None
    first, *others = settings
    seeds = found(collection, first.cells, runs.VERDICTS_FILE).pivot(
        index="seed", columns="epoch", values="verdict"
    )
    rows, columns, cells = _kinds(collection, others)
    heights = [0.27 * len(seeds) + 0.5, 0.27 * len(rows) + 0.9] if others else [0.27 * len(seeds)]
    figure = Figure(figsize=(10, sum(heights) + 1.3), layout="constrained")
    drawn = figure.subplots(len(heights), 1, squeeze=False, height_ratios=heights)[:, 0]
    seen = _draw_verdicts(drawn[0], seeds.to_numpy())
    drawn[0].set_yticks(range(len(seeds)), [f"seed {seed}" for seed in seeds.index])
    drawn[0].set_xticks(range(seeds.shape[1]), [str(epoch) for epoch in seeds.columns])
    drawn[0].set(title=f"each seed: {described(first)}", xlabel="epoch")
    if others:
        seen |= _draw_verdicts(drawn[1], cells)
        drawn[1].set_yticks(range(len(rows)), rows)
        width = cells.shape[1] // len(columns)
        middles = [place * width + (width - 2) / 2 for place in range(len(columns))]
        drawn[1].set_xticks(middles, columns)
        drawn[1].set(title="other kinds of cells, each from the start to the end")
    for verdict in VERDICTS:
        if verdict in seen:
            name = f"{_LETTERS[verdict]} {verdict}"
            drawn[0].plot(
                [], [], "s", markersize=9, color=_COLOURS[verdict], alpha=_ALPHA, label=name
            )
    figure.legend(loc="outside lower center", ncols=5)
    return Picture(f"{question.id}_verdicts", figure, say("caption.verdicts"))


def _kinds(
    collection: Collection, settings: Sequence[Setting]
) -> tuple[list[str], list[str], np.ndarray]:
    """Verdicts of kinds of cells: a row per optimizer and rate, a block of columns per other."""
    blocks: dict[tuple[str, str], list[str]] = {}
    for setting in settings:
        kind = kind_of(setting)
        row = f"{kind['optimizer']}, lr {kind['lr']}"
        column = f"{kind['init']}\n{kind['hidden layers']} layers\nbatch {kind['batch']}"
        verdicts = found(collection, setting.cells, runs.VERDICTS_FILE)
        blocks[row, column] = [
            Counter(of["verdict"]).most_common(1)[0][0] for _, of in verdicts.groupby("epoch")
        ]
    rows, columns = (list(dict.fromkeys(key[place] for key in blocks)) for place in (0, 1))
    width = max((len(block) for block in blocks.values()), default=0) + 1  # and a gap
    cells = np.full((len(rows), width * len(columns)), None, dtype=object)
    for (row, column), block in blocks.items():
        start = width * columns.index(column)
        cells[rows.index(row), start : start + len(block)] = block
    return rows, columns, cells


def _draw_verdicts(axes: Axes, cells: np.ndarray) -> set[str]:
    """Colour each cell by its verdict, with its letter; returns the verdicts there are."""
    codes = np.full(cells.shape, np.nan)
    for place, verdict in np.ndenumerate(cells):
        if isinstance(verdict, str):
            codes[place] = VERDICTS.index(verdict)
            axes.text(place[1], place[0], _LETTERS[verdict], ha="center", va="center",
                      fontsize=8, color="#1b1b1f")  # fmt: skip
    colours = ListedColormap([_COLOURS[verdict] for verdict in VERDICTS])
    axes.imshow(codes, aspect="auto", cmap=colours, vmin=0, vmax=len(VERDICTS) - 1, alpha=_ALPHA)
    axes.grid(visible=False)
    axes.spines[:].set_visible(False)
    axes.tick_params(length=0)
    return {verdict for verdict in cells.flat if isinstance(verdict, str)}


def pixel_map(
    collection: Collection, question: Question, experiments: Sequence[str]
) -> Picture | None:
    """Where images are lit, how far each pixel's weights move, and when they are half there."""
    settings = diagnosed(collection, experiments)
    rows = _pixels(collection, settings[0]) if settings else pd.DataFrame()
    if rows.empty:
        return None
    lit = rows.groupby("pixel")["nonzero_fraction"].first()
    moved = rows.pivot_table(index="epoch", columns="pixel", values="moved")
    last = moved.iloc[-1]
    half = (moved >= 0.5 * last).idxmax().where(last > 0)
    figure = Figure(figsize=(10, 3.2), layout="constrained")
    maps = {
        "share of images in which the pixel is lit": lit,
        "how far its weights move": last,
        "epoch at which half of the way is gone": half,
    }
    for axes, (title, values) in zip(panels(figure, 3, 3), maps.items(), strict=True):
        _draw_map(figure, axes, values, title)
    agreement = lit.corr(last, method="spearman")
    told = described(settings[0])
    caption = say("caption.pixels", described=told, agreement=f"{agreement:.2f}")
    return Picture(f"{question.id}_pixels", figure, caption)


def signal_map(
    collection: Collection, question: Question, experiments: Sequence[str]
) -> Picture | None:
    """Where images are lit, with the pixels whose weights were recorded."""
    recorded = [
        setting
        for setting in collection.trained(experiments)
        if len(collection.recorded(setting.cells, "pixel_nonzero_fraction"))
    ]
    if not recorded:
        return None
    (one, *_) = recorded
    fractions = collection.recorded(one.cells, "pixel_nonzero_fraction")
    fractions = fractions.groupby("parameter")["value"].mean()
    same = [
        setting
        for setting in diagnosed(collection, list(collection.experiments))
        if setting.facets["dataset"] == one.facets["dataset"]
    ]
    rows = next((found_at for each in same if len(found_at := _pixels(collection, each))), None)
    if rows is None:
        return None
    lit = rows.groupby("pixel")["nonzero_fraction"].first()
    side = round(len(lit) ** 0.5)
    figure = Figure(figsize=(10, 4.4), layout="constrained")
    axes, beside = figure.subplots(1, 2, width_ratios=(1, 1.1))
    _draw_map(figure, axes, lit, "share of images in which the pixel is lit")
    pixels = [int(name.rpartition(",")[2].rstrip("]")) for name in fractions.index]
    order = np.argsort(pixels)
    for pixel in (each for each in pixels if each < len(lit)):
        axes.plot(pixel % side, pixel // side, "s", color="none", markeredgecolor="#d55e00",
                  markersize=7, markeredgewidth=1.6)  # fmt: skip
    beside.barh([f"pixel {pixels[index]}" for index in order], fractions.to_numpy()[order],
                color="#0072b2", alpha=0.7)  # fmt: skip
    for place, index in enumerate(order):
        beside.annotate(f"{fractions.iloc[index]:.1%}", (fractions.iloc[index], place),
                        xytext=(4, 0), textcoords="offset points", va="center")  # fmt: skip
    beside.set(title="of the recorded weights (squares in the map)", xlim=(0, 1.12))
    beside.grid(visible=False, axis="y")
    beside.invert_yaxis()
    return Picture(f"{question.id}_signal", figure, say("caption.signal"))


def _pixels(collection: Collection, setting: Setting) -> pd.DataFrame:
    """The rows of a setting's pixels, empty if they make no square."""
    rows = found(collection, setting.cells, runs.PIXELS_FILE)
    side = round(rows["pixel"].nunique() ** 0.5) if len(rows) else 0
    return rows if side and side**2 == rows["pixel"].nunique() else pd.DataFrame()


def _draw_map(figure: Figure, axes: Axes, values: pd.Series, title: str) -> None:
    side = round(len(values) ** 0.5)
    shown = axes.imshow(values.to_numpy().reshape(side, side), cmap="viridis")
    axes.set(title=title, xticks=[], yticks=[])
    axes.grid(visible=False)
    bar = figure.colorbar(shown, ax=axes, shrink=0.8)
    bar.outline.set_edgecolor(FAINT)


def _of(readings: pd.DataFrame, quantity: str) -> pd.DataFrame:
    return readings[readings["quantity"] == quantity]


def _values(readings: pd.DataFrame, quantity: str) -> pd.Series:
    return _of(readings, quantity).set_index(["seed", "epoch"])["value"]


def _seeds_told(collection: Collection, setting: Setting) -> str:
    num_seeds = found(collection, setting.cells, runs.VERDICTS_FILE)["seed"].nunique()
    return say("caption.quartiles", n=num_seeds)


def _start_middle_end(rows: pd.DataFrame) -> list[int]:
    epochs = sorted(rows["epoch"].unique())
    return list(dict.fromkeys(int(epochs[i]) for i in (0, len(epochs) // 2, len(epochs) - 1)))
