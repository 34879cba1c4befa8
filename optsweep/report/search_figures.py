"""The figures of a search: what Optuna has found, drawn so that it looks like all others."""

from __future__ import annotations

import importlib.util
import itertools
import warnings
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import optuna
import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, MaxNLocator
from numpy.typing import ArrayLike, NDArray

from optsweep.report.curves import grey_told
from optsweep.report.drawing import GREY, HEATMAP, INK, PAPER, legend, log_scale, panels, styles
from optsweep.report.language import say, sentences
from optsweep.report.pictures import Picture
from optsweep.report.searches import TRIAL_COLUMNS, Search, Variant, key_in_words
from optsweep.report.settings import in_words, phrase_value

_BEST, _DONE, _STOPPED = "#d55e00", "#0072b2", "#6f7783"
_MIN_TRIALS = 10  # fewer tell nothing of importance or of a surface
_COLUMNS = 4
NUM_ORDERS = 1000  # of the trials, for the band about the best so far


def draw_search(search: Search, with_budget: bool = True) -> list[Picture]:
    """All figures that a search's trials allow."""
    drawn = [budget(search)] if with_budget else []
    if len(search.variants) == 1:
        (variant,) = search.variants
        shares = importances(variant)
        drawn += [history(search, variant), slices(search, variant)]
        drawn += [draw_importances(search, shares), parallel_coordinates(search, variant)]
        drawn.append(contour(search, variant, shares))
    return [picture for picture in drawn if picture is not None]


def history(search: Search, variant: Variant) -> Picture | None:
    """Objective of every trial, and the best so far."""
    if variant.trials.empty:
        return None
    figure = Figure(figsize=(10, 3.6), layout="constrained")
    axes = figure.subplots()
    numbers, best = _best_so_far(variant)
    low, _, high = reordered(variant)
    axes.fill_between(
        *(numbers, low, high),
        color=_BEST,
        alpha=0.15,
        lw=0,
        step="post",
        label="the same, trials in random order",
    )
    _points(axes, variant.trials, variant.trials["trial"])
    axes.plot(numbers, best, color=_BEST, drawstyle="steps-post", label="best so far")
    axes.set(xlabel="trial", ylabel="objective: validation accuracy")
    _zoom(axes, variant.trials["objective"])
    legend(figure, axes)
    caption = say("caption.search_history", orders=NUM_ORDERS)
    return Picture(f"{search.name}_history", figure, caption)


def slices(search: Search, variant: Variant) -> Picture | None:
    """Objective against every searched key."""
    keys = keys_of(variant)
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
    return Picture(f"{search.name}_slice", figure, say("caption.search_slice"))


def importances(variant: Variant) -> dict[str, dict[str, float]]:
    """Share of the objective that each key explains, by the name of the method.

    fANOVA needs scikit-learn; without it there is PED-ANOVA alone. None of few trials.
    """
    complete = variant.trials[variant.trials["status"] == "completed"]
    keys = [key for key in keys_of(variant) if complete[key].notna().all()]
    if len(complete) < _MIN_TRIALS or len(keys) < 2:
        return {}
    found = {}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        evaluators: dict[str, Any] = {}
        if importlib.util.find_spec("sklearn"):
            evaluators["fANOVA"] = optuna.importance.FanovaImportanceEvaluator(seed=0)
        evaluators["PED-ANOVA"] = optuna.importance.PedAnovaImportanceEvaluator()
        for name, evaluator in evaluators.items():
            found[name] = optuna.importance.get_param_importances(
                variant.optuna_study, evaluator=evaluator, params=keys
            )
    return found


def draw_importances(search: Search, found: Mapping[str, Mapping[str, float]]) -> Picture | None:
    """How much of the objective, and of the choice of the good trials, each key explains."""
    if not found:
        return None
    keys = list(next(iter(found.values())))[::-1]  # the most important on top
    figure = Figure(figsize=(6.5, 0.5 * len(keys) + 1.5), layout="constrained")
    axes = figure.subplots()
    height = 0.7 / len(found)
    for index, (method, shares) in enumerate(found.items()):
        places = np.arange(len(keys)) - height * (index - (len(found) - 1) / 2)
        widths = [shares[key] for key in keys]
        axes.barh(places, widths, height, color=(_DONE, _STOPPED)[index], label=method)
    axes.set_yticks(range(len(keys)), [key_in_words(key) for key in keys])
    axes.set(xlabel="share of importance")
    axes.grid(visible=False, axis="y")
    legend(figure, axes)
    both = "fANOVA" in found
    caption = say("caption.search_importance" if both else "caption.search_ped_anova")
    return Picture(f"{search.name}_importance", figure, caption)


