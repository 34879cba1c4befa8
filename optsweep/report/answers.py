"""The answer to a question in one paragraph, written from its numbers alone."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence

import pandas as pd

from optsweep.report.calibration import promise
from optsweep.report.causes import causes
from optsweep.report.claims import Judgement
from optsweep.report.collection import TRAINED, Collection, Setting, is_search
from optsweep.report.findings import tally
from optsweep.report.gradients import SIGNAL, gradient_size
from optsweep.report.grids import at_edge, best_of, chosen_by, interaction
from optsweep.report.language import Text, listing, say, sentence_start, sentences
from optsweep.report.measures import in_words, score
from optsweep.report.optimizers import best_per_optimizer, ranking
from optsweep.report.outline import Claim, Question
from optsweep.report.statistics import mean_interval
from optsweep.report.timing import fit_step_time, step_times
from optsweep.report.wording import count, interval, number, short

_MAX_NAMES = 4


def answer(
    collection: Collection,
    question: Question,
    tables: dict[str, pd.DataFrame],
    judgements: Sequence[Judgement],
) -> Text:
    """A paragraph from the tables of a question's experiments and from its claims."""
    told: list[str] = []
    searches: list[str] = []
    for experiment, table in tables.items():
        settings = collection.settings_of(experiment)
        if is_search(settings):
            searches += _search(collection, experiment, settings)
        elif len(table) > 1:
            own = experiment == question.id or len(tables) == 1
            told += _experiment(table, question) if own else _sibling(experiment, table)
    told += searches
    for figure, tell in _TOLD_WITH.items():
        if figure in question.figures:
            told += tell(collection, question, list(tables))
    if not told and not collection.trained(list(tables)):
        told.append(say("answer.nothing"))
    if judgements:
        found = tally([each.verdict for each in judgements])
        told.append(say("answer.claims", claims=count(len(judgements), "claim"), tally=found))
    return sentences(told)


def brief(collection: Collection, question: Question, experiments: Sequence[str]) -> list[Text]:
    """The answer in two sentences to a question that no claim answers; empty if there is none."""
    if "calibration" in question.figures:
        return promise(collection)
    if question.answer:
        return []
    best = best_per_optimizer(collection, experiments)
    return ranking(collection, best) if best or question.question else []


def by_verdicts(
    question: Question, judgements: Sequence[Judgement], claims: Mapping[str, Claim]
) -> list[str]:
    """The answer in two sentences by the claims that give it; empty if none does.

    Args:
        question: What is asked.
        judgements: On the claims that answer it, or on more.
        claims: By their ids, in the language of the answer.
    """
    verdicts = {each.claim.id: each.verdict for each in judgements}
    known = [name for name in question.answer if name in verdicts]
    return [claims[name].outcomes[verdicts[name]] for name in known]


def cause(collection: Collection, question: Question, experiments: Sequence[str]) -> Text:
    """Why the network that was diagnosed with most seeds trains slowly; empty if none was."""
    return sentences(causes(collection, question, experiments))


def _experiment(table: pd.DataFrame, question: Question) -> list[str]:
    trained = _trained(table)
    if trained.empty:
        return [say("answer.no_result", n=len(table))]
    best = trained.loc[trained["test_accuracy_mean"].idxmax()]
    worst = trained.loc[trained["test_accuracy_mean"].idxmin()]
    ends = say(
        "answer.best_and_worst",
        settings=count(len(trained), "setting"),
        best=best["setting"],
        highest=_mean(best),
        worst=worst["setting"],
        lowest=_mean(worst),
    )
    told = [ends, *_differences(trained), *_target(trained, question), *_gaps(trained)]
    return told + _losses(table)


def _sibling(experiment: str, table: pd.DataFrame) -> list[str]:
    trained = _trained(table)
    if trained.empty:
        return [say("answer.sibling_nothing", experiment=experiment)]
    if (trained["num_collapsed"] == trained["num_seeds"]).all():
        return [say("answer.sibling_none_learns", experiment=experiment), *_losses(table)]
    best = trained.loc[trained["test_accuracy_mean"].idxmax()]
    found = say(
        "answer.sibling", experiment=experiment, setting=best["setting"], accuracy=_mean(best)
    )
    return [found, *_losses(table)]


def _trained(table: pd.DataFrame) -> pd.DataFrame:
    return table[table["status"].isin(TRAINED) & table["test_accuracy_mean"].notna()]


def _differences(table: pd.DataFrame) -> list[str]:
    compared = table[table["difference"].notna()]
    baselines = [name for name in compared["baseline"].unique() if name]
    if not baselines:
        return []
    clear = compared[(compared["difference_low"] > 0) | (compared["difference_high"] < 0)]
    one = len(baselines) == 1
    against = (
        say("answer.against", baseline=baselines[0]) if one else say("answer.against_its_baseline")
    )
    if clear.empty:
        return [say("answer.no_difference", against=against)]
    strongest = clear.reindex(clear["difference"].abs().sort_values(ascending=False).index)
    names = [
        say("answer.setting", name=row.setting, value=number(row.difference, 4, "+"))
        for row in strongest.head(_MAX_NAMES).itertuples()
    ]
    if len(clear) > len(names):
        names.append(say("answer.more", n=len(clear) - len(names)))
    rest = len(compared) - len(clear)
    others = say("answer.others", n=rest) if rest else Text("")
    return [say("answer.differences", against=against, names=listing(names), others=others)]


