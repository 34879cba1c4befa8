"""Figures of searches: maps over two numbers, lines over one, and the best of each."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from optsweep.report.curve_figures import seeds_told
from optsweep.report.drawing import HEATMAP, INK, PAPER, Style, legend, log_scale, styles
from optsweep.report.grids import NUMERIC_KEYS, at_edge, axes, best_of, chosen_by
from optsweep.report.measures import score
from optsweep.report.pictures import Picture
from optsweep.report.questions import Question
from optsweep.report.settings import family, phrase_value, varying
from optsweep.report.statistics import bootstrap_interval
from optsweep.report.study import Setting, Study

_TOLD = ("family", "scheduler", "init", *NUMERIC_KEYS, "depth", "layernorm_position")
Searches = dict[str, list[Setting]]  # what a panel or a line is called -> its settings


def searches(study: Study, question: Question, experiments: Sequence[str]) -> Picture | None:
    """Validation accuracy over everything that a question's searches tried."""
    everything = [one for name in experiments for one in study.settings_of(name)]
    trained = [one for one in everything if one.trained]
    if not trained:
        return None
    keys = axes(trained)
    groups = _groups(trained, keys)
    if len(keys) == 2:
        figure = _maps(study, groups, keys)
        kind = f"Validation accuracy over {_words(keys[0])} and {_words(keys[1])}"
    elif keys:
        figure = _lines(study, groups, keys[0])
        kind = f"Validation accuracy against {_words(keys[0])}"
    else:
        return None
    missing = len(everything) - len(trained)
    note = f" {missing} of {len(everything)} settings have no result." if missing else ""
    shown = "a frame marks the best mean" if len(keys) == 2 else "a ring marks the best mean"
    bands = "" if len(keys) == 2 else f" {seeds_told(study, trained)}"
    caption = f"{kind}; {shown}.{bands}{note}"
    return Picture(f"{question.id}_map", figure, caption)


def best_settings(study: Study, question: Question, experiments: Sequence[str]) -> Picture | None:
    """Test accuracy of the best setting of each group, chosen on validation examples."""
    trained = [one for name in experiments for one in study.settings_of(name) if one.trained]
    keys = axes(trained)
    groups = _groups(trained, keys)
    if len(groups) < 2:  # a single map: the best of each of its rows
        keys = keys[:1]
        groups = _groups(trained, keys)
    if len(groups) < 2:
        return None
    rows = []
    for name, settings in groups.items():
        best = best_of(study, settings)
        assert best is not None
        values = score(study, best.cells, "test_accuracy")
        at = ", ".join(f"{_words(key)} {phrase_value(best.value(key))}" for key in keys)
        edge = " (edge of the grid)" if at_edge(best, settings) else ""
        rows.append((f"{name}\n{at}{edge}", values, bootstrap_interval(values)))
    rows.sort(key=lambda row: row[2].mean)
    figure = Figure(figsize=(10, 0.55 * len(rows) + 1.1), layout="constrained")
    panel = figure.subplots()
    colour = styles(["", "x"], "")["x"].color
    for place, (_, values, interval) in enumerate(rows):
        panel.plot(values, [place] * len(values), "o", color=colour, alpha=0.35, ms=4.5)
        panel.plot([interval.low, interval.high], [place] * 2, color=INK, lw=2)
        panel.plot([interval.mean], [place], "D", color=INK, ms=5.5)
    panel.set_yticks(range(len(rows)), [name for name, *_ in rows])
    panel.set(xlabel="test accuracy", ylim=(-0.6, len(rows) - 0.4))
    panel.grid(visible=False, axis="y")
    caption = (
        "Test accuracy at the best of each line of the search, chosen on validation images. Dots "
        "are seeds, the diamond is their mean, the bar its 95 % bootstrap interval."
    )
    return Picture(f"{question.id}_best", figure, caption)


