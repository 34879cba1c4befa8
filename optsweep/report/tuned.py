"""Optimizers compared over tasks, each tuned by a search of its own with the same budget.

Searches with the same variants are the tasks of one comparison. Trials are chosen by validation;
what was chosen is trained again on fresh seeds, whose test accuracies are read once. Scores of all
tasks together are interquartile means, and one optimizer's chance to beat another is that of a
random run (both as in Agarwal et al. 2021, arXiv:2108.13264); intervals resample runs within
tasks. Performance profiles count tasks (Dahl et al. 2023, arXiv:2306.07179; Dolan & Moré 2002).
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from numpy.typing import NDArray
from optuna.trial import FrozenTrial, TrialState
from scipy import stats

from optsweep import runs
from optsweep.config.checks import InputError
from optsweep.report.drawing import GREY, MAX_LINES, legend, panels, styles
from optsweep.report.language import listing, say
from optsweep.report.pictures import Picture
from optsweep.report.search_figures import NUM_ORDERS, reordered
from optsweep.report.searches import Search, Variant
from optsweep.report.settings import in_words
from optsweep.report.statistics import CONFIDENCE, Interval
from optsweep.report.wording import count, interval, number
from optsweep.search.scores import validation_accuracies
from optsweep.search.trials import CELL

_NUM_RESAMPLES = 2000
_CUT = 0.25  # of the values at either end, which an interquartile mean leaves out
_COLUMNS = 3
_CHANCE = "chance that the first is better"


class Contender(NamedTuple):
    """An optimizer on a task.

    Attributes:
        variant: Its search.
        tests: Test accuracies (R,) of its best setting, on fresh seeds.
        cells: Folder of the cells of its trials.
    """

    variant: Variant
    tests: NDArray[np.float64]
    cells: Path


@dataclass(frozen=True)
class Tuned:
    """A comparison.

    Attributes:
        name: Of its searches.
        tasks: Task -> optimizer -> contender; every task has every optimizer.
        searches: Their names.
    """

    name: str
    tasks: Mapping[str, Mapping[str, Contender]]
    searches: Sequence[str] = ()

    @property
    def optimizers(self) -> list[str]:
        """All of them, the greatest interquartile mean first."""
        names = next(iter(self.tasks.values()))
        return sorted(names, key=lambda name: -_iqm(*self._tests(name)))

    @property
    def num_trials(self) -> int:
        """The budget that every optimizer has had on every task."""
        return min(len(one.variant.trials) for task in self.tasks.values() for one in task.values())

    def score(self, optimizer: str) -> Interval:
        """The interquartile mean of the test accuracies of all tasks."""
        tests = self._tests(optimizer)
        return _resampled(_iqm, tests, sum(map(len, tests)))

    def improvement(self, optimizer: str, other: str) -> Interval:
        """How probable it is that a run of one ends above a run of the other; ties are halves."""
        pairs = [*self._tests(optimizer), *self._tests(other)]
        return _resampled(_improvement, pairs, sum(map(len, pairs)) // 2)

    def spreads(self, optimizer: str) -> dict[str, float]:
        """Standard deviations of test accuracy, averaged over tasks: of seeds and of searches.

        A search is repeated by drawing its trials anew, with replacement: it chooses another of
        them by validation, and that one's test accuracy is what counts here, noise of its own
        seeds included.
        """
        of_task = [task[optimizer] for task in self.tasks.values()]
        return {
            "seeds": float(np.mean([np.std(one.tests, ddof=1) for one in of_task])),
            "searches": float(np.mean([_spread_of_searches(one) for one in of_task])),
        }

    def _tests(self, optimizer: str) -> list[NDArray[np.float64]]:
        return [task[optimizer].tests for task in self.tasks.values()]


def comparisons(searches: Iterable[Search]) -> list[Tuned]:
    """What there is to compare: searches of several variants that are complete, by their variants.

    Of a search that still runs there are no cells on fresh seeds yet, and it is left out.
    """
    groups: dict[tuple[str, ...], list[Search]] = {}
    for search in searches:
        names = tuple(one.name for one in search.variants)
        if len(names) > 1 and len(_winners(search)) == len(names):
            groups.setdefault(names, []).append(search)
    return [_compared(group) for group in groups.values()]


def scores_table(tuned: Tuned) -> pd.DataFrame:
    """A row for each optimizer: test accuracy on every task and on all, and beside the first."""
    first = tuned.optimizers[0]
    rows = []
    for name in tuned.optimizers:
        score = tuned.score(name)
        row = {"optimizer": name}
        for task, contenders in tuned.tasks.items():
            row[task] = number(float(contenders[name].tests.mean()), 4)
        row["all tasks"] = number(score.estimate, 4)
        row["95 % interval"] = interval(score.low, score.high, 4)
        row[_CHANCE] = "–"
        if name != first:
            chance = tuned.improvement(first, name)
            row[_CHANCE] = f"{number(chance.estimate, 2)} ({interval(chance.low, chance.high, 2)})"
        rows.append(row)
    return pd.DataFrame(rows)


def sentences(tuned: Tuned) -> list[str]:
    """What was found, how sure that is, and what it depends on."""
    first, *others = tuned.optimizers
    seeds = {len(one.tests) for task in tuned.tasks.values() for one in task.values()}
    alike = [name for name in others if tuned.improvement(first, name).low <= 0.5]
    told: list[str] = [
        say(
            "tuned.first",
            tasks=count(len(tuned.tasks), "task"),
            optimizers=count(len(others) + 1, "optimizer"),
            trials=count(tuned.num_trials, "trial"),
            seeds=min(seeds),
            first=first,
            accuracy=number(tuned.score(first).estimate, 4),
        )
    ]
    if alike:
        told.append(say("tuned.alike", optimizers=listing(alike)))
    spreads = [tuned.spreads(name) for name in tuned.optimizers]
    of_seeds, of_searches = (
        float(np.median([each[key] for each in spreads])) for key in ("seeds", "searches")
    )
    told.append(say("tuned.spreads", seeds=number(of_seeds, 4), searches=number(of_searches, 4)))
    edges = [
        name
        for name in tuned.optimizers
        if any(task[name].variant.edges for task in tuned.tasks.values())
    ]
    if edges:
        told.append(say("tuned.edges", optimizers=listing(edges)))
    return told


def draw(tuned: Tuned) -> list[Picture]:
    """Budget curves for each task, and the profiles over several."""
    return [_budgets(tuned), *([_profiles(tuned)] if len(tuned.tasks) > 1 else [])]


def times_to_target(tuned: Tuned) -> pd.DataFrame:
    """Epochs until a task's target, infinite if it is missed: a row per task, a column each.

    The target is the validation accuracy that half of the optimizers reach at their best.
    """
    rows = {}
    for task, contenders in tuned.tasks.items():
        curves = {name: _validation(one) for name, one in contenders.items()}
        target = float(np.median([max(curve, default=0.0) for curve in curves.values()]))
        rows[task] = {
            name: next((epoch for epoch, value in enumerate(curve, 1) if value >= target), math.inf)
            for name, curve in curves.items()
        }
    return pd.DataFrame.from_dict(rows, orient="index")


def profile(times: pd.DataFrame) -> pd.DataFrame:
    """The profile of each column of times: a row per task, infinite for a failure.

    With t(o, k) the time of optimizer o on task k, its profile at r is the share of tasks with
    t(o, k) <= r min over o' of t(o', k).

    Returns:
        A column per optimizer; index: the ratios at which a profile rises, 1 first.
    """
    fastest = times.min(axis=1)
    ratios = times.div(fastest.where(fastest < math.inf, 1.0), axis=0)
    rises = np.unique(ratios.to_numpy()[np.isfinite(ratios.to_numpy())])
    steps = np.union1d([1.0], rises)
    shares = {name: [(ratios[name] <= step).mean() for step in steps] for name in ratios}
    return pd.DataFrame(shares, index=steps)


def _compared(searches: Sequence[Search]) -> Tuned:
    shortest = min((search.name for search in searches), key=len)
    tasks = {}
    for search in searches:
        task = search.name.removeprefix(shortest)
        winners = _winners(search)
        tasks[task.strip("_").replace("_", " ") or "default"] = {
            in_words(one.name): Contender(
                one, winners[one.name], search.folder.parent / runs.CELLS_FOLDER
            )
            for one in search.variants
        }
    return Tuned(shortest, tasks, [search.name for search in searches])


def _winners(search: Search) -> dict[str, NDArray[np.float64]]:
    """Variant -> test accuracies of its best setting on fresh seeds."""
    return {
        final.variant: final.accuracies.to_numpy(dtype=float)
        for final in search.finals
        if final.kind == "best"
    }


def _iqm(*values: NDArray[np.float64], axis: int = -1) -> Any:
    """The interquartile mean of the values of all tasks together."""
    return stats.trim_mean(np.concatenate(values, axis=axis), _CUT, axis=axis)


def _improvement(*values: NDArray[np.float64], axis: int = -1) -> Any:
    """The mean over tasks of P(X > Y) + P(X = Y) / 2: first the X of every task, then the Y."""
    assert axis == -1
    half = len(values) // 2
    chances = [
        (np.sign(x[..., :, None] - y[..., None, :]).mean(axis=(-2, -1)) + 1) / 2
        for x, y in zip(values[:half], values[half:], strict=True)
    ]
    return np.mean(chances, axis=0)


def _resampled(statistic: Any, samples: Sequence[NDArray[np.float64]], num_values: int) -> Interval:
    """A statistic of several samples with the percentile interval of resampling each of them."""
    estimate = float(statistic(*samples))
    if all(np.ptp(sample) == 0 for sample in samples):
        return Interval(estimate, estimate, estimate, num_values)
    found = stats.bootstrap(
        tuple(samples),
        statistic,
        n_resamples=_NUM_RESAMPLES,
        vectorized=True,
        confidence_level=CONFIDENCE,
        method="percentile",
        rng=np.random.default_rng(0),
    ).confidence_interval
    return Interval(estimate, float(found.low), float(found.high), num_values)


def _complete(variant: Variant) -> list[FrozenTrial]:
    trials = variant.optuna_study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))
    return [trial for trial in trials if CELL in trial.user_attrs and trial.value is not None]


def _spread_of_searches(contender: Contender) -> float:
    trials = _complete(contender.variant)
    chosen = np.array([trial.value for trial in trials])
    tests = np.array([_test_accuracy(contender.cells / trial.user_attrs[CELL]) for trial in trials])
    again = np.random.default_rng(0).integers(len(trials), size=(_NUM_RESAMPLES, len(trials)))
    picked = again[np.arange(_NUM_RESAMPLES), chosen[again].argmax(axis=1)]
    return float(np.nanstd(tests[picked], ddof=1))


def _test_accuracy(cell: Path) -> float:
    """Mean over the seeds of a trial's cell; NaN if it is not here."""
    try:
        result = runs.read_result(cell)
    except InputError:  # named where all cells are
        return math.nan
    if result is None:
        return math.nan
    return runs.mean_accuracy(
        runs.counted_accuracies(each["test_accuracy"] for each in result["per_seed"])
    )


