"""Settings that differ in numbers, such as learning rate and weight decay: the best, and figures.

A search chooses among its settings on validation examples, never by the test split.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from optsweep.report.collection import Collection, Setting
from optsweep.report.curves import grey_told, seeds_told
from optsweep.report.drawing import (
    HEATMAP,
    INK,
    PAPER,
    QUARTILES,
    legend,
    log_scale,
    panels,
    plain_number,
    spread,
    styles,
)
from optsweep.report.language import say, sentences
from optsweep.report.measures import difference, in_words, located, score
from optsweep.report.outline import Question
from optsweep.report.pictures import Picture
from optsweep.report.settings import family, phrase_value, varying
from optsweep.report.statistics import Interval, paired_differences

# What may span an axis: first the learning rate, which lies along x.
NUMERIC_KEYS = ("lr", "batch_size", "weight_decay", "momentum")
_MIN_VALUES = 3
_TOLD = ("family", "scheduler", "init", *NUMERIC_KEYS, "depth", "layernorm_position")
Row = tuple[str, pd.Series, Interval]  # of a panel of dots: a setting, its values, their mean
Groups = dict[str, list[Setting]]  # what a panel or a line is called -> its settings


def grid_axes(settings: Sequence[Setting]) -> list[str]:
    """At most two numeric keys that vary over at least three values.

    A key that every setting leaves to its optimizer's default is none.
    """
    return [
        key
        for key in NUMERIC_KEYS
        if len({setting.value(key) for setting in settings} - {None}) >= _MIN_VALUES
    ][:2]


def chosen_by(collection: Collection, setting: Setting) -> tuple[str, pd.Series]:
    """The score that a best setting is chosen by, never the test split's, and its values."""
    column = "val_accuracy" if setting.facets.get("val_size") else "final_train_accuracy"
    return column, score(collection, setting.cells, column)


def best_of(collection: Collection, settings: Sequence[Setting]) -> Setting | None:
    """The trained setting with the best mean of what it is chosen by."""
    trained = [setting for setting in settings if setting.is_trained]
    return max(trained, key=lambda one: chosen_by(collection, one)[1].mean(), default=None)


def at_edge(best: Setting, settings: Sequence[Setting]) -> list[str]:
    """The axes on whose end the best setting lies: a better one may lie beyond."""
    edges = []
    for key in grid_axes(settings):
        values: list[Any] = sorted({one.value(key) for one in settings} - {None})
        # Beyond these there is nothing: no decay, no momentum, one example, or all of them.
        ends = {0, 1, best.facets.get("num_train")} if key == "batch_size" else {0}
        if best.value(key) in {values[0], values[-1]} - ends:
            edges.append(key)
    return edges


def interaction(
    collection: Collection,
    settings: Sequence[Setting],
    keys: Sequence[str],
    of: str = "val_accuracy",
) -> pd.Series:
    """How far a score over a grid is from a sum of one term per row and one per column.

    For each seed, the sum of squares that such a sum leaves, relative to the whole sum of
    squares about the mean: 0 if the best value of one key is the same for all values of the
    other.
    """
    values = {
        tuple(setting.value(key) for key in keys): score(collection, setting.cells, of)
        for setting in settings
        if setting.is_trained
    }
    table = pd.DataFrame(values)
    if table.empty:
        return pd.Series(dtype=float)
    shares = {}
    for seed, of_seed in table.iterrows():
        grid = of_seed.unstack().to_numpy(dtype=float)
        centred = grid - grid.mean()
        rest = centred - centred.mean(0) - centred.mean(1)[:, None]
        total = (centred**2).sum()
        shares[seed] = (rest**2).sum() / total if total else np.nan
    return pd.Series(shares, dtype=float)


def searches(
    collection: Collection, question: Question, experiments: Sequence[str]
) -> Picture | None:
    """Validation accuracy over everything that a question's searches tried."""
    trained = collection.trained(experiments)
    if not trained:
        return None
    keys = grid_axes(trained)
    groups = _groups(trained, keys)
    if len(keys) == 2:
        figure, grey = _maps(collection, groups, keys), ""
        kind = say("caption.map", x=in_words(keys[0]), y=in_words(keys[1]))
    elif keys:
        figure, grey = _lines(collection, groups, keys[0])
        kind = say("caption.lines", x=in_words(keys[0]))
    else:
        return None
    total = sum(len(collection.settings_of(name)) for name in experiments)
    missing = total - len(trained)
    note = say("caption.without_result", n=missing, total=total) if missing else ""
    bands = "" if len(keys) == 2 else seeds_told(collection, trained)
    return Picture(f"{question.id}_map", figure, sentences([kind, bands, grey, note]))


