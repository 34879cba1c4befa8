"""What diagnoses of cells found: shares of verdicts, their figures, and the paragraph of causes.

They are read from the folders of their cells, each where it is wanted; a cell that was not
diagnosed has none.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.colors import ListedColormap
from matplotlib.figure import Figure

from optsweep import runs
from optsweep.diagnosis.readings import BASE, SLOWER
from optsweep.diagnosis.verdicts import INCONCLUSIVE, NOT_SLOW, VERDICTS
from optsweep.report.collection import Collection, Setting
from optsweep.report.drawing import COLOURS, INK, band, log_scale, panels, styles
from optsweep.report.outline import Question
from optsweep.report.pictures import Picture
from optsweep.report.statistics import mean_interval
from optsweep.report.wording import count, listing, number

_LEAST_WEIGHT = 1e-7  # of a density's node that is drawn
# Of each verdict, in the timeline.
_COLOURS = dict(zip(VERDICTS, [*list(COLOURS)[1:], "#b0b4bc"], strict=False))


def found(collection: Collection, cells: Sequence[str], file: str) -> pd.DataFrame:
    """A table of the diagnoses of some cells, empty where there is none."""
    folders = (collection.folder / runs.CELLS_FOLDER / cell for cell in cells)
    paths = [folder / runs.DIAGNOSIS_FOLDER / file for folder in folders]
    tables = [pd.read_csv(path) for path in paths if path.exists()]
    return pd.concat(tables, ignore_index=True) if tables else pd.DataFrame()


def verdict_share(collection: Collection, cells: Sequence[str], of: Sequence[str]) -> pd.Series:
    """Of each seed's checkpoints after the first, the share with one of some verdicts."""
    verdicts = found(collection, cells, runs.VERDICTS_FILE)
    if verdicts.empty:
        return pd.Series(dtype=float)
    trained = verdicts[verdicts["epoch"] > 0]
    return trained["verdict"].isin(list(of)).groupby(trained["seed"]).mean()


def diagnosed(collection: Collection, experiments: Sequence[str]) -> list[Setting]:
    """The settings that were diagnosed, those with most seeds first."""
    settings = [
        setting
        for setting in collection.trained(experiments)
        if not found(collection, setting.cells, runs.VERDICTS_FILE).empty
    ]
    return sorted(settings, key=lambda setting: -len(collection.seeds_of(setting.cells)))


def causes(collection: Collection, experiments: Sequence[str]) -> list[str]:
    """Three sentences on the setting with most seeds: the cause, its readings, what decided."""
    settings = diagnosed(collection, experiments)
    if not settings:
        return []
    one = settings[0]
    verdicts = found(collection, one.cells, runs.VERDICTS_FILE)
    verdicts = verdicts[verdicts["epoch"] > 0]
    counts = verdicts["verdict"].value_counts()
    shares = [f"{share / len(verdicts):.0%} {verdict}" for verdict, share in counts.items()]
    readings = found(collection, one.cells, runs.READINGS_FILE)
    middle = readings[readings["epoch"] > 0].groupby("quantity")["value"].median()
    smaller = _gains(readings, SLOWER[1])
    gain = mean_interval(smaller)
    return [
        f"Of {count(len(verdicts), 'checkpoint')} of {one.label} after the start, over "
        f"{count(verdicts['seed'].nunique(), 'seed')}, the verdict is {listing(shares)}.",
        f"In the middle, the rate is at {number(middle['stability'], 2)} of its limit and the "
        f"largest step that does not raise the loss is {number(middle['critical_multiple'], 1)} "
        f"times the one taken; the smallest eigenvalue is "
        f"{number(middle['smallest'] / middle['largest'], 3)} of the largest, "
        f"‖Hg‖/‖g‖ is {number(middle['hessian_gradient'], 1)} and the noise scale "
        f"{number(middle['noise_scale'], 0)} at {number(middle['batch_size'], 0)} images.",
        "From the last checkpoint, a tenth of the rate lowers the loss by "
        f"{number(gain.estimate, 3)} of itself (95 % {number(gain.low, 3)} to "
        f"{number(gain.high, 3)}) more than the rate itself does in as many steps.",
    ]


