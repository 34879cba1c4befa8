"""Whether what a search keeps is as it was told: its database, its trials, its tables.

A database changes while a search runs, so that no checksum of the file can be kept. What does not
change any more is a trial that has ended: each carries a checksum of its own. SQLite checks its
pages, and the table of trials, whose checksum lies in `SHA256SUMS`, tells which trials there are
at least.
"""

from __future__ import annotations

import contextlib
import csv
import io
import re
import sqlite3
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from urllib.parse import quote

import optuna
from optuna.distributions import distribution_to_json
from optuna.storages import RDBStorage
from optuna.study import Study
from optuna.trial import FrozenTrial, Trial, TrialState

from optsweep import runs, seals
from optsweep.config.checks import InputError, first_line
from optsweep.provenance import by_other_code
from optsweep.search.storage import SEALED, SETTINGS, checksum, connect, sqlite_url
from optsweep.search.trials import ALIVE, CELL, REFUSED

_CHECKSUM = "sha256"  # user attribute of such a trial
_ENDED = (TrialState.COMPLETE, TrialState.PRUNED)
_REFUSED = re.compile("is locked|unable to open|readonly|read-only|disk I/O|is full")
_SECONDS = 60.0  # of waiting for SQLite, which a process that stands still may have locked


def tell(study: Study, trial: Trial, state: TrialState, value: float | None = None) -> None:
    """Tell Optuna how a trial ended, with a checksum of all that is known of it."""
    known = study._storage.get_trial(trial._trial_id)
    trial.set_user_attr(_CHECKSUM, _checksum(known, state, value))
    study.tell(trial, value, state=state, skip_if_finished=True)


def _checksum(trial: FrozenTrial, state: TrialState, value: float | None) -> str:
    left_out = (ALIVE, _CHECKSUM)
    told = {
        "number": trial.number,
        "state": state.name,
        "value": None if value is None else float(value),
        "params": trial.params,
        "distributions": {k: distribution_to_json(d) for k, d in trial.distributions.items()},
        "intermediate_values": {str(k): v for k, v in trial.intermediate_values.items()},
        "user_attrs": {k: v for k, v in trial.user_attrs.items() if k not in left_out},
    }
    return checksum(told)


def is_begun(path: Path) -> bool:
    """Whether there is an Optuna study in a file, which a process killed early leaves without."""
    with _opened(path) as connection:
        names = _tables(connection)
        found = "studies" in names and connection.execute("SELECT * FROM studies").fetchone()
    return bool(found)


def damage_of_file(path: Path) -> str:
    """What is wrong with a SQLite file as such; empty if nothing, or if there is none.

    Raises:
        InputError: If it cannot be read.
    """
    if not path.exists():
        return ""
    if not path.is_file():
        return "is not a file"
    try:
        with _opened(path) as connection:
            (found,), *_ = connection.execute("PRAGMA integrity_check(1)").fetchall()
            names = _tables(connection)
    except (sqlite3.DatabaseError, ValueError) as error:  # the latter of text that is none
        _raise_if_refused(path, error)
        return f"is damaged ({first_line(error)})"
    if found != "ok":
        return f"is damaged ({first_line(ValueError(found))})"
    if names and "studies" not in names:
        return "is not the Optuna study of a search"
    return ""


def _raise_if_refused(path: Path, error: Exception) -> None:
    """What the system refuses, or another process for a while, says nothing of a file."""
    if _REFUSED.search(str(error)):
        raise InputError(f"{path} cannot be read ({first_line(error)})") from error


