"""A search's own section: its figures, its tables and words, and the files in its folder.

What the figures show is Optuna's; they are drawn here so that they look like all others.
"""

from __future__ import annotations

import itertools
import json
import math
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import optuna
import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, MaxNLocator
from numpy.typing import ArrayLike

from optsweep import runs, seals
from optsweep.config.checks import InputError
from optsweep.report.drawing import HEATMAP, legend, log_scale, panels, style, styles
from optsweep.report.pictures import Picture, SavedPicture, save
from optsweep.report.searches import (
    TRIAL_COLUMNS,
    Search,
    Variant,
    finals_table,
    key_in_words,
    read_search,
    readable_trials,
    sentences,
    trials_table,
)
from optsweep.report.settings import in_words, phrase_value
from optsweep.report.tables import markdown
from optsweep.seals import Damage

_BEST, _DONE, _STOPPED = "#d55e00", "#0072b2", "#6f7783"
_MIN_TRIALS = 10  # fewer tell nothing of importance or of a surface
_COLUMNS = 4


@dataclass(frozen=True)
class SearchSection:
    """All that is shown of a search."""

    name: str
    answer: str
    pictures: list[SavedPicture]
    finals: pd.DataFrame
    trials: pd.DataFrame
    cells: list[str]


def search_section(folder: Path, figures: Path) -> tuple[SearchSection | None, list[Damage]]:
    """Read a search and draw its figures into a folder.

    Returns:
        None if there is nothing to show of it, and what is damaged.
    """
    try:
        search, damaged = read_search(folder)
    except InputError as error:
        return None, [Damage(folder, f"is left out: {error}")]
    return None if search is None else _section(search, figures), damaged


def _section(search: Search, figures: Path) -> SearchSection:
    with style():
        pictures = draw_search(search)
    return SearchSection(
        search.name,
        " ".join(sentences(search)),
        [save(picture, figures) for picture in pictures],
        finals_table(search),
        readable_trials(trials_table(search)),
        search.cells,
    )


def report_search(folder: Path, say: Callable[[str], None] = print) -> None:
    """Write trials.csv, trials.md, summary.json and figures/ into a search's folder, and tell.

    On a disk that is read-only by now, they are as they were.

    Raises:
        InputError: If something there is damaged, of which a search that runs has made sure.
    """
    search, damaged = read_search(folder)
    if search is None or damaged:
        raise InputError("; ".join(map(str, damaged)) or f"{folder} holds no search")
    if not runs.refusal(folder):
        _write(search, folder)
    say("")
    for sentence in sentences(search):
        say(sentence)
    say(f"search: {folder}")


def _write(search: Search, folder: Path) -> None:
    figures = folder / runs.FIGURES_FOLDER
    figures.mkdir(exist_ok=True)
    runs.remove_partials(figures)
    section = _section(search, figures)
    table = trials_table(search)
    page = f"{section.answer}\n\n{markdown(section.finals)}\n{markdown(section.trials)}"
    summary = {
        "variants": [_summary(variant) for variant in search.variants],
        "finals": [
            {
                "variant": final.variant,
                "kind": final.kind,
                "setting": final.setting,
                "cell": final.cell,
                "test_accuracy": {
                    key: None if math.isnan(value) else value  # of one seed, there is no interval
                    for key, value in final.test._asdict().items()
                },
            }
            for final in search.finals
        ],
    }
    files = {
        runs.TRIALS_FILE: table.to_csv(index=False, lineterminator="\n"),
        runs.TRIALS_PAGE: page,
        runs.SUMMARY_FILE: json.dumps(summary, indent=2, allow_nan=False) + "\n",
    }
    seals.write(folder, files)


def _summary(variant: Variant) -> dict[str, Any]:
    best = variant.best
    return {
        "variant": variant.name,
        "num_trials": len(variant.trials),
        "num_stopped": int((variant.trials["status"] == "stopped").sum()),
        "num_diverged": variant.num_diverged,
        "num_refused": variant.num_refused,
        "saved_epochs_fraction": variant.saved_fraction,
        "best_trial": best.number if best else None,
        "best_objective": best.value if best else None,
        "best_params": best.params if best else None,
        "edges": variant.edges,
    }


def draw_search(search: Search) -> list[Picture]:
    """All figures that a search's trials allow."""
    drawn = [budget(search)]
    if len(search.variants) == 1:
        (variant,) = search.variants
        drawn += [draw(search, variant) for draw in (history, slices, importance, contour)]
    return [picture for picture in drawn if picture is not None]


