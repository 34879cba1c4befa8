"""Scores against epochs, steps and seconds: of one cell, and of the settings of experiments."""

from __future__ import annotations

import io
import math
import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import pandas as pd
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, NullLocator

from optsweep.report.collection import DIVERGED, TRAINED, Collection, Setting, longest
from optsweep.report.drawing import (
    FAINT,
    INK,
    Style,
    band,
    epochs,
    legend,
    log_scale,
    panels,
    plain_number,
    style,
    styles,
    without_start,
)
from optsweep.report.language import say, sentences
from optsweep.report.pictures import Picture
from optsweep.report.settings import label, varying
from optsweep.report.wording import count
from optsweep.runs import HISTORY_FILE, write_atomically

if TYPE_CHECKING:  # a single run's picture spares the statistics behind it, 0.6 s
    from optsweep.report.outline import Question


_TITLE_WIDTH = 20  # characters of a line above one of five panels


def draw_curves(directory: Path, picture: Path) -> None:
    """Draw a finished cell's `history.csv` into `picture`: loss and error of every split."""
    history = with_errors(pd.read_csv(directory / HISTORY_FILE))
    splits = [name for name in ("train", "val", "test") if history[f"{name}_loss"].notna().any()]
    with style():
        figure = Figure(figsize=(9, 3.6), layout="constrained")
        loss, error = panels(figure, 2, 2)
        for split, look in styles(splits).items():
            band(loss, history, "epoch", f"{split}_loss", look, split)
            band(error, history, "epoch", f"{split}_error", look, split)
        loss.set(ylabel="cross entropy")
        log_scale(loss, "y")
        error.set(ylabel="error (fraction)", ylim=(0, None))
        for axes in (loss, error):
            epochs(axes, history["epoch"].max())
        error.legend()
        num_seeds = history["seed"].nunique()
        seeds = "one seed" if num_seeds == 1 else f"median and quartiles of {num_seeds} seeds"
        figure.suptitle(f"{directory.resolve().name}: {seeds}", fontsize="medium")
        pixels = io.BytesIO()
        figure.savefig(pixels, format="png", dpi=150)
    write_atomically(picture, pixels.getvalue())


def curves(collection: Collection, question: Question, experiment: str) -> Picture | None:
    """Train loss, train error and test error against epochs, a row of panels for each group."""
    trained = collection.trained([experiment])
    if not trained:
        return None
    groups = _groups(trained)
    figure = Figure(figsize=(10, 3.1 * len(groups) + 0.8), layout="constrained")
    rows = figure.subplots(len(groups), 3, squeeze=False, sharex=True)
    names = list(dict.fromkeys(name for group in groups.values() for name in group))
    looks = styles(
        names,
        _baseline_name(question, groups),
        _is_ordered(trained, names),
        () if _is_ordered(trained, names) else _ranked(collection, groups),
    )
    for axes, (title, group) in zip(rows, groups.items(), strict=True):
        for name, setting in group.items():
            history = with_errors(collection.history_of(setting.cells))
            for panel, column in zip(
                axes, ("train_loss", "train_error", "test_error"), strict=True
            ):
                band(panel, history, "epoch", column, looks[name], name)
                measured = column.replace("_", " ")
                panel.set_title(f"{title}: {measured}" if title else measured)
        for panel in axes:
            without_start(panel)
            log_scale(panel, "y")
            epochs(panel, longest(list(group.values())))
    for panel in rows[:-1].flat:
        panel.set_xlabel("")
    legend(figure, rows[0][0])
    told = [say("caption.curves", experiment=experiment), seeds_told(collection, trained)]
    told += [grey_told(names, looks), *_notes(collection.settings_of(experiment))]
    return Picture(experiment, figure, sentences(told))