def _groups(settings: Sequence[Setting], keys: Sequence[str]) -> Searches:
    """Settings by all that varies among them but the keys."""
    told = [_told(one) for one in settings]
    others = [key for key in varying(told) if key not in keys]
    if "family" in others:  # leave out what its name says
        others = [key for key in others if key == "family" or not _follows(key, told)]
    groups: Searches = {}
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


def _maps(study: Study, groups: Searches, keys: Sequence[str]) -> Figure:
    x, y = keys
    tables = {name: _table(study, settings, x, y) for name, settings in groups.items()}
    values = np.concatenate([table.to_numpy().ravel() for table in tables.values()])
    # A few that failed would leave all others one colour.
    low = max(np.nanmin(values), np.nanquantile(values, 0.75) - 0.15)
    heights = max(len(table) for table in tables.values())
    figure = Figure(figsize=(10, 0.52 * heights + 1.5), layout="constrained")
    panels = figure.subplots(1, len(tables), squeeze=False)[0]
    for panel, (name, table) in zip(panels, tables.items(), strict=True):
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
        panel.add_patch(_frame(int(column), int(row)))
        panel.set(title=name, xlabel=_words(x), ylabel=_words(y))
        panel.set_xticklabels([phrase_value(value) for value in table.columns])
        panel.set_yticklabels([phrase_value(value) for value in table.index], rotation=0)
        panel.tick_params(length=0)
        panel.grid(visible=False)
    return figure


def _frame(column: int, row: int) -> Rectangle:
    return Rectangle((column + 0.03, row + 0.03), 0.94, 0.94, fill=False, ec=INK, lw=2)


def _table(study: Study, settings: Sequence[Setting], x: str, y: str) -> pd.DataFrame:
    rows = [(one.value(x), one.value(y), chosen_by(study, one)[1].mean()) for one in settings]
    table = pd.DataFrame(rows, columns=["x", "y", "mean"])
    return table.pivot_table(index="y", columns="x", values="mean").sort_index(ascending=False)


def _lines(study: Study, groups: Searches, key: str) -> Figure:
    figure = Figure(figsize=(10, 4.2), layout="constrained")
    panel = figure.subplots()
    values = sorted({one.value(key) for settings in groups.values() for one in settings})
    place = {value: value if values[0] > 0 else index for index, value in enumerate(values)}
    for (name, settings), look in zip(groups.items(), styles(list(groups)).values(), strict=True):
        _line(
            panel, study, sorted(settings, key=lambda one: one.value(key)), place, key, look, name
        )
    panel.set(xlabel=_words(key), ylabel="validation accuracy")
    if values[0] > 0:
        log_scale(panel, "x")
    else:  # 0 has no place on a logarithmic axis
        panel.set_xticks(range(len(values)), [phrase_value(value) for value in values])
    tops = [np.max(np.asarray(line.get_ydata(), float)) for line in panel.lines]
    panel.set_ylim(bottom=max(panel.get_ylim()[0], min(tops) - 0.15))
    legend(figure, panel)
    return figure


def _line(
    panel: Axes,
    study: Study,
    settings: Sequence[Setting],
    place: dict[float, float],
    key: str,
    look: Style,
    name: str,
) -> None:
    places = [place[one.value(key)] for one in settings]
    scores = [chosen_by(study, one)[1] for one in settings]
    quartiles = np.array([values.quantile([0.25, 0.5, 0.75]) for values in scores])
    panel.plot(
        places,
        quartiles[:, 1],
        color=look.color,
        linestyle=look.linestyle,
        marker=look.marker,
        label=name,
    )
    panel.fill_between(places, quartiles[:, 0], quartiles[:, 2], color=look.color, alpha=0.18, lw=0)
    best = int(np.argmax([values.mean() for values in scores]))
    panel.plot(places[best], quartiles[best, 1], "o", ms=11, mfc="none", mec=look.color, mew=1.4)


def _words(key: str) -> str:
    return {"lr": "learning rate"}.get(key, key.replace("_", " "))