def _gains(readings: pd.DataFrame, fork: str) -> pd.Series:
    """What a fork from the last checkpoint lowers the loss by beyond the base, by seed."""
    last = readings[readings["epoch"] == readings["epoch"].max()]
    falls = last.pivot_table(index="seed", columns="quantity", values="value")
    own = [name for name in falls.columns if str(name).endswith(f"steps, {fork}")]
    base = [name for name in falls.columns if str(name).endswith(f"steps, {BASE}")]
    if not own or not base:
        return pd.Series(dtype=float)
    return falls[own[-1]] - falls[base[-1]]


def stability(
    collection: Collection, question: Question, experiments: Sequence[str]
) -> Picture | None:
    """Sharpness by the rate's limit, and the critical multiple, against epochs."""
    settings = diagnosed(collection, experiments)[:1]
    if not settings:
        return None
    figure = Figure(figsize=(10, 3.6), layout="constrained")
    readings = found(collection, settings[0].cells, runs.READINGS_FILE)
    titles = {
        "stability": "batch sharpness by the limit of the rate",
        "critical_multiple": "largest step that does not raise the loss",
        "noise_scale": "noise scale, examples",
    }
    look = styles(["seeds"])["seeds"]
    for axes, (quantity, title) in zip(panels(figure, 3, 3), titles.items(), strict=True):
        rows = readings[readings["quantity"] == quantity]
        band(axes, rows, "epoch", "value", look)
        sizes = readings[readings["quantity"] == "batch_size"]["value"]
        line = float(sizes.median()) if quantity == "noise_scale" else 1.0
        axes.axhline(line, color=INK, lw=1, ls="--")
        axes.set(title=title, xlabel="epoch")
        if (rows["value"] > 0).any():
            log_scale(axes, "y")
    caption = (
        f"{settings[0].label}: at 1 (dashed), steps of the rate begin to grow along the sharpest "
        "directions; beside it the largest multiple of the actual step that does not raise the "
        "loss, and the noise scale against the batch size. Median and quartiles over seeds."
    )
    return Picture(f"{question.id}_stability", figure, caption)


def spectra(
    collection: Collection, question: Question, experiments: Sequence[str]
) -> Picture | None:
    """Densities of the Hessian's eigenvalues at the start, the middle and the end."""
    settings = diagnosed(collection, experiments)[:1]
    if not settings:
        return None
    rows = found(collection, settings[0].cells, runs.SPECTRA_FILE)
    chosen = _start_middle_end(rows)
    figure = Figure(figsize=(10, 3.2), layout="constrained")
    for axes, epoch in zip(panels(figure, len(chosen), 3, sharey=True), chosen, strict=True):
        one = rows[(rows["epoch"] == epoch) & (rows["seed"] == rows["seed"].min())]
        nodes = one[(one["kind"] == "density") & (one["weight"] > _LEAST_WEIGHT)]
        axes.vlines(nodes["value"], _LEAST_WEIGHT, nodes["weight"], color=INK, lw=1)
        axes.set(title=f"epoch {epoch}", xlabel="eigenvalue", yscale="log")
    caption = (
        f"{settings[0].label}: share of the eigenvalues of the training loss's Hessian near each "
        "of Lanczos's nodes, for the first seed. Most are near 0; a few large ones stand apart."
    )
    return Picture(f"{question.id}_spectra", figure, caption)


def fork_curves(
    collection: Collection, question: Question, experiments: Sequence[str]
) -> Picture | None:
    """What becomes of the loss under other rates, batches and directions."""
    settings = diagnosed(collection, experiments)[:1]
    if not settings:
        return None
    rows = found(collection, settings[0].cells, runs.FORKS_FILE)
    chosen = _start_middle_end(rows)
    looks = styles(list(rows["fork"].unique()), BASE)
    figure = Figure(figsize=(10, 3.8), layout="constrained")
    drawn = panels(figure, len(chosen), 3)
    for axes, epoch in zip(drawn, chosen, strict=True):
        at = rows[rows["epoch"] == epoch]
        for name, look in looks.items():
            losses = at[at["fork"] == name].groupby("step")["train_loss"].median()
            axes.plot(losses.index, losses, color=look.color, ls=look.linestyle, label=name)
        axes.set(title=f"from epoch {epoch}", xlabel="step", ylabel="train loss")
        base = at[at["fork"] == BASE]["train_loss"]
        if len(base):
            axes.set_ylim(0.5 * base.min(), 1.3 * base.max())
    figure.legend(*drawn[0].get_legend_handles_labels(), loc="outside lower center", ncols=7)
    caption = (
        f"{settings[0].label}: training goes on from a checkpoint in seven ways, on the same "
        "images; medians over seeds. What leaves the panel above has grown."
    )
    return Picture(f"{question.id}_forks", figure, caption)