def history(search: Search, variant: Variant) -> Picture | None:
    """Objective of every trial, and the best so far."""
    if variant.trials.empty:
        return None
    figure = Figure(figsize=(10, 3.6), layout="constrained")
    axes = figure.subplots()
    _points(axes, variant.trials, variant.trials["trial"])
    numbers, best = _best_so_far(variant)
    axes.plot(numbers, best, color=_BEST, drawstyle="steps-post", label="best so far")
    axes.set(xlabel="trial", ylabel="objective: validation accuracy")
    _zoom(axes, variant.trials["objective"])
    legend(figure, axes)
    return Picture(f"{search.name}_history", figure, "Objective of every trial in its order.")


def slices(search: Search, variant: Variant) -> Picture | None:
    """Objective against every searched key."""
    keys = _keys(variant)
    if variant.trials.empty or not keys:
        return None
    size = (10 if len(keys) > 1 else 6.5, 3.1 * -(-len(keys) // _COLUMNS) + 0.5)
    figure = Figure(figsize=size, layout="constrained")
    drawn = panels(figure, len(keys), _COLUMNS, sharey=True)
    for axes, key in zip(drawn, keys, strict=True):
        rows_of_key = variant.trials.dropna(subset=[key])
        _points(axes, rows_of_key, _places(axes, variant, key, rows_of_key[key]))
        axes.set(xlabel=key_in_words(key))
        _zoom(axes, variant.trials["objective"])
    drawn[0].set_ylabel("objective")
    legend(figure, drawn[0])
    return Picture(f"{search.name}_slice", figure, "Objective of all trials against each key.")


def importance(search: Search, variant: Variant) -> Picture | None:
    """How much of the good trials' choice each key explains."""
    complete = variant.trials[variant.trials["status"] == "completed"]
    keys = [key for key in _keys(variant) if complete[key].notna().all()]
    if len(complete) < _MIN_TRIALS or len(keys) < 2:
        return None
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        evaluator = optuna.importance.PedAnovaImportanceEvaluator()
        found = optuna.importance.get_param_importances(
            variant.optuna_study, evaluator=evaluator, params=keys
        )
    figure = Figure(figsize=(6.5, 0.45 * len(found) + 1.1), layout="constrained")
    axes = figure.subplots()
    names = [key_in_words(key) for key in found][::-1]
    axes.barh(names, list(found.values())[::-1], color=_DONE, height=0.6)
    axes.set(xlabel="share of importance")
    axes.grid(visible=False, axis="y")
    caption = "Importance of each key for the objective by PED-ANOVA (arXiv:2304.10255)."
    return Picture(f"{search.name}_importance", figure, caption)


def contour(search: Search, variant: Variant) -> Picture | None:
    """Objective over pairs of numeric keys."""
    complete = variant.trials[variant.trials["status"] == "completed"]
    numeric = [key for key in _keys(variant) if _is_numeric(variant, key)]
    pairs = [
        pair
        for pair in itertools.combinations(numeric, 2)
        if len(complete.dropna(subset=list(pair))) >= _MIN_TRIALS
    ][:3]
    if not pairs:
        return None
    figure = Figure(figsize=(4.2 * len(pairs) + 1.2, 3.8), layout="constrained")
    drawn = panels(figure, len(pairs), len(pairs))
    for axes, (x, y) in zip(drawn, pairs, strict=True):
        trials = variant.trials.dropna(subset=[x, y, "objective"])
        trials = trials[trials["status"] == "completed"]  # of the others, the end is not known
        objective = trials["objective"].astype(float)
        levels = np.linspace(*_limits(objective), 9)
        across, up = (_transformed(variant, key, trials[key]) for key in (x, y))
        try:
            surface = axes.tricontourf(
                across,
                up,
                objective,
                levels=levels,
                cmap=sns.color_palette(HEATMAP, as_cmap=True),
                extend="min",
            )
        except RuntimeError:  # all trials on one line
            continue
        _points(axes, trials.assign(objective=up), across, size=14)
        for axis, key in ((axes.xaxis, x), (axes.yaxis, y)):
            if _is_log(variant, key):
                axis.set_major_locator(MaxNLocator(nbins=5, integer=True))
                axis.set_major_formatter(lambda value, _: phrase_value(float(f"{10**value:.2g}")))
        axes.set(xlabel=key_in_words(x), ylabel=key_in_words(y))
        axes.grid(visible=False)
    if not any(axes.collections for axes in drawn):
        return None
    figure.colorbar(surface, ax=drawn, label="objective")
    caption = "Objective between the trials, interpolated linearly; lighter is better."
    return Picture(f"{search.name}_contour", figure, caption)


def budget(search: Search) -> Picture | None:
    """Best objective so far against trials, a line for each variant."""
    variants = [one for one in search.variants if one.best is not None]
    if len(variants) < 2:
        return None
    figure = Figure(figsize=(10, 4.6), layout="constrained")
    axes = figure.subplots()
    looks = styles([one.name for one in variants])
    everything: list[float] = []
    for one in variants:
        numbers, best = _best_so_far(one)
        everything += best
        axes.plot(
            range(1, len(numbers) + 1),
            best,
            markevery=max(1, len(numbers) // 6),
            drawstyle="steps-post",
            label=in_words(one.name),
            **vars(looks[one.name]),
        )
    axes.set(xlabel="trials", ylabel="best validation accuracy so far")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    _zoom(axes, pd.Series(everything))
    legend(figure, axes)
    caption = "What each optimizer has reached for how many trials: a budget read off by eye."
    return Picture(f"{search.name}_budget", figure, caption)


def _points(axes: Axes, trials: pd.DataFrame, x: ArrayLike, size: int = 26) -> None:
    for status, colour, marker in (("completed", _DONE, "o"), ("stopped", _STOPPED, "x")):
        chosen = (trials["status"] == status).to_numpy()
        if chosen.any():
            axes.scatter(
                np.asarray(x)[chosen],
                trials["objective"].astype(float).to_numpy()[chosen],
                s=size,
                color=colour,
                marker=marker,
                linewidths=1.2 if marker == "x" else 0,
                label="trial" if status == "completed" else "stopped early",
                zorder=3,
            )


def _best_so_far(variant: Variant) -> tuple[list[int], list[float]]:
    complete = variant.trials.sort_values("trial")
    values = complete["objective"].astype(float).where(complete["status"] == "completed")
    return list(complete["trial"]), list(values.cummax().ffill())


def _keys(variant: Variant) -> list[str]:
    return [key for key in variant.trials if key not in TRIAL_COLUMNS]


def _is_numeric(variant: Variant, key: str) -> bool:
    distribution = _distribution(variant, key)
    return not isinstance(distribution, optuna.distributions.CategoricalDistribution)


def _is_log(variant: Variant, key: str) -> bool:
    return bool(getattr(_distribution(variant, key), "log", False))


def _distribution(variant: Variant, key: str) -> optuna.distributions.BaseDistribution:
    trials = variant.optuna_study.get_trials(deepcopy=False)
    return next(trial.distributions[key] for trial in trials if key in trial.distributions)


def _places(axes: Axes, variant: Variant, key: str, values: pd.Series) -> Sequence[float]:
    """Where values lie on an x axis, which is made logarithmic or one of words as they need."""
    if _is_numeric(variant, key):
        if _is_log(variant, key):
            axes.set_xlim(values.astype(float).min() / 1.5, values.astype(float).max() * 1.5)
            log_scale(axes, "x")
            axes.xaxis.set_major_locator(LogLocator(numticks=5))  # a panel is a quarter's width
        return list(values.astype(float))
    choices = list(getattr(_distribution(variant, key), "choices", ()))
    axes.set_xticks(range(len(choices)), [phrase_value(each) for each in choices])
    if sum(len(str(each)) for each in choices) > 16:
        axes.tick_params("x", rotation=40)
        for word in axes.get_xticklabels():
            word.set(ha="right", rotation_mode="anchor")
    return [choices.index(value) for value in values]


def _transformed(variant: Variant, key: str, values: pd.Series) -> np.ndarray:
    numbers = values.astype(float).to_numpy()
    return np.log10(numbers) if _is_log(variant, key) else numbers


def _limits(objective: pd.Series) -> tuple[float, float]:
    """The range worth looking at: the better three quarters of the trials."""
    known = objective.dropna()
    low, high = float(known.quantile(0.25)), float(known.max())
    return (low, high) if high > low else (high - 1e-3, high)


def _zoom(axes: Axes, objective: pd.Series) -> None:
    low, high = _limits(objective.astype(float))
    room = (high - low) * 0.35
    axes.set_ylim(low - 2 * room, high + room)