@contextlib.contextmanager
def _opened(path: Path) -> Iterator[sqlite3.Connection]:
    """A file that is there, which is not made and, unless a killed process left a journal, read."""
    url = f"file:{quote(str(path.absolute()))}?mode=rw"
    with contextlib.closing(sqlite3.connect(url, timeout=_SECONDS, uri=True)) as connection:
        yield connection


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Without what Optuna says of a file that it cannot read in one way, and tries in another."""
    before = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.CRITICAL)
    try:
        yield
    finally:
        optuna.logging.set_verbosity(before)


def _tables(connection: sqlite3.Connection) -> set[str]:
    return {name for (name,) in connection.execute("SELECT name FROM sqlite_master")}


def damage_of_trials(studies: Sequence[Study], folder: Path | None = None) -> str:
    """What is wrong with the trials of a search; empty if nothing.

    Args:
        studies: All of the search's, or some if there is no folder.
        folder: Of the search, with its table of trials if it has come to an end before.
    """
    for study in studies:
        trials = study.get_trials(deepcopy=False)
        if [trial.number for trial in trials] != list(range(len(trials))):
            return "lacks trials"
        sealed = study.user_attrs.get(SEALED)
        if sealed is not None and sealed != checksum(study.user_attrs.get(SETTINGS)):
            return "has settings not as they were told"
        for trial in trials:
            refused = trial.state is TrialState.FAIL and REFUSED in trial.user_attrs
            ended = refused or trial.state in _ENDED
            if ended and not _is_as_told(trial, is_sealed=sealed is not None):
                return f"has trial {trial.number} not as it was told"
    listed = _listed_trials(folder) if folder is not None else Counter()
    return "lacks trials" if listed - Counter(map(_row_of, _all_ended(studies))) else ""


def _is_as_told(trial: FrozenTrial, is_sealed: bool) -> bool:
    known = trial.user_attrs.get(_CHECKSUM)
    if known is None:
        return not is_sealed
    value = trial.value if trial.state is TrialState.COMPLETE else None
    if trial.state is TrialState.PRUNED and trial.intermediate_values:
        last = trial.intermediate_values[max(trial.intermediate_values)]
        if trial.value != last:  # by which Optuna ranks what was pruned
            return False
    try:
        return known == _checksum(trial, trial.state, value)
    except (ValueError, TypeError):
        return False


def _all_ended(studies: Sequence[Study]) -> list[FrozenTrial]:
    return [trial for study in studies for trial in study.get_trials(deepcopy=False, states=_ENDED)]


def _row_of(trial: FrozenTrial) -> tuple[str, ...]:
    value = "" if trial.value is None else repr(trial.value)
    return str(trial.number), value, str(trial.user_attrs.get(CELL) or "")


def _listed_trials(folder: Path) -> Counter[tuple[str, ...]]:
    """The trials of a search's own table, if that is as it was written."""
    path = folder / runs.TRIALS_FILE
    names = {damage.path.name for damage in seals.damage(folder)}
    if names & {path.name, seals.SUMS_FILE} or not (folder / seals.SUMS_FILE).exists():
        return Counter()
    if not path.exists():
        return Counter()
    rows = csv.DictReader(io.StringIO(path.read_text(encoding="utf-8"), newline=""))
    return Counter((row["trial"], row["objective"], row["cell"]) for row in rows)


def damage_of_search(folder: Path) -> tuple[list[Study], list[seals.Damage]]:
    """The Optuna studies in a search's folder, and all that is damaged there.

    There are no studies if their file is damaged, or if nobody has begun one.

    Raises:
        InputError: If the file cannot be read.
    """
    path, damaged = folder / runs.STUDY_FILE, seals.damage(folder)
    reason = damage_of_file(path)
    studies: list[Study] = []
    if not reason and path.exists() and is_begun(path):
        try:
            with _quiet():
                studies = studies_in(connect(sqlite_url(folder)))
                reason = damage_of_trials(studies, folder)
        except Exception as error:  # whatever Optuna or SQLAlchemy find wrong with the file
            _raise_if_refused(path, error)
            reason = f"is not the Optuna study of a search ({first_line(error)})"
    elif not reason and _listed_trials(folder):
        reason = "has no trials" if path.exists() else "is missing"
    return ([] if reason else studies), [
        *damaged,
        *([seals.Damage(path, reason)] if reason else []),
    ]


def mend(folder: Path) -> list[str]:
    """Set aside what is damaged in a search's folder, so that the search makes it again.

    Returns:
        A line for each damage.

    Raises:
        InputError: If the files cannot be read.
    """
    return seals.set_aside(folder, damage_of_search(folder)[1])


def makers_of(folder: Path) -> list[str]:
    """Which other code made the cell of each trial, see `by_other_code`; empty if this did."""
    makers = []
    for trial in _all_ended(damage_of_search(folder)[0]):
        directory = folder.parent / runs.CELLS_FOLDER / str(trial.user_attrs.get(CELL))
        with contextlib.suppress(InputError):
            if (result := runs.read_result(directory)) is not None:
                makers.append(by_other_code(result, runs.read_config(directory)))
    return makers


def studies_in(storage: RDBStorage) -> list[Study]:
    """All Optuna studies of a storage."""
    names = optuna.get_all_study_names(storage)
    return [optuna.load_study(study_name=name, storage=storage) for name in names]