def verdict_timeline(
    collection: Collection, question: Question, experiments: Sequence[str]
) -> Picture | None:
    """The most frequent verdict of each setting at each of its checkpoints."""
    settings = diagnosed(collection, experiments)
    if not settings:
        return None
    longest = 0
    grid = []
    for setting in settings:
        verdicts = found(collection, setting.cells, runs.VERDICTS_FILE)
        row = [Counter(of["verdict"]).most_common(1)[0][0] for _, of in verdicts.groupby("epoch")]
        longest = max(longest, len(row))
        grid.append(row)
    codes = np.full((len(grid), longest), np.nan)
    for place, row in enumerate(grid):
        codes[place, : len(row)] = [VERDICTS.index(verdict) for verdict in row]
    figure = Figure(figsize=(10, 1.2 + 0.19 * len(grid)), layout="constrained")
    (axes,) = panels(figure, 1, 1)
    colours = [_COLOURS[verdict] for verdict in VERDICTS]
    axes.imshow(codes, aspect="auto", cmap=ListedColormap(colours), vmin=0, vmax=len(colours) - 1)
    axes.set_yticks(range(len(grid)), [setting.label for setting in settings], fontsize=7)
    axes.set(xlabel="checkpoint, from the start to the end")
    axes.grid(visible=False)
    _name_colours(axes, codes)
    caption = (
        "The verdict of most seeds at each checkpoint. It is withheld (inconclusive) where the "
        "readings and what forks come to do not agree."
    )
    return Picture(f"{question.id}_verdicts", figure, caption)


def _name_colours(axes: Axes, codes: np.ndarray) -> None:
    for index, verdict in enumerate(VERDICTS):
        if (codes == index).any():
            axes.plot([], [], "s", color=_COLOURS[verdict], label=verdict)
    figure = axes.figure
    assert isinstance(figure, Figure)
    figure.legend(loc="outside lower center", ncols=5)


def pixel_map(
    collection: Collection, question: Question, experiments: Sequence[str]
) -> Picture | None:
    """Where images are lit, how far each pixel's weights move, and when they are half there."""
    settings = diagnosed(collection, experiments)
    rows = found(collection, settings[0].cells, runs.PIXELS_FILE) if settings else pd.DataFrame()
    side = round(rows["pixel"].nunique() ** 0.5) if len(rows) else 0
    if not side or side**2 != rows["pixel"].nunique():
        return None
    lit = rows.groupby("pixel")["nonzero_fraction"].first()
    moved = rows.pivot_table(index="epoch", columns="pixel", values="moved")
    last = moved.iloc[-1]
    half = (moved >= 0.5 * last).idxmax().where(last > 0)
    figure = Figure(figsize=(10, 3.2), layout="constrained")
    maps = {
        "images in which the pixel is lit": lit,
        "how far its weights move": last,
        "epoch at which half of the way is gone": half,
    }
    for axes, (title, values) in zip(panels(figure, 3, 3), maps.items(), strict=True):
        shown = axes.imshow(values.to_numpy().reshape(side, side), cmap="viridis")
        axes.set(title=title, xticks=[], yticks=[])
        axes.grid(visible=False)
        figure.colorbar(shown, ax=axes, shrink=0.8)
    caption = (
        f"{settings[0].label}: root mean square, over hidden units and seeds, of the change of "
        "the weights that come from each pixel. Where images are lit more often, they move more."
    )
    return Picture(f"{question.id}_pixels", figure, caption)


def _start_middle_end(rows: pd.DataFrame) -> list[int]:
    epochs = sorted(rows["epoch"].unique())
    return list(dict.fromkeys(int(epochs[i]) for i in (0, len(epochs) // 2, len(epochs) - 1)))


def verdict_table(collection: Collection, settings: Sequence[Setting]) -> pd.DataFrame:
    """A row for each setting: how many checkpoints of all seeds have each verdict."""
    rows = []
    for setting in settings:
        verdicts = found(collection, setting.cells, runs.VERDICTS_FILE)
        counts = Counter(verdicts["verdict"])
        named = {v: n for v, n in counts.items() if v not in (NOT_SLOW, INCONCLUSIVE)}
        cause = max(named, key=lambda verdict: named[verdict]) if named else ""
        rows.append({"setting": setting.label, "cause": cause, **{v: counts[v] for v in VERDICTS}})
    return pd.DataFrame(rows)
