"""The answer to a question in one paragraph, written from its numbers alone."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import pandas as pd

from optsweep.report.causes import causes
from optsweep.report.claims import Judgement
from optsweep.report.collection import TRAINED, Collection, Setting, is_search
from optsweep.report.findings import tally
from optsweep.report.gradients import SIGNAL, gradient_size
from optsweep.report.grids import at_edge, best_of, chosen_by, interaction
from optsweep.report.measures import score
from optsweep.report.optimizers import by_optimizer
from optsweep.report.outline import Question
from optsweep.report.statistics import mean_interval
from optsweep.report.timing import fit_step_time, step_times
from optsweep.report.wording import count, interval, listing, number, short

_MAX_NAMES = 4


def answer(
    collection: Collection,
    question: Question,
    tables: dict[str, pd.DataFrame],
    judgements: Sequence[Judgement],
) -> str:
    """A paragraph from the tables of a question's experiments and from its claims."""
    sentences: list[str] = []
    searches: list[str] = []
    for experiment, table in tables.items():
        settings = collection.settings_of(experiment)
        if is_search(settings):
            searches += _search(collection, experiment, settings)
        elif len(table) > 1:
            own = experiment == question.id or len(tables) == 1
            sentences += _experiment(table, question) if own else _sibling(experiment, table)
    sentences += searches
    for figure, tell in _TOLD_WITH.items():
        if figure in question.figures:
            sentences += tell(collection, question, list(tables))
    if not sentences and not collection.trained(list(tables)):
        sentences.append("Nothing of this question has been trained yet.")
    if judgements:
        told = tally([each.verdict for each in judgements])
        sentences.append(f"Of {count(len(judgements), 'claim')}, {told}.")
    return _paragraph(sentences)


def cause(collection: Collection, question: Question, experiments: Sequence[str]) -> str:
    """Why the network that was diagnosed with most seeds trains slowly; empty if none was."""
    return _paragraph(causes(collection, question, experiments))


def _paragraph(sentences: Sequence[str]) -> str:
    return (
        " ".join(sentences)
        .replace(" ± ", "\u00a0±\u00a0")
        .replace(" %", "\u00a0%")
        .replace(" s ", "\u00a0s ")
    )


def _experiment(table: pd.DataFrame, question: Question) -> list[str]:
    trained = _trained(table)
    if trained.empty:
        return [f"None of the {len(table)} settings has a result yet."]
    best = trained.loc[trained["test_accuracy_mean"].idxmax()]
    worst = trained.loc[trained["test_accuracy_mean"].idxmin()]
    told = [
        f"Of {count(len(trained), 'setting')}, {best['setting']} ends with the highest test "
        f"accuracy, {_mean(best)}, and {worst['setting']} with the lowest, {_mean(worst)}."
    ]
    told += _differences(trained) + _target(trained, question) + _gaps(trained)
    return told + _losses(table)


def _sibling(experiment: str, table: pd.DataFrame) -> list[str]:
    trained = _trained(table)
    if trained.empty:
        return [f"{experiment} has no result yet."]
    best = trained.loc[trained["test_accuracy_mean"].idxmax()]
    return [
        f"In {experiment}, {best['setting']} is best with {_mean(best)}.",
        *_losses(table),
    ]


def _trained(table: pd.DataFrame) -> pd.DataFrame:
    return table[table["status"].isin(TRAINED) & table["test_accuracy_mean"].notna()]


def _differences(table: pd.DataFrame) -> list[str]:
    compared = table[table["difference"].notna()]
    baselines = [name for name in compared["baseline"].unique() if name]
    if not baselines:
        return []
    clear = compared[(compared["difference_low"] > 0) | (compared["difference_high"] < 0)]
    against = f"Against {baselines[0]}" if len(baselines) == 1 else "Against its baseline"
    if clear.empty:
        return [f"{against}, no difference can be told from 0."]
    strongest = clear.reindex(clear["difference"].abs().sort_values(ascending=False).index)
    names = [
        f"{row.setting} ({number(row.difference, 4, '+')})"
        for row in strongest.head(_MAX_NAMES).itertuples()
    ]
    if len(clear) > len(names):
        names.append(f"{len(clear) - len(names)} more")
    rest = len(compared) - len(clear)
    others = f"; {count(rest, 'other')} cannot be told from it" if rest else ""
    return [f"{against}, the 95 % interval excludes 0 for {listing(names)}{others}."]


def _target(table: pd.DataFrame, question: Question) -> list[str]:
    ((column, target),) = question.target.items()
    aim = f"{target:g} {column.replace('_', ' ')}"
    reached = table[table["epochs_to_target"] < math.inf]
    if reached.empty:
        return [f"No setting reaches {aim} with most of its seeds."]
    # Seconds tell of the settings only where these are timed alone.
    time = "seconds" if question.is_timed else "epochs"
    first = reached.loc[reached[f"{time}_to_target"].idxmin()]
    seconds = f"{short(first['seconds_to_target'])} s and " if question.is_timed else ""
    told = (
        f"{first['setting']} reaches {aim} first, after {seconds}"
        f"{count(int(first['epochs_to_target']), 'epoch')}"
    )
    missed = len(table) - len(reached)
    return [
        told[0].upper()
        + told[1:]
        + (
            f"; {count(missed, 'setting')} never do."
            if missed > 1
            else "; one setting never does."
            if missed
            else "."
        )
    ]