def schedules(collection: Collection, question: Question, experiment: str) -> Picture | None:
    """The learning rate of every epoch, as the runs recorded it: a panel for each setting."""
    trained = collection.trained([experiment])
    if not trained:
        return None
    curves = {
        setting.label: collection.history_of(setting.cells)
        .dropna(subset="lr")
        .groupby("epoch")["lr"]
        .first()
        for setting in trained
    }
    highest = max(rates.max() for rates in curves.values())
    wide = highest > 4 * min(rates.max() for rates in curves.values())
    figure = Figure(figsize=(10, 1.85 * -(-len(curves) // 5) + 0.4), layout="constrained")
    drawn = panels(figure, len(curves), 5, sharex=True, sharey=True)
    for axes, (name, rates) in zip(drawn, curves.items(), strict=True):
        for other in curves.values():
            axes.plot(other.index, other, color=FAINT, lw=1)
        axes.plot(rates.index, rates, color=INK, marker="o", ms=3)
        axes.set_title(textwrap.fill(name, _TITLE_WIDTH))
        epochs(axes, longest(trained))
        axes.set_xlabel("")
        if wide:
            axes.set_yscale("symlog", linthresh=highest / 200)
            top = math.floor(math.log10(highest))
            axes.set_yticks([0, 10.0 ** (top - 1), 10.0**top])
        axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: plain_number(value)))
        axes.set_ylim(0, highest * (1.6 if wide else 1.08))
        axes.yaxis.set_minor_locator(NullLocator())
    figure.supxlabel("epoch", fontsize=10)
    figure.supylabel("learning rate", fontsize=10)
    return Picture(
        f"{experiment}_schedules", figure, say("caption.schedules", experiment=experiment)
    )


def loss_against_seconds(
    collection: Collection, question: Question, experiments: Sequence[str]
) -> Picture | None:
    """Train loss and test error against the seconds of training, on a logarithmic axis."""
    drawn = _against(collection, question, experiments, "seconds", say("caption.equal_seconds"))
    return Picture(f"{question.id}_equal_seconds", *drawn) if drawn else None


def equal_steps(
    collection: Collection, question: Question, experiments: Sequence[str]
) -> Picture | None:
    """Train loss and test error against optimizer steps."""
    drawn = _against(collection, question, experiments, "step", say("caption.equal_steps"))
    return Picture(f"{question.id}_equal_steps", *drawn) if drawn else None


def _against(
    collection: Collection, question: Question, experiments: Sequence[str], x: str, caption: str
) -> tuple[Figure, str] | None:
    """Figure and caption of scores against a column of the history."""
    trained = collection.compared(experiments)
    most = max((one.facets["num_train"] for one in trained), default=0)
    settings = [one for one in trained if one.facets["num_train"] == most]
    num_trained = len(settings)
    if x == "seconds":  # beside other work, they tell of that
        alone = [tuple(collection.timed_alike(one.cells)) for one in settings]
        settings = [
            replace(one, cells=cells) for one, cells in zip(settings, alone, strict=True) if cells
        ]
    if not settings:
        return None
    num_left_out = num_trained - len(settings)
    # Of a setting that was trained for several lengths, the longest holds the others.
    by_length = sorted(settings, key=lambda one: int(one.facets["epochs"]))
    settings = list({one.label: one for one in by_length}.values())
    settings.sort(key=lambda one: one.facets["batch_size"])
    compared = [question.baseline_of(other, settings) for other in settings]
    baseline = next((one.label for one in compared if one), None)
    looks = styles([setting.label for setting in settings], baseline, ordered=True)
    figure = Figure(figsize=(10, 4.2), layout="constrained")
    drawn = panels(figure, 2, 2)
    for axes, column in zip(drawn, ("train_loss", "test_error"), strict=True):
        for setting in settings:
            history = with_errors(collection.history_of(setting.cells)).query("epoch >= 1")
            band(axes, history, x, column, looks[setting.label], setting.label)
        named = {"seconds": "seconds of training", "step": "optimizer steps"}
        axes.set(title=column.replace("_", " "), xlabel=named[x])
        log_scale(axes, "x")
        log_scale(axes, "y")
    legend(figure, drawn[0])
    told = [caption, seeds_told(collection, settings), grey_told(list(looks), looks)]
    if x == "seconds" and len(collection.seeds_of(settings[0].cells)) > 1:
        told.append(say("caption.stack_seconds"))
    if num_left_out:
        told.append(say("caption.not_alone", n=num_left_out))
    return figure, sentences(told)


def with_errors(history: pd.DataFrame) -> pd.DataFrame:
    """A history with the error beside the accuracy of every split."""
    errors = {
        f"{split}_error": 1 - history[f"{split}_accuracy"] for split in ("train", "val", "test")
    }
    return history.assign(**errors)


def seeds_told(collection: Collection, settings: Sequence[Setting]) -> str:
    """How many seeds the bands of a figure show."""
    numbers = sorted({len(collection.seeds_of(setting.cells)) for setting in settings})
    if numbers == [1]:
        return say("caption.one_seed_each")
    if len(numbers) == 1:
        return say("caption.band", seeds=count(numbers[0], "seed"))
    return say("caption.band_range", least=numbers[0], most=numbers[-1])


def grey_told(names: Sequence[str], looks: Mapping[str, Style]) -> str:
    """That some lines of a figure are grey, and how many; empty if none is."""
    grey = sum(looks[name].is_grey for name in names)
    return say("caption.grey", n=grey) if grey else ""


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
    """The name of the settings that others are compared with, if it is one in all groups."""
    everything = [setting for group in groups.values() for setting in group.values()]
    compared = [question.baseline_of(setting, everything) for setting in everything]
    found = {name for group in groups.values() for name, one in group.items() if one in compared}
    return found.pop() if len(found) == 1 else None


def _ranked(collection: Collection, groups: Mapping[str, Mapping[str, Setting]]) -> list[str]:
    """The names of all settings, by the best final test accuracy of theirs, greatest first."""
    best: dict[str, float] = {}
    for group in groups.values():
        for name, one in group.items():
            mean = collection.seeds_of(one.cells)["test_accuracy"].fillna(0.0).mean()
            best[name] = max(mean, best.get(name, 0.0))
    return sorted(best, key=lambda name: -best[name])


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


def _notes(settings: Sequence[Setting]) -> list[str]:
    """What a figure does not show, or shows only in part."""
    told: list[str] = []
    if any(setting.status in DIVERGED for setting in settings):
        told.append(say("caption.crosses"))
    for setting in settings:
        if setting.status in DIVERGED:
            told.append(say("caption.diverged", setting=setting.label, reason=setting.reason))
        elif setting.status not in TRAINED:
            told.append(
                say(
                    "caption.not_trained",
                    setting=setting.label,
                    status=setting.status,
                    reason=setting.reason,
                )
            )
    return told