def _target(table: pd.DataFrame, question: Question) -> list[str]:
    ((column, target),) = question.target.items()
    aim = say("answer.aim", target=f"{target:g}", measure=in_words(column))
    reached = table[table["epochs_to_target"] < math.inf]
    if reached.empty:
        return [say("answer.none_reaches", aim=aim)]
    # Seconds tell of the settings only where these are timed alone.
    is_timed = question.is_timed and bool((reached["seconds_to_target"] < math.inf).any())
    first = reached.loc[reached[f"{'seconds' if is_timed else 'epochs'}_to_target"].idxmin()]
    missed = len(table) - len(reached)
    return [
        say(
            "answer.first_seconds" if is_timed else "answer.first",
            setting=sentence_start(first["setting"]),
            aim=aim,
            seconds=short(first["seconds_to_target"]),
            epochs=count(int(first["epochs_to_target"]), "epoch"),
            missed=say("answer.missed", n=missed) if missed else Text(""),
        )
    ]


def _gaps(table: pd.DataFrame) -> list[str]:
    known = table[table["generalisation_gap_mean"].notna()]
    if len(known) < 2:
        return []
    low = known.loc[known["generalisation_gap_mean"].idxmin()]
    high = known.loc[known["generalisation_gap_mean"].idxmax()]
    least, most = (number(row["generalisation_gap_mean"], 4) for row in (low, high))
    if least == most:
        return [say("answer.one_gap", gap=least)]
    return [
        say("answer.gaps", low=least, lowest=low["setting"], high=most, highest=high["setting"])
    ]


def _losses(table: pd.DataFrame) -> list[str]:
    told: list[str] = []
    diverged = table[table["num_diverged"] > 0]
    if len(diverged):
        names = [
            say("answer.of_seeds", setting=row.setting, num=row.num_diverged, of=row.num_seeds)
            for row in diverged.itertuples()
        ]
        told.append(say("answer.diverged", names=listing(names)))
    absent = table[~table["status"].isin(TRAINED)]
    if len(absent):
        names = [
            say("answer.setting", name=row.setting, value=row.status) for row in absent.itertuples()
        ]
        told.append(say("answer.absent", names=listing(names)))
    return told


def _search(collection: Collection, experiment: str, settings: Sequence[Setting]) -> list[str]:
    best = best_of(collection, settings)
    if best is None:
        return [say("answer.search_nothing", experiment=experiment)]
    edges = listing([in_words(key) for key in at_edge(best, settings)] or [""])
    return [
        say(
            "answer.search",
            settings=count(len(settings), "setting"),
            experiment=experiment,
            best=best.label,
            validation=number(chosen_by(collection, best)[1].mean(), 4),
            test=number(score(collection, best.cells, "test_accuracy").mean(), 4),
            edge=say("answer.edge", keys=edges) if edges else Text(""),
        )
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
        say(
            "answer.step_cost",
            overhead=short(fit.overhead * 1e6),
            per_example=short(fit.per_example * 1e6),
            equal=number(equal, 0),
            first=f"{first:,}",
            last=f"{last:,}",
            first_share=f"{shares[0]:.0%}",
            last_share=f"{shares[1]:.0%}",
            first_rate=number(rates.iloc[0], 0),
            last_rate=number(rates.iloc[-1], 0),
        )
    ]


def _coupling(collection: Collection, question: Question, experiments: Sequence[str]) -> list[str]:
    told = []
    for name in collection.searches(experiments):
        shares = interaction(collection, collection.trained([name]), ("lr", "weight_decay"))
        found = mean_interval(shares)
        if found.n:
            ends = interval(found.low, found.high, 3)
            value = number(found.estimate, 3)
            told.append(say("answer.in_map", value=value, interval=ends, experiment=name))
    return [say("answer.coupling", maps=listing(told))] if told else []


def _slowness(collection: Collection, question: Question, experiments: Sequence[str]) -> list[str]:
    for one in collection.trained(experiments):
        if collection.recorded(one.cells, "gradient_norm").empty:
            continue
        size, signal = (
            gradient_size(collection, one.cells, weight).mean()
            for weight in (question.weight, SIGNAL)
        )
        if size > 0:
            pixel = question.weight.rpartition(",")[2].rstrip("]")
            return [say("answer.slowness", pixel=pixel, times=short(signal / size))]
    return []


# What is said of a question beside its tables, with the figure that shows it.
_TOLD_WITH: dict[str, Callable[[Collection, Question, Sequence[str]], list[str]]] = {
    "timing": _step_cost,
    "weight_norms": _coupling,
    "gradient_traces": _slowness,
}
