"""What a search found, from its folder alone: its trials, its cells on fresh seeds, in words."""

from __future__ import annotations

import functools
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import optuna
import pandas as pd
from optuna.trial import FrozenTrial, TrialState

from optsweep import runs
from optsweep.config.checks import InputError, first_line
from optsweep.report.language import Text, listing, say
from optsweep.report.measures import LEARNED, has_two_modes
from optsweep.report.settings import in_words, name_of, phrase_value
from optsweep.report.statistics import Interval, Location, paired_differences
from optsweep.report.wording import count, interval, number
from optsweep.seals import SUMS_FILE, Damage
from optsweep.search.integrity import damage_of_search
from optsweep.search.space import at_edge
from optsweep.search.trials import CELL, DIVERGED, FINISHED, REFUSED, best_trial

# Of a table of trials; the searched keys stand before the cell.
TRIAL_COLUMNS = ("trial", "status", "objective", "epochs", "cell")


@dataclass(frozen=True)
class Variant:
    """One Optuna study: the whole search, or one of several that are compared.

    Attributes:
        name: What distinguishes it; empty if it is alone.
        optuna_study: As Optuna keeps it.
        trials: A row per trial that ended: trial, status (completed or stopped), objective,
            epochs, a column for each searched key, and cell.
        saved_fraction: Of the epochs of all trials, how many were not trained.
        num_diverged: Complete trials of which every seed diverged.
        num_refused: Trials whose cell could not be built.
    """

    name: str
    optuna_study: optuna.Study
    trials: pd.DataFrame
    saved_fraction: float
    num_diverged: int
    num_refused: int

    @functools.cached_property
    def best(self) -> FrozenTrial | None:
        """The complete trial with the best objective; None if all diverged or were stopped."""
        return best_trial(self.optuna_study)

    @property
    def num_stopped(self) -> int:
        """Trials that were stopped early."""
        return int((self.trials["status"] == "stopped").sum())

    @property
    def edges(self) -> list[str]:
        """Keys whose best value lies at an end of its range: a better one may lie beyond."""
        if self.best is None:
            return []
        pairs = self.best.params.items()
        return [key for key, value in pairs if at_edge(self.best.distributions[key], value)]


@dataclass(frozen=True)
class Final:
    """A cell that was trained on fresh seeds and all training examples.

    Attributes:
        variant: The variant it belongs to.
        kind: `best` or `baseline`.
        setting: Its overrides as a reader wants them.
        cell: Its directory's name.
        accuracies: Test accuracy by seed; a diverged seed's is 0.
        test: Their mean and interval.
    """

    variant: str
    kind: str
    setting: str
    cell: str
    accuracies: pd.Series
    test: Interval


@dataclass(frozen=True)
class Search:
    """A search's folder."""

    name: str
    folder: Path
    variants: Sequence[Variant]
    finals: Sequence[Final]

    @property
    def cells(self) -> list[str]:
        """Names of all its cells."""
        tried = [cell for one in self.variants for cell in one.trials["cell"].dropna()]
        return [*tried, *(final.cell for final in self.finals)]

    def difference(self, final: Final) -> Interval | None:
        """How much better the best cell is than this one, seed by seed; None for itself."""
        best = self.winner
        if best is None or best is final:
            return None
        two_modes = any(has_two_modes(one.accuracies <= LEARNED) for one in (best, final))
        return Location.of(
            paired_differences(best.accuracies, final.accuracies), two_modes
        ).interval()

    @property
    def winner(self) -> Final | None:
        """What the others are compared with: the one search's best cell, or the best variant's.

        Among variants it is the one with the best validation objective, which the test images
        had no part in.
        """
        values = {one.name: one.best.value for one in self.variants if one.best is not None}
        ranked = [one for one in self.finals if one.kind == "best" and one.variant in values]
        return max(ranked, key=lambda one: values[one.variant] or 0.0, default=None)


def read_search(folder: Path) -> tuple[Search | None, list[Damage]]:
    """Read a search.

    Returns:
        The search without what is damaged, or None if its Optuna study is, or if nobody has
        begun one; and what is damaged.

    Raises:
        InputError: If its files cannot be read.
    """
    studies, damaged = damage_of_search(folder)
    finals: list[Final] = []
    if not any(each.path.name in (runs.FINALS_FILE, SUMS_FILE) for each in damaged):
        try:
            finals = _finals(folder)
        except (InputError, ValueError, KeyError, TypeError) as error:
            reason = f"is not a list of final cells ({first_line(error)})"
            damaged.append(Damage(folder / runs.FINALS_FILE, reason))
    if not studies:
        return None, damaged
    variants = [_variant(study, len(studies) > 1) for study in studies]
    return Search(folder.name, folder, variants, finals), damaged