def _gaps(table: pd.DataFrame) -> list[str]:
    known = table[table["generalisation_gap_mean"].notna()]
    if len(known) < 2:
        return []
    low = known.loc[known["generalisation_gap_mean"].idxmin()]
    high = known.loc[known["generalisation_gap_mean"].idxmax()]
    if number(low["generalisation_gap_mean"], 4) == number(high["generalisation_gap_mean"], 4):
        return [f"The generalisation gap is {number(low['generalisation_gap_mean'], 4)} for all."]
    return [
        f"The generalisation gap goes from {number(low['generalisation_gap_mean'], 4)} "
        f"({low['setting']}) to {number(high['generalisation_gap_mean'], 4)} ({high['setting']})."
    ]


def _losses(table: pd.DataFrame) -> list[str]:
    told = []
    diverged = table[table["num_diverged"] > 0]
    if len(diverged):
        names = [
            f"{row.setting} ({row.num_diverged} of {row.num_seeds} seeds)"
            for row in diverged.itertuples()
        ]
        told.append(f"Diverged: {listing(names)}.")
    absent = table[~table["status"].isin(TRAINED)]
    if len(absent):
        names = [f"{row.setting} ({row.status})" for row in absent.itertuples()]
        told.append(f"Without a result: {listing(names)}.")
    return told


def _search(collection: Collection, experiment: str, settings: Sequence[Setting]) -> list[str]:
    best = best_of(collection, settings)
    if best is None:
        return [f"The search {experiment} has no result yet."]
    validated = chosen_by(collection, best)[1].mean()
    tested = score(collection, best.cells, "test_accuracy").mean()
    edges = listing([key.replace("_", " ") for key in at_edge(best, settings)] or [""])
    warning = (
        f", at the edge of its {edges} grid, so that a better one may lie beyond" if edges else ""
    )
    return [
        f"Of {count(len(settings), 'setting')}, the search {experiment} chooses {best.label} "
        f"(validation {number(validated, 4)}, test {number(tested, 4)}){warning}."
    ]


def _mean(row: pd.Series) -> str:
    spread = row["test_accuracy_std"]
    told = "" if math.isnan(spread) else f" ± {number(spread, 4)}"
    return number(row["test_accuracy_mean"], 4) + told


def _step_cost(collection: Collection, question: Question, experiments: Sequence[str]) -> list[str]:
    settings = collection.trained(experiments)
    times = step_times(collection, settings).median()
    if len(times) < 3:
        return []
    fit = fit_step_time(list(times.index), list(times))
    equal = fit.overhead / fit.per_example if fit.per_example else math.inf
    rates = times.index / times
    first, last = times.index[0], times.index[-1]
    shares = [fit.overhead / fit.seconds(size) for size in (first, last)]
    return [
        f"A step costs {short(fit.overhead * 1e6)} µs whatever its size and "
        f"{short(fit.per_example * 1e6)} µs for each image; both weigh the same at a batch of "
        f"{number(equal, 0)}. From batch size {first:,} to {last:,}, the fixed cost falls from "
        f"{shares[0]:.0%} to {shares[1]:.0%} of a step, and images per second go from "
        f"{number(rates.iloc[0], 0)} to {number(rates.iloc[-1], 0)}."
    ]


def _coupling(collection: Collection, question: Question, experiments: Sequence[str]) -> list[str]:
    told = []
    for name in collection.searches(experiments):
        shares = interaction(collection, collection.trained([name]), ("lr", "weight_decay"))
        found = mean_interval(shares)
        if found.n:
            ends = interval(found.low, found.high, 3)
            told.append(f"{number(found.estimate, 3)} ({ends}) in {name}")
    if not told:
        return []
    return [f"Of the map's variation, {listing(told)} is interaction of learning rate and decay."]


def _slowness(collection: Collection, question: Question, experiments: Sequence[str]) -> list[str]:
    told = []
    for one in collection.trained(experiments):
        if collection.recorded(one.cells, "gradient_norm").empty:
            continue
        size, signal = (
            gradient_size(collection, one.cells, weight).mean()
            for weight in (question.weight, SIGNAL)
        )
        if size > 0:
            pixel = question.weight.rpartition(",")[2].rstrip("]")
            told.append(
                f"The gradient of the weight from pixel {pixel} is {short(signal / size)} times "
                "smaller than that of a weight whose pixel carries signal."
            )
    return told


def _ranking(collection: Collection, question: Question, experiments: Sequence[str]) -> list[str]:
    tested = {}
    for name, settings in by_optimizer(collection.trained(experiments)).items():
        best = best_of(collection, settings)
        assert best is not None
        tested[name] = score(collection, best.cells, "test_accuracy").mean()
    if len(tested) < 2:
        return []
    order = sorted(tested, key=lambda name: -tested[name])
    told = [f"{name} {number(tested[name], 4)}" for name in order]
    return [f"Each at its best setting, they end with a test accuracy of {listing(told)}."]


# What is said of a question beside its tables, with the figure that shows it.
_TOLD_WITH: dict[str, Callable[[Collection, Question, Sequence[str]], list[str]]] = {
    "timing": _step_cost,
    "weight_norms": _coupling,
    "gradient_traces": _slowness,
    "performance_profile": _ranking,
}
