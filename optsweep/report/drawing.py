"""How figures look: ink, colours, dashes, markers, bands.

Figures have to be told apart in grey and by colour-blind people, so every line has a colour,
a dash and a marker of its own. Colours are few and known, so that a page can exchange them for
others in the dark.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import matplotlib as mpl
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullFormatter
from numpy.typing import ArrayLike

from optsweep.report.settings import phrase_value

INK, FAINT, PAPER = "#1b1b1f", "#dcdce2", "#fffffe"
# Okabe & Ito's colours without the yellow, which is too light for lines; the first is for the
# setting that others are compared with. Each with its counterpart on dark paper.
COLOURS = {
    INK: "currentColor",
    "#0072b2": "#4aa8e0",
    "#d55e00": "#ff8a3d",
    "#009e73": "#2fc79b",
    "#cc79a7": "#e79cc4",
    "#e69f00": "#f2b632",
    "#56b4e9": "#8fd0f5",
    "#8f6bb8": "#b596da",
    "#8c5a2b": "#c99560",
    "#6f7783": "#a3acb9",
}
# For values that have an order, from dark to light, in grey too (after matplotlib's plasma).
ORDERED = {
    "#3b1f8f": "#9d86ff",
    "#7a1fa2": "#bd82f2",
    "#b12a90": "#d97fd0",
    "#cc4778": "#ee86ad",
    "#e16462": "#ff9a90",
    "#ee8147": "#ffb27d",
    "#f2a23a": "#ffd08a",
}
# Of lines beyond those that can be told apart.
GREY = "#bcbcc6"
MAX_LINES = 6
DARK = COLOURS | ORDERED | {GREY: "#5a5c66"}
# What a page calls them.
COLOUR_NAMES = {colour: f"c{colour[1:]}" for colour in DARK if colour != INK}
DASHES = (
    "-",
    "--",
    "-.",
    ":",
    (0, (5, 1, 1, 1, 1, 1)),
    (0, (8, 2)),
    (0, (1, 2)),
    (0, (3, 1, 1, 1)),
)
MARKERS = ("o", "s", "^", "D", "v", "P", "X", "*", "<", ">")
HEATMAP = "crest_r"  # light is better, and text on it can be read
QUARTILES = (0.25, 0.5, 0.75)


@dataclass(frozen=True)
class Style:
    """How one setting is drawn."""

    color: str
    linestyle: Any
    marker: str

    @property
    def is_grey(self) -> bool:
        """Whether it is not told apart from others."""
        return self.color == GREY


def styles(
    names: Sequence[str],
    baseline: str | None = None,
    ordered: bool = False,
    ranked: Sequence[str] = (),
) -> dict[str, Style]:
    """A style for every name; the baseline is drawn in ink.

    Of more than `MAX_LINES`, all but so many are grey: shown are the baseline, and others spread
    evenly from the first to the last.

    Args:
        names: In the order of the legend.
        baseline: The one that others are compared with.
        ordered: Whether the names have an order, which colours then show.
        ranked: The same names from the best to the worst, to spread over; empty: as they are.
    """
    shown = _spread_over(ranked or names, baseline) if len(names) > MAX_LINES else names
    others = [name for name in names if name != baseline and name in shown]
    colours = list(ORDERED) if ordered else list(COLOURS)[1:]
    if ordered and 1 < len(others) <= len(colours):  # spread over the whole range
        places = [round(i * (len(colours) - 1) / (len(others) - 1)) for i in range(len(others))]
        colours = [colours[place] for place in places]
    found = {}
    for index, name in enumerate(others, start=1):
        dash, marker = DASHES[index % len(DASHES)], MARKERS[index % len(MARKERS)]
        found[name] = Style(colours[(index - 1) % len(colours)], dash, marker)
    if baseline is not None:
        found[baseline] = Style(INK, DASHES[0], MARKERS[0])
    return {name: found.get(name, Style(GREY, "-", "")) for name in names}


def _spread_over(names: Sequence[str], baseline: str | None) -> list[str]:
    """The baseline and others, evenly from the first to the last, `MAX_LINES` in all."""
    others = [name for name in names if name != baseline]
    num = MAX_LINES - (baseline is not None)
    places = {round(i * (len(others) - 1) / (num - 1)) for i in range(num)}
    shown = [others[place] for place in sorted(places)]
    return shown if baseline is None else [*shown, baseline]


def spread(
    axes: Axes,
    places: ArrayLike,
    quartiles: ArrayLike,
    look: Style,
    label: str = "",
    markevery: int = 1,
) -> None:
    """A line of medians in the band between the quartiles.

    Args:
        axes: Where to draw.
        places: n places on the x axis.
        quartiles: (n, 3): lower quartile, median and upper quartile at each.
        look: Of the line; the band has its colour.
        label: In the legend.
        markevery: Only every so many places have a marker.
    """
    low, median, high = np.asarray(quartiles, dtype=float).T
    if look.is_grey:
        axes.plot(places, median, color=look.color, lw=1.0, zorder=1.5)
        return
    axes.plot(places, median, **vars(look), markevery=markevery, label=label)
    axes.fill_between(places, low, high, color=look.color, alpha=0.18, lw=0)


def band(axes: Axes, rows: pd.DataFrame, x: str, y: str, look: Style, label: str = "") -> None:
    """Median and interquartile band over seeds of `y` at each epoch, against the median of `x`."""
    quartiles = rows.groupby("epoch")[y].quantile(list(QUARTILES)).unstack().dropna()
    places = rows.groupby("epoch")[x].median().reindex(quartiles.index)
    spread(axes, places, quartiles, look, label, max(1, len(places) // 5))
    gone = rows.loc[rows[y].isna(), "epoch"]
    if len(gone) and len(quartiles):  # a cross where the first seed diverged
        last = quartiles[0.5].loc[: gone.min()].iloc[-1]
        at = rows.loc[rows["epoch"] == gone.min(), x].median()
        axes.plot([at], [last], marker="x", color=look.color, markersize=9, markeredgewidth=2)


def log_scale(axes: Axes, which: str) -> None:
    """A logarithmic axis, "x" or "y", with plain numbers, more of them the shorter it is."""
    axes.set(**{f"{which}scale": "log"})
    axis: Axis = getattr(axes, f"{which}axis")
    low, high = sorted(getattr(axes, f"get_{which}lim")())
    ratio = high / low
    few, some, many = (1.0,), (1.0, 2.0, 5.0), (1.0, 1.5, 2.0, 3.0, 4.0, 5.0, 7.0)
    plain = ratio > 2  # else the whole of the axis is between two numbers of this kind
    if plain:
        ticks = few if ratio > 300 else some if ratio > 8 else many
        axis.set_major_locator(LogLocator(subs=ticks, numticks=99))
    else:
        axis.set_major_locator(MaxNLocator(5))
    axis.set_major_formatter(FuncFormatter(lambda value, _: plain_number(float(value))))
    axis.set_minor_formatter(NullFormatter())


def plain_number(value: float) -> str:
    """A number on an axis.

    >>> plain_number(60000.0), plain_number(0.001), plain_number(1e-5), plain_number(0.30000001)
    ('60,000', '0.001', '1e-5', '0.3')
    """
    return f"{value:,.0f}" if abs(value) >= 1000 else phrase_value(float(value))


def epochs(axes: Axes, last: int) -> None:
    """An axis of epochs: whole numbers from 0."""
    axes.set(xlabel="epoch", xlim=(0, max(1, last)))
    axes.xaxis.set_major_locator(MaxNLocator(nbins=6, integer=True))


def without_start(axes: Axes) -> None:
    """Let the untrained network's score, at epoch 0, be above the panel.

    What grows to more than twice that leaves it too, or one line would hide all others.
    """
    lines = [np.asarray(line.get_ydata(), float) for line in axes.lines]
    values = np.concatenate([*(line[1:] for line in lines), [np.nan]])
    if np.isfinite(values).any():
        low, high = np.nanmin(values), np.nanmax(values[values < math.inf])
        untrained = max((line[0] for line in lines if len(line) > 1), default=math.inf)
        if low < untrained < math.inf:
            high = min(high, 2 * untrained)
        axes.set_ylim(low / (high / low) ** 0.06 / 1.02, high * (high / low) ** 0.08 * 1.02)


def panels(figure: Figure, count: int, columns: int, **shared: Any) -> list[Axes]:
    """So many panels in rows of at most so many columns; what is left of the last row is empty."""
    columns = min(columns, count)
    grid = figure.subplots(-(-count // columns), columns, squeeze=False, **shared)
    for axes in grid.flat[count:]:
        axes.set_visible(False)
    return list(grid.flat[:count])


def legend(figure: Figure, axes: Axes, title: str = "") -> None:
    """One legend below all panels."""
    handles, labels = axes.get_legend_handles_labels()
    longest = max((len(label) for label in labels), default=0)
    columns = max(1, min(len(labels), int(125 / (longest + 8)), 5))
    figure.legend(handles, labels, loc="outside lower center", ncols=columns, title=title or None)


@contextlib.contextmanager
def style() -> Iterator[None]:
    """Matplotlib's settings for all figures."""
    looks: dict[Any, Any] = {
        "font.size": 10,
        "axes.labelsize": 10,
        "xtick.labelsize": 9,
        "ytick.labelsize": 9,
        "legend.fontsize": 9.5,
        "text.color": INK,
        "axes.labelcolor": INK,
        "axes.edgecolor": INK,
        "axes.titlesize": 10.5,
        "axes.titlelocation": "left",
        "axes.linewidth": 0.8,
        "axes.grid": True,
        "axes.axisbelow": True,
        "axes.facecolor": "none",
        "axes.spines.top": False,
        "axes.spines.right": False,
        "axes.unicode_minus": True,
        "grid.color": FAINT,
        "grid.linewidth": 0.7,
        "xtick.color": INK,
        "ytick.color": INK,
        "xtick.direction": "out",
        "xtick.major.size": 3,
        "ytick.major.size": 3,
        "xtick.minor.size": 0,
        "ytick.minor.size": 0,
        "lines.linewidth": 1.6,
        "lines.markersize": 4,
        "lines.markeredgewidth": 0,
        "figure.facecolor": PAPER,
        "savefig.facecolor": PAPER,
        "legend.frameon": False,
        "legend.handlelength": 3.2,
        "font.family": "sans-serif",
        "font.sans-serif": ["DejaVu Sans"],
        "svg.fonttype": "none",
        "text.parse_math": False,  # a name may hold a dollar sign
        "savefig.dpi": 110,
    }
    with mpl.rc_context(looks):
        yield