def whole_search(folder: Path) -> Search:
    """A search whose Optuna study can be used.

    Raises:
        InputError: If it cannot.
    """
    search, damaged = read_search(folder)
    if search is None:
        reason = str(damaged[0]) if damaged else f"{folder}: nobody has begun this search"
        raise InputError(reason)
    return search


def cells_of_search(folder: Path, complete: bool = False) -> dict[str, str]:
    """The cells of a search's trials with what each chose, and those trained again in the end.

    Args:
        folder: Of the search.
        complete: Leave out trials that were stopped or are running, and those trained again.

    Raises:
        InputError: If its Optuna study cannot be read.
    """
    search = whole_search(folder)
    cells: dict[str, str] = {}
    for variant in search.variants:
        for trial in variant.optuna_study.get_trials(deepcopy=False):
            is_complete = trial.state is TrialState.COMPLETE
            if CELL in trial.user_attrs and (is_complete or not complete):
                pairs = trial.params.items()
                told = [str(value) if "," in key else f"{key}={value}" for key, value in pairs]
                cells[trial.user_attrs[CELL]] = " ".join([variant.name, *told]).strip()
    if not complete:
        for final in search.finals:
            cells.setdefault(final.cell, f"{final.variant} {final.kind}".strip())
    return cells


def _variant(study: optuna.Study, one_of_many: bool) -> Variant:
    rows = []
    trained = planned = 0
    for trial in study.get_trials(deepcopy=False, states=FINISHED):
        stopped = trial.state is TrialState.PRUNED
        attributes = trial.user_attrs
        rows.append(
            {
                "trial": trial.number,
                "status": "stopped" if stopped else "completed",
                "objective": trial.value,
                "epochs": attributes.get("epochs"),
                **trial.params,
                "cell": attributes.get(CELL),
            }
        )
        trained += attributes.get("epochs", 0)
        planned += attributes.get("planned_epochs", 0)
    table = pd.DataFrame(rows) if rows else pd.DataFrame(columns=TRIAL_COLUMNS)
    name = study.study_name.partition(": ")[2] if one_of_many else ""
    all_trials = study.get_trials(deepcopy=False)
    return Variant(
        name,
        study,
        table,
        saved_fraction=1 - trained / planned if planned else 0.0,
        num_diverged=sum(bool(trial.user_attrs.get(DIVERGED)) for trial in all_trials),
        num_refused=sum(REFUSED in trial.user_attrs for trial in all_trials),
    )


def _finals(folder: Path) -> list[Final]:
    path = folder / runs.FINALS_FILE
    if not os.path.lexists(path):
        return []
    table = pd.read_csv(path, dtype=str, keep_default_na=False)[[*runs.FINAL_COLUMNS]]
    found = []
    for row in table.to_dict("records"):
        try:
            result = runs.read_result(folder.parent / runs.CELLS_FOLDER / row["cell"])
        except InputError:  # the cell is named where all cells are
            continue
        if result is None:
            continue
        seeds = [each["seed"] for each in result["per_seed"]]
        tested = runs.counted_accuracies(each["test_accuracy"] for each in result["per_seed"])
        accuracies = pd.Series(tested, index=seeds)
        found.append(
            Final(
                variant=row["variant"],
                kind=row["kind"],
                setting=in_words(row["overrides"]),
                cell=row["cell"],
                accuracies=accuracies,
                test=Location.of(accuracies, has_two_modes(accuracies <= LEARNED)).interval(),
            )
        )
    return found


def trials_table(search: Search) -> pd.DataFrame:
    """All trials of all variants, best objective first, trials that were stopped last."""
    tables = [
        variant.trials.assign(variant=variant.name) if variant.name else variant.trials
        for variant in search.variants
    ]
    table = pd.concat(tables, ignore_index=True)
    table = table.sort_values(["status", "objective"], ascending=[True, False], kind="stable")
    last = [name for name in ("cell",) if name in table]
    first = [
        name for name in ("variant", "trial", "status", "objective", "epochs") if name in table
    ]
    return table[[*first, *(name for name in table if name not in {*first, *last}), *last]]


def readable_trials(table: pd.DataFrame) -> pd.DataFrame:
    """The same as text, without the cells' names."""
    shown = pd.DataFrame(index=table.index)
    for name in table.columns.drop("cell", errors="ignore"):
        column = key_in_words(str(name))
        if name == "objective":
            shown[column] = [number(value, 4) for value in table[name].astype(float)]
        elif name == "variant":
            shown[column] = [in_words(value) for value in table[name]]
        else:
            shown[column] = [_shown(value) for value in table[name]]
    return shown