def parallel_coordinates(search: Search, variant: Variant) -> Picture | None:
    """A line for each complete trial through its values of all keys; the best are on top."""
    complete = variant.trials[variant.trials["status"] == "completed"]
    keys = keys_of(variant)
    complete = complete.dropna(subset=["objective"]).sort_values("objective")
    if len(complete) < _MIN_TRIALS or len(keys) < 2:
        return None
    figure = Figure(figsize=(10, 4.2), layout="constrained")
    axes = figure.subplots()
    scales = [_Scale.of_key(variant, key, complete[key]) for key in keys]
    objective = complete["objective"].astype(float)
    scales.append(_Scale.of_numbers(objective, _limits(objective), log=False))
    places = np.array([scale.places for scale in scales])  # (keys, trials)
    colours = sns.color_palette(HEATMAP, as_cmap=True)
    for trial in range(len(complete)):
        shade = float(np.clip(places[-1, trial], 0, 1))
        axes.plot(places[:, trial], color=colours(shade), alpha=0.35 + 0.6 * shade, lw=0.9 + shade)
    for index, scale in enumerate(scales):
        axes.axvline(index, color=INK, lw=0.8)
        for place, word in scale.ticks:
            axes.annotate(
                *(word, (index, place), (4, 0)),
                textcoords="offset points",
                fontsize=8,
                va="center",
                bbox={"facecolor": PAPER, "alpha": 0.8, "lw": 0, "pad": 1},
            )
    names = [*(key_in_words(key) for key in keys), "objective"]
    axes.set_xticks(range(len(names)), names)
    axes.set(yticks=[], ylim=(-0.05, 1.08), xlim=(-0.1, len(names) - 0.6))
    axes.grid(visible=False)
    for side in ("left", "bottom"):
        axes.spines[side].set_visible(False)
    caption = say("caption.search_parallel")
    return Picture(f"{search.name}_parallel", figure, caption)


class _Scale(NamedTuple):
    """Where the values of a key lie on its axis from 0 to 1, and what stands beside it."""

    places: np.ndarray
    ticks: list[tuple[float, str]]

    @classmethod
    def of_key(cls, variant: Variant, key: str, values: pd.Series) -> _Scale:
        """Of a searched key: its range, or its choices one above the other."""
        distribution = _distribution(variant, key)
        if isinstance(distribution, optuna.distributions.CategoricalDistribution):
            choices = list(distribution.choices)
            last = max(1, len(choices) - 1)
            known = [choices.index(each) / last if each in choices else 0.0 for each in values]
            ticks = [(i / last, phrase_value(each)) for i, each in enumerate(choices)]
            return cls(np.array(known), ticks)
        ends = (float(distribution.low), float(distribution.high))  # type: ignore[attr-defined]
        return cls.of_numbers(values.astype(float), ends, _is_log(variant, key))

    @classmethod
    def of_numbers(cls, values: pd.Series, ends: tuple[float, float], log: bool) -> _Scale:
        """Of numbers between two ends."""
        low, high = np.log10(ends) if log else ends
        numbers = np.log10(values) if log else values
        width = (high - low) or 1.0
        places = np.nan_to_num((numbers.to_numpy() - low) / width).clip(0, 1)
        middle = (low + high) / 2
        shown = [10**place if log else place for place in (low, middle, high)]
        ticks = [(i / 2, phrase_value(float(f"{each:.3g}"))) for i, each in enumerate(shown)]
        return cls(places, ticks)


def contour(
    search: Search, variant: Variant, shares: Mapping[str, Mapping[str, float]]
) -> Picture | None:
    """Objective over pairs of numeric keys, the most important ones first."""
    complete = variant.trials[variant.trials["status"] == "completed"]
    weights = next(iter(shares.values()), {})
    keys = sorted(keys_of(variant), key=lambda key: -weights.get(key, 0.0))
    numeric = [key for key in keys if _is_numeric(variant, key)]
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
    caption = say("caption.search_contour")
    return Picture(f"{search.name}_contour", figure, caption)


def budget(search: Search) -> Picture | None:
    """Best objective so far against trials, a line for each variant."""
    variants = [one for one in search.variants if one.best is not None]
    if len(variants) < 2:
        return None
    figure = Figure(figsize=(10, 4.6), layout="constrained")
    axes = figure.subplots()
    names = [one.name for one in variants]
    reached = {one.name: float(one.best.value or 0.0) for one in variants if one.best}
    looks = styles(names, ranked=sorted(names, key=lambda name: -reached[name]))
    everything: list[float] = []
    for one in variants:
        numbers, best = _best_so_far(one)
        everything += best
        if looks[one.name].is_grey:
            steps = range(1, len(numbers) + 1)
            axes.plot(steps, best, color=GREY, drawstyle="steps-post", lw=1.0, zorder=1.5)
            continue
        low, _, high = reordered(one)
        axes.fill_between(
            range(1, len(numbers) + 1),
            low,
            high,
            color=looks[one.name].color,
            alpha=0.12,
            lw=0,
            step="post",
        )
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
    told: list[str] = [say("caption.search_budget", orders=NUM_ORDERS)]
    told.append(grey_told(list(looks), looks))
    return Picture(f"{search.name}_budget", figure, sentences(told))


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


def reordered(variant: Variant) -> NDArray[np.float64]:
    """Quartiles of the best so far after each trial, had they come in another order.

    Returns:
        (3, trials): lower quartile, median, upper quartile; NaN before a trial is complete.
    """
    trials = variant.trials
    values = trials["objective"].astype(float).where(trials["status"] == "completed", -np.inf)
    rows = np.tile(values.fillna(-np.inf).to_numpy(), (NUM_ORDERS, 1))
    orders = np.random.default_rng(0).permuted(rows, axis=1)
    best = np.maximum.accumulate(orders, axis=1)
    quartiles = np.quantile(best, (0.25, 0.5, 0.75), axis=0, method="lower")
    return np.where(np.isfinite(quartiles), quartiles, np.nan)


def keys_of(variant: Variant) -> list[str]:
    """The keys that were searched."""
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