def best_settings(
    collection: Collection, question: Question, experiments: Sequence[str]
) -> Picture | None:
    """Test accuracy of the best setting of each group, chosen on validation examples."""
    trained = collection.trained(experiments)
    keys = grid_axes(trained)
    groups = _groups(trained, keys)
    if len(groups) < 2:  # a single map: the best of each of its rows
        keys = keys[:1]
        groups = _groups(trained, keys)
    if len(groups) < 2:
        return None
    rows: list[Row] = []
    for name, settings in groups.items():
        best = best_of(collection, settings)
        assert best is not None
        values = score(collection, best.cells, "test_accuracy")
        found = located(collection, best.cells, "test_accuracy").interval()
        at = ", ".join(f"{_words(key)} {phrase_value(best.value(key))}" for key in keys)
        edge = " (edge of the grid)" if at_edge(best, settings) else ""
        rows.append((f"{name}\n{at}{edge}", values, found))
    rows.sort(key=lambda row: row[2].estimate)
    figure = Figure(figsize=(10, 0.55 * len(rows) + 1.1), layout="constrained")
    panel = figure.subplots()
    _dots(panel, rows)
    panel.set(xlabel="test accuracy")
    caption = sentences([say("caption.best"), say("caption.dots")])
    return Picture(f"{question.id}_best", figure, caption)


def gains(collection: Collection, question: Question, experiments: Sequence[str]) -> Picture | None:
    """What settings gain in test accuracy over their baseline, a panel for each baseline."""
    settings = collection.compared(experiments)
    rows: dict[str, list[Row]] = {}
    for one in settings:
        baseline = question.baseline_of(one, settings)
        if baseline is not None:
            pair = (score(collection, each.cells, "test_accuracy") for each in (one, baseline))
            values = paired_differences(*pair)
            found = difference(collection, one.cells, baseline.cells, "test_accuracy")
            row = (one.label, values, found.interval())
            rows.setdefault(baseline.label, []).append(row)
    if not rows:
        return None
    highest = max(map(len, rows.values()))
    figure = Figure(figsize=(10, 0.36 * highest + 1.2), layout="constrained")
    drawn = panels(figure, len(rows), len(rows), sharex=True)
    for panel, (name, group) in zip(drawn, rows.items(), strict=True):
        panel.axvline(0, color=INK, lw=0.6)
        _dots(panel, group[::-1])
        panel.set(title=f"less {name}", xlabel="difference in test accuracy")
        # A setting that fails would hide all differences between the others.
        panel.set_xscale("symlog", linthresh=0.02)
        panel.xaxis.set_major_formatter(lambda value, _: plain_number(value))
    caption = sentences([say("caption.gains"), say("caption.dots")])
    return Picture(f"{question.id}_gains", figure, caption)


def _dots(panel: Axes, rows: Sequence[Row]) -> None:
    """Values of seeds as dots, a line for each setting, with their mean and interval."""
    colour = styles(["", "x"], "")["x"].color
    for place, (_, values, interval) in enumerate(rows):
        panel.plot(values, [place] * len(values), "o", color=colour, alpha=0.35, ms=4.5)
        panel.plot([interval.low, interval.high], [place] * 2, color=INK, lw=2)
        panel.plot([interval.estimate], [place], "D", color=INK, ms=5.5)
    panel.set_yticks(range(len(rows)), [name for name, *_ in rows])
    panel.set(ylim=(-0.6, len(rows) - 0.4))
    panel.grid(visible=False, axis="y")


def against_batch_size(
    collection: Collection, question: Question, experiments: Sequence[str]
) -> Picture | None:
    """Test accuracy and train loss against batch size, a line for each optimizer."""
    lines: dict[str, dict[int, Setting]] = {}
    for setting in collection.compared(experiments):
        line = lines.setdefault(phrase_value(setting.value("optimizer")), {})
        line[int(setting.facets["batch_size"])] = setting
    lines = {name: dict(sorted(line.items())) for name, line in lines.items() if len(line) > 1}
    if not lines:
        return None
    figure = Figure(figsize=(10, 3.8), layout="constrained")
    drawn = panels(figure, 2, 2)
    looks = styles(list(lines))
    for panel, column in zip(drawn, ("test_accuracy", "train_loss"), strict=True):
        for name, line in lines.items():
            seeds = [collection.seeds_of(one.cells)[column].astype(float) for one in line.values()]
            quartiles = [values.quantile(QUARTILES) for values in seeds]
            spread(panel, list(line), quartiles, looks[name], name)
        panel.set(title=column.replace("_", " "), xlabel="batch size", xscale="log")
        ticks = sorted({size for line in lines.values() for size in line})
        panel.set_xticks(ticks, [f"{size:,}" for size in ticks])
        panel.minorticks_off()
    legend(figure, drawn[0])
    told = seeds_told(collection, [one for line in lines.values() for one in line.values()])
    caption = sentences([say("caption.against_batch_size"), told])
    return Picture(f"{question.id}_batch_size", figure, caption)