def finals_table(search: Search) -> pd.DataFrame:
    """Test accuracy on fresh seeds of what was found and what it is compared with."""
    rows = []
    for final in search.finals:
        difference = search.difference(final)
        rows.append(
            {
                "setting": _named(search, final),
                "test accuracy": number(final.test.estimate, 4),
                "95 % interval": interval(final.test.low, final.test.high, 4),
                "seeds": str(final.test.n),
                "best less this": number(difference.estimate, 4, "+") if difference else "–",
                "its interval": (
                    interval(difference.low, difference.high, 4, "+") if difference else "–"
                ),
            }
        )
    return pd.DataFrame(rows)


def variants_table(search: Search) -> pd.DataFrame:
    """What was found for each variant, and what it cost; empty if there is only one."""
    rows = []
    for variant in search.variants if len(search.variants) > 1 else ():
        best = variant.best
        edges = [key_in_words(key) for key in variant.edges]
        rows.append(
            {
                "best setting": ", ".join(
                    [in_words(variant.name), *([_setting(best)] if best else [])]
                ),
                "validation accuracy": number(best.value if best else None, 4),
                "trial": str(best.number) if best else "–",
                "trials": str(len(variant.trials)),
                "stopped early": str(variant.num_stopped),
                "epochs saved": f"{variant.saved_fraction:.0%}",
                "at an end of its range": listing(edges) if edges else "–",
            }
        )
    return pd.DataFrame(rows)


def brief(search: Search) -> list[str]:
    """What was found, without what stands in the tables of several variants and of fresh seeds."""
    if len(search.variants) == 1:
        return sentences(search)
    trials = sum(len(variant.trials) for variant in search.variants)
    stopped = sum(variant.num_stopped for variant in search.variants)
    variants = count(len(search.variants), "variant")
    told: list[str] = [
        say("search.variants", variants=variants, trials=count(trials, "trial"), stopped=stopped)
    ]
    return told + _winner(search)


def sentences(search: Search) -> list[str]:
    """What was found, what it is worth on fresh seeds, what it cost, and what to doubt."""
    told = []
    for variant in search.variants:
        told += _of_variant(variant)
    told += _winner(search)
    for final in search.finals:
        difference = search.difference(final)
        if difference is not None:
            told.append(
                say(
                    "search.against",
                    setting=_named(search, final),
                    difference=number(difference.estimate, 4, "+"),
                    interval=interval(difference.low, difference.high, 4, "+"),
                )
            )
    return told


def _winner(search: Search) -> list[str]:
    winner = search.winner
    if winner is None:
        return []
    told = say(
        "search.winner",
        seeds=count(winner.test.n, "fresh seed"),
        setting=_named(search, winner),
        accuracy=number(winner.test.estimate, 4),
        interval=interval(winner.test.low, winner.test.high, 4),
    )
    return [told]


def _setting(best: FrozenTrial) -> str:
    """What a trial was set to, in words; a key of several has its values with it."""
    params = best.params.items()
    return in_words(" ".join(value if "," in key else f"{key}={value}" for key, value in params))


def _of_variant(variant: Variant) -> list[str]:
    best = variant.best
    trials = variant.trials
    name = say("search.variant", name=in_words(variant.name)) if variant.name else Text("")
    stopped = variant.num_stopped
    num_trials = count(len(trials), "trial")
    refused = [say("search.refused", trials=count(variant.num_refused, "trial"))]
    if best is None:
        none = say(
            "search.none",
            variant=name,
            trials=num_trials,
            diverged=variant.num_diverged,
            stopped=stopped,
        )
        return [none, *(refused if variant.num_refused else [])]
    told: list[str] = [
        say(
            "search.best",
            variant=name,
            trials=num_trials,
            number=best.number,
            accuracy=number(best.value, 4),
            setting=_setting(best),
        )
    ]
    if stopped:
        saved = f"{variant.saved_fraction:.0%}"
        told.append(say("search.stopped", trials=count(stopped, "trial"), saved=saved))
    if variant.num_refused:
        told += refused
    if variant.edges:
        keys = listing([key_in_words(key) for key in variant.edges])
        told.append(say("search.edge", keys=keys))
    return told


def _named(search: Search, final: Final) -> str:
    words = in_words(final.variant) if final.variant else ""
    named = ", ".join(filter(None, (words, final.setting)))
    return f"{named} ({final.kind})" if final.kind != "best" else named


def key_in_words(key: str) -> str:
    """An override's key without its group, such as `weight decay`; of paired keys, each."""
    return ", ".join(name_of(each).replace("_", " ") for each in key.split(","))


def _shown(value: Any) -> str:
    return "–" if pd.isna(value) else phrase_value(value)
