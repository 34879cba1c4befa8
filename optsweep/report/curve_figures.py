"""Curves against epochs: the figures that every experiment gets."""

from __future__ import annotations

import math
from collections.abc import Sequence

import pandas as pd
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, NullLocator

from optsweep.report.drawing import (
    FAINT,
    INK,
    band,
    epochs,
    legend,
    log_scale,
    plain_number,
    styles,
    without_start,
)
from optsweep.report.pictures import Picture
from optsweep.report.questions import Question
from optsweep.report.settings import label, varying
from optsweep.report.study import TRAINED, Setting, Study
from optsweep.report.wording import count

_PANELS = (
    ("train_loss", "train loss"),
    ("train_error", "train error"),
    ("test_error", "test error"),
)


def curves(study: Study, question: Question, experiment: str) -> Picture | None:
    """Train loss, train error and test error against epochs, a row of panels for each group."""
    settings = study.settings_of(experiment)
    trained = [setting for setting in settings if setting.trained]
    if not trained:
        return None
    groups = _groups(trained)
    figure = Figure(figsize=(10, 3.1 * len(groups) + 0.8), layout="constrained")
    rows = figure.subplots(len(groups), 3, squeeze=False, sharex=True)
    names = list(dict.fromkeys(name for group in groups.values() for name in group))
    looks = styles(names, _baseline_name(question, groups), _is_ordered(trained, names))
    for axes, (title, group) in zip(rows, groups.items(), strict=True):
        for name, setting in group.items():
            history = with_errors(study.history_of(setting.cells))
            for panel, (column, _) in zip(axes, _PANELS, strict=True):
                band(panel, history, "epoch", column, looks[name], name)
        for panel, (_, measured) in zip(axes, _PANELS, strict=True):
            panel.set_title(f"{title}: {measured}" if title else measured)
            without_start(panel)
            log_scale(panel, "y")
            epochs(panel, max(int(setting.facets["epochs"]) for setting in group.values()))
    for panel in rows[:-1].flat:
        panel.set_xlabel("")
    legend(figure, rows[0][0])
    note = _note(settings, study)
    caption = (
        f"Train loss, train error and test error in {experiment}. {seeds_told(study, trained)}"
    )
    return Picture(experiment, figure, caption + note)


def schedules(study: Study, question: Question, experiment: str) -> Picture | None:
    """The learning rate of every epoch, as the runs recorded it: a panel for each setting."""
    trained = [setting for setting in study.settings_of(experiment) if setting.trained]
    if not trained:
        return None
    curves = {
        setting.label: study.history_of(setting.cells)
        .dropna(subset="lr")
        .groupby("epoch")["lr"]
        .first()
        for setting in trained
    }
    highest = max(rates.max() for rates in curves.values())
    wide = highest > 4 * min(rates.max() for rates in curves.values())
    columns = min(5, len(curves))
    rows = -(-len(curves) // columns)
    figure = Figure(figsize=(10, 1.75 * rows + 0.4), layout="constrained")
    panels = figure.subplots(rows, columns, squeeze=False, sharex=True, sharey=True)
    for axes, (name, rates) in zip(panels.flat, curves.items(), strict=False):
        for other in curves.values():
            axes.plot(other.index, other, color=FAINT, lw=1)
        axes.plot(rates.index, rates, color=INK, marker="o", ms=3)
        axes.set_title(name)
        epochs(axes, max(int(setting.facets["epochs"]) for setting in trained))
        axes.set_xlabel("")
        if wide:
            axes.set_yscale("symlog", linthresh=highest / 200)
            axes.set_yticks([0, *_decades(highest)])
        axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: plain_number(value)))
        axes.set_ylim(0, highest * (1.6 if wide else 1.08))
        axes.yaxis.set_minor_locator(NullLocator())
    for axes in list(panels.flat)[len(curves) :]:
        axes.set_visible(False)
    figure.supxlabel("epoch", fontsize=10)
    figure.supylabel("learning rate", fontsize=10)
    caption = f"Learning rate of each epoch's last step in {experiment}, with the others in grey."
    return Picture(f"{experiment}_schedules", figure, caption)


def _decades(highest: float) -> list[float]:
    top = math.floor(math.log10(highest))
    return [10.0**power for power in range(top - 1, top + 1)]


def with_errors(history: pd.DataFrame) -> pd.DataFrame:
    """A history with `train_error` and `test_error`."""
    return history.assign(
        train_error=1 - history["train_accuracy"], test_error=1 - history["test_accuracy"]
    )


def seeds_told(study: Study, settings: Sequence[Setting]) -> str:
    """How many seeds the bands of a figure show."""
    numbers = sorted({len(study.seeds_of(setting.cells)) for setting in settings})
    if numbers == [1]:
        return "One seed each."
    told = (
        count(numbers[0], "seed") if len(numbers) == 1 else f"{numbers[0]} to {numbers[-1]} seeds"
    )
    return f"Median and interquartile band of {told}."


def _groups(settings: Sequence[Setting]) -> dict[str, dict[str, Setting]]:
    """Settings by the key that has the fewest values, if they are many and vary in several."""
    keys = [key for key in varying([setting.chosen for setting in settings]) if key != "seed"]
    if len(keys) < 2 or len(settings) <= 4:
        return {"": {setting.label: setting for setting in settings}}
    numbers = {key: len({setting.chosen.get(key) for setting in settings}) for key in keys}
    by = min(reversed(keys), key=lambda key: numbers[key])
    rest = [key for key in keys if key != by]
    groups: dict[str, dict[str, Setting]] = {}
    for setting in settings:
        group = groups.setdefault(label(setting.chosen, [by]), {})
        group[label(setting.chosen, rest)] = setting
    return groups


def _baseline_name(question: Question, groups: dict[str, dict[str, Setting]]) -> str | None:
    everything = [setting for group in groups.values() for setting in group.values()]
    found = [
        name
        for group in groups.values()
        for name, setting in group.items()
        if any(question.baseline_of(other, everything) is setting for other in everything)
    ]
    return found[0] if len(set(found)) == 1 else None


def _is_ordered(settings: Sequence[Setting], names: Sequence[str]) -> bool:
    """Whether the names tell the values of one number."""
    keys = [
        key
        for key in varying([setting.chosen for setting in settings])
        if all(isinstance(setting.value(key), (int, float)) for setting in settings)
    ]
    return len(names) > 2 and any(
        len({setting.value(key) for setting in settings}) == len(names) for key in keys
    )


def _note(settings: Sequence[Setting], study: Study) -> str:
    """What a figure does not show, or shows only in part."""
    told = []
    for setting in settings:
        if setting.status == "diverged":
            told.append(f"{setting.label}: {setting.reason}")
        elif setting.status not in TRAINED:
            told.append(f"{setting.label}: {setting.status}, {setting.reason}")
    return " A cross marks where seeds diverged. " * any(
        setting.status == "diverged" for setting in settings
    ) + (f" {'; '.join(told)}." if told else "")