def _validation(contender: Contender) -> list[float]:
    """Mean validation accuracy after every epoch of the best trial; empty if it is not here."""
    best = contender.variant.best
    path = contender.cells / best.user_attrs[CELL] / runs.HISTORY_FILE if best else None
    if path is None or not path.is_file():
        return []
    return [mean for _, mean, _ in validation_accuracies(path)]


def _budgets(tuned: Tuned) -> Picture:
    shown = tuned.optimizers[:MAX_LINES]
    looks = styles(shown)
    budget = tuned.num_trials
    num_rows = math.ceil(len(tuned.tasks) / _COLUMNS)
    figure = Figure(figsize=(10, 1.0 + 3.0 * num_rows), layout="constrained")
    drawn = panels(figure, len(tuned.tasks), min(_COLUMNS, len(tuned.tasks)))
    for axes, (task, contenders) in zip(drawn, tuned.tasks.items(), strict=True):
        ends = []
        for name in reversed(tuned.optimizers):
            low, middle, high = reordered(contenders[name].variant)[:, :budget]
            numbers = range(1, budget + 1)
            ends.append(middle)
            if name not in looks:
                axes.plot(numbers, middle, color=GREY, linewidth=1, zorder=1)
                continue
            axes.fill_between(numbers, low, high, color=looks[name].color, alpha=0.12, lw=0)
            axes.plot(numbers, middle, label=name, markevery=budget, **vars(looks[name]))
        last = np.array(ends)[:, -1]
        axes.set_ylim(float(np.median(last)) - 0.03, float(last.max()) + 0.004)
        axes.set(title=task, xlabel="trials", ylabel="best validation accuracy")
    legend(figure, drawn[0])
    caption = say("caption.budgets", orders=NUM_ORDERS, shown=len(shown))
    return Picture(f"{tuned.name}_budgets", figure, caption)


def _profiles(tuned: Tuned) -> Picture:
    profiles = profile(times_to_target(tuned))
    last = float(profiles.index[-1])
    end = last + max(0.05, 0.1 * (last - 1))  # beyond the last rise, so that it is seen
    profiles.loc[end] = profiles.iloc[-1]
    shown = tuned.optimizers[:MAX_LINES]
    looks = styles(shown)
    figure = Figure(figsize=(10, 4.2), layout="constrained")
    axes = figure.subplots()
    for name in reversed(tuned.optimizers):
        if name not in looks:
            axes.step(profiles.index, profiles[name], where="post", color=GREY, linewidth=1)
            continue
        every = max(1, len(profiles) // 8)
        look = vars(looks[name])
        axes.step(profiles.index, profiles[name], where="post", markevery=every, label=name, **look)
    axes.set(xlabel="epochs, as a multiple of the fastest optimizer's", ylabel="share of the tasks")
    axes.set(xlim=(1, end), ylim=(0, 1.02))
    legend(figure, axes)
    caption = say("caption.profiles", tasks=count(len(tuned.tasks), "task"))
    return Picture(f"{tuned.name}_profile", figure, caption)