def _groups(settings: Sequence[Setting], keys: Sequence[str]) -> Groups:
    """Settings by all that varies among them but the keys."""
    told = [_told(one) for one in settings]
    others = [key for key in varying(told) if key not in keys]
    if "family" in others:  # leave out what its name says
        others = [key for key in others if key == "family" or not _follows(key, told)]
    groups: Groups = {}
    for setting, plain in zip(settings, told, strict=True):
        shown = [key for key in others if plain.get(key) is not None]
        name = ", ".join(
            phrase_value(plain[key])
            if key in ("family", "scheduler", "init")
            else f"{_words(key)} {phrase_value(plain[key])}"
            for key in shown
        )
        groups.setdefault(name, []).append(setting)
    return groups


def _follows(key: str, told: Sequence[dict[str, object]]) -> bool:
    """Whether settings of one family all have the same value of a key."""
    pairs = {(plain["family"], plain.get(key)) for plain in told}
    return len(pairs) == len({name for name, _ in pairs})


def _told(setting: Setting) -> dict[str, object]:
    """The settings that a reader tells apart."""
    found = {**setting.facets, "family": family(setting.facets)}
    return {key: found[key] for key in _TOLD if key in found}


def _maps(collection: Collection, groups: Groups, keys: Sequence[str]) -> Figure:
    x, y = keys
    tables = {name: _table(collection, settings, x, y) for name, settings in groups.items()}
    values = np.concatenate([table.to_numpy().ravel() for table in tables.values()])
    # A few that failed would leave all others one colour.
    low = max(np.nanmin(values), np.nanquantile(values, 0.75) - 0.15)
    heights = max(len(table) for table in tables.values())
    figure = Figure(figsize=(10, 0.52 * heights + 1.5), layout="constrained")
    drawn = panels(figure, len(tables), len(tables))
    for panel, (name, table) in zip(drawn, tables.items(), strict=True):
        sns.heatmap(
            table,
            ax=panel,
            annot=True,
            fmt=".3f",
            cmap=HEATMAP,
            vmin=low,
            vmax=np.nanmax(values),
            cbar=False,
            linewidths=1.5,
            linecolor=PAPER,
            annot_kws={"size": 9},
        )
        row, column = np.unravel_index(np.nanargmax(table.to_numpy()), table.shape)
        corner = (int(column) + 0.03, int(row) + 0.03)
        panel.add_patch(Rectangle(corner, 0.94, 0.94, fill=False, ec=INK, lw=2))
        panel.set(title=name, xlabel=_words(x), ylabel=_words(y))
        panel.set_xticklabels([phrase_value(value) for value in table.columns])
        panel.set_yticklabels([phrase_value(value) for value in table.index], rotation=0)
        panel.tick_params(length=0)
        panel.grid(visible=False)
    return figure


def _table(collection: Collection, settings: Sequence[Setting], x: str, y: str) -> pd.DataFrame:
    rows = [(one.value(x), one.value(y), chosen_by(collection, one)[1].mean()) for one in settings]
    table = pd.DataFrame(rows, columns=["x", "y", "mean"])
    return table.pivot_table(index="y", columns="x", values="mean").sort_index(ascending=False)


def _lines(collection: Collection, groups: Groups, key: str) -> tuple[Figure, str]:
    """A line for each group, and that some are grey."""
    figure = Figure(figsize=(10, 4.2), layout="constrained")
    panel = figure.subplots()
    values = sorted({one.value(key) for settings in groups.values() for one in settings})
    place = {value: value if values[0] > 0 else index for index, value in enumerate(values)}
    tops = {
        name: max(chosen_by(collection, one)[1].mean() for one in settings)
        for name, settings in groups.items()
    }
    looks = styles(list(groups), ranked=sorted(tops, key=lambda name: -tops[name]))
    for name, settings in groups.items():
        look = looks[name]
        ordered = sorted(settings, key=lambda one: one.value(key))
        places = [place[one.value(key)] for one in ordered]
        scores = [chosen_by(collection, one)[1] for one in ordered]
        quartiles = np.array([values.quantile(QUARTILES) for values in scores])
        spread(panel, places, quartiles, look, name)
        best = int(np.argmax([values.mean() for values in scores]))
        at = (places[best], quartiles[best, 1])
        panel.plot(*at, "o", color=look.color, ms=11, mfc="none", mec=look.color, mew=1.4)
    panel.set(xlabel=_words(key), ylabel="validation accuracy")
    if values[0] > 0:
        log_scale(panel, "x")
    else:  # 0 has no place on a logarithmic axis
        panel.set_xticks(range(len(values)), [phrase_value(value) for value in values])
    panel.set_ylim(bottom=max(panel.get_ylim()[0], min(tops.values()) - 0.15))
    legend(figure, panel)
    return figure, grey_told(list(groups), looks)


def _words(key: str) -> str:
    return {"lr": "learning rate"}.get(key, key.replace("_", " "))
