"""What a search found, from its folder alone: its studies, and its cells on fresh seeds."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import optuna
import pandas as pd
from optuna.study import Study
from optuna.trial import FrozenTrial, TrialState

from optsweep import runs
from optsweep.config.checks import InputError
from optsweep.report.settings import in_words
from optsweep.report.statistics import Interval, bootstrap_interval, paired_differences
from optsweep.search.space import at_edge
from optsweep.search.storage import sqlite_url

_ENDED = (TrialState.COMPLETE, TrialState.PRUNED)


@dataclass(frozen=True)
class Variant:
    """One study: the whole search, or one of several that are compared.

    Attributes:
        name: What distinguishes it; empty if it is alone.
        study: As Optuna keeps it.
        trials: A row per trial that ended: trial, status (completed or stopped), objective,
            epochs, a column for each searched key, and cell.
        saved_fraction: Of the epochs of all trials, how many were not trained.
    """

    name: str
    study: Study
    trials: pd.DataFrame
    saved_fraction: float

    @property
    def best(self) -> FrozenTrial | None:
        """The complete trial with the best objective."""
        complete = any(self.trials["status"] == "completed")
        return self.study.best_trial if complete else None

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
        return bootstrap_interval(paired_differences(best.accuracies, final.accuracies))

    @property
    def winner(self) -> Final | None:
        """What the others are compared with: the one search's best cell, or the best variant's.

        Among variants it is the one with the best validation objective, which the test images
        had no part in.
        """
        values = {one.name: one.best.value for one in self.variants if one.best is not None}
        ranked = [one for one in self.finals if one.kind == "best" and one.variant in values]
        return max(ranked, key=lambda one: values[one.variant] or 0.0, default=None)


def read_search(folder: Path) -> Search:
    """Read a search.

    Raises:
        InputError: If its study cannot be read.
    """
    try:
        storage = optuna.storages.RDBStorage(sqlite_url(folder))
        names = optuna.get_all_study_names(storage)
        studies = [optuna.load_study(study_name=name, storage=storage) for name in names]
    except Exception as error:  # whatever SQLAlchemy or SQLite find wrong with the file
        reason = str(error).partition("\n")[0]
        path = folder / runs.STUDY_FILE
        raise InputError(f"{path} is not the study of a search ({reason})") from error
    variants = [_variant(study, len(studies) > 1) for study in studies]
    return Search(folder.name, folder, variants, _finals(folder))


def _variant(study: Study, one_of_many: bool) -> Variant:
    rows = []
    trained = planned = 0
    for trial in study.get_trials(deepcopy=False, states=_ENDED):
        stopped = trial.state is TrialState.PRUNED
        attributes = trial.user_attrs
        rows.append(
            {
                "trial": trial.number,
                "status": "stopped" if stopped else "completed",
                "objective": trial.value,
                "epochs": attributes.get("epochs"),
                **trial.params,
                "cell": attributes.get("cell"),
            }
        )
        trained += attributes.get("epochs", 0)
        planned += attributes.get("planned_epochs", 0)
    columns = ["trial", "status", "objective", "epochs", "cell"]
    table = pd.DataFrame(rows) if rows else pd.DataFrame(columns=columns)
    name = study.study_name.partition(": ")[2] if one_of_many else ""
    return Variant(name, study, table, 1 - trained / planned if planned else 0.0)


def _finals(folder: Path) -> list[Final]:
    path = folder / runs.FINALS_FILE
    if not path.is_file():
        return []
    found = []
    for row in pd.read_csv(path, dtype=str, keep_default_na=False).to_dict("records"):
        result = runs.read_result(folder.parent / runs.CELLS_FOLDER / row["cell"])
        if result is None:
            continue
        seeds = pd.DataFrame(result["per_seed"]).set_index("seed")
        accuracies = seeds["test_accuracy"].astype(float).fillna(0.0)
        found.append(
            Final(
                variant=row["variant"],
                kind=row["kind"],
                setting=in_words(row["overrides"]),
                cell=row["cell"],
                accuracies=accuracies,
                test=bootstrap_interval(accuracies),
            )
        )
    return found
