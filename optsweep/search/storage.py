"""Where a search is kept: an Optuna study in SQLite or PostgreSQL, opened without a race."""

from __future__ import annotations

import contextlib
import hashlib
import json
import time
import zlib
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import filelock
import optuna
import sqlalchemy
from optuna.samplers import BaseSampler
from optuna.storages import RDBStorage
from optuna.study import Study
from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import ArgumentError, OperationalError, SQLAlchemyError

from optsweep.config.checks import InputError, as_text
from optsweep.runs import STUDY_FILE, refusal

SETTINGS = "settings"  # user attribute that tells what an Optuna study searches
# And another one, the checksum of these; then all trials that have ended carry one as well.
SEALED = "sealed"
_SECONDS_BETWEEN_TRIES = 0.02
_SECONDS_OF_SILENCE = 5.0  # of waiting for a lock, before that is said
_FILE_SECONDS = 60.0  # of waiting for SQLite, which a process that stands still may have locked
_MAX_SECONDS = 300.0  # of waiting for a lock, which nobody needs for so long


def storage_url(given: str | None, folder: Path) -> str:
    """The URL of the storage: the one given, or a SQLite file in the search's folder.

    Raises:
        InputError: If it is not the URL of a database.
    """
    if given is None:
        return sqlite_url(folder)
    try:
        url = make_url(given)
    except (ArgumentError, ValueError) as error:
        raise InputError(
            f"hydra.sweeper.storage={given}: expected a database's URL such as "
            "postgresql+psycopg://user@host/database"
        ) from error
    if url.get_backend_name() == "sqlite" and url.database in (None, "", ":memory:"):
        raise InputError(
            f"hydra.sweeper.storage={given}: what is kept in memory ends with the process; give "
            "sqlite:///file.db"
        )
    return given


def sqlite_url(folder: Path) -> str:
    """The URL of the file in a search's folder."""
    return f"sqlite:///{folder / STUDY_FILE}"


@contextlib.contextmanager
def answering(url: str) -> Iterator[None]:
    """Take what a storage refuses, as a full disk does, for what it is: no bug.

    Raises:
        InputError: If the storage cannot be used.
    """
    try:
        yield
    except (OperationalError, optuna.exceptions.StorageInternalError) as error:
        if not isinstance(error, OperationalError) and not isinstance(
            error.__cause__, OperationalError
        ):
            raise
        reason = str(error.__cause__ or error).strip().partition("\n")[0]
        raise InputError(f"the storage {_shown(url)} cannot be used: {reason}") from error


def is_own_file(url: str, folder: Path) -> bool:
    """Whether a storage is the file in a search's folder."""
    parsed = make_url(url)
    is_file = parsed.get_backend_name() == "sqlite" and parsed.database is not None
    return is_file and Path(str(parsed.database)).absolute() == (folder / STUDY_FILE).absolute()


def open_study(url: str, name: str, sampler: BaseSampler, settings: Mapping[str, Any]) -> Study:
    """Open an Optuna study, or make it if it is not there; any number of processes may at once.

    Args:
        url: Of the storage.
        name: Of the Optuna study.
        sampler: What proposes its trials.
        settings: What it searches, as plain data; the same as when it was begun.

    Raises:
        InputError: If the storage cannot be used, or the Optuna study searches something else.
    """
    try:
        with alone(url):
            storage = connect(url)
            if name in optuna.get_all_study_names(storage):  # a disk may be read-only by now
                study = optuna.load_study(study_name=name, storage=storage, sampler=sampler)
            else:
                study = optuna.create_study(
                    study_name=name, storage=storage, sampler=sampler, direction="maximize"
                )
            known = study.user_attrs.get(SETTINGS)
            if known is None:
                if not study.get_trials(deepcopy=False):
                    study.set_user_attr(SEALED, checksum(dict(settings)))
                study.set_user_attr(SETTINGS, dict(settings))
    except ModuleNotFoundError as error:
        raise InputError(
            f"hydra.sweeper.storage={_shown(url)}: {error}; for PostgreSQL: "
            "pip install 'optsweep[postgresql]'"
        ) from error
    except (SQLAlchemyError, optuna.exceptions.StorageInternalError) as error:
        reason = str(error.__cause__ or error).strip().partition("\n")[0]
        raise InputError(f"the storage {_shown(url)} cannot be used: {reason}") from error
    if known is not None:
        _check_same(name, known, json.loads(json.dumps(dict(settings))))
    return study


def connect(url: str) -> RDBStorage:
    """A connection to a storage; one to a file waits for others' writing longer than by default."""
    is_file = make_url(url).get_backend_name() == "sqlite"
    return RDBStorage(url, {"connect_args": {"timeout": _FILE_SECONDS}} if is_file else None)


@contextlib.contextmanager
def alone(url: str) -> Iterator[None]:
    """Keep others that share the storage out for as long as this lasts, which should be short.

    Raises:
        InputError: If another process does so for longer than any should, or the folder cannot be.
    """
    parsed = make_url(url)
    if parsed.get_backend_name() == "sqlite" and parsed.database:
        folder = Path(parsed.database).parent
        if why := refusal(folder):
            if not folder.is_dir():
                raise InputError(why)
            yield  # nobody writes who is kept out by this lock
            return
        folder.mkdir(parents=True, exist_ok=True)
        lock = filelock.FileLock(f"{parsed.database}.lock", blocking=False)

        def try_once() -> bool:
            with contextlib.suppress(filelock.Timeout):
                lock.acquire()
            return lock.is_locked

        _until(try_once, url)
        try:
            yield
        finally:
            lock.release()
    elif parsed.get_backend_name() == "postgresql":
        with _advisory_lock(parsed):
            yield
    else:
        yield


def _until(try_once: Callable[[], bool], url: str) -> None:
    """Try for a lock until it is there; say so if that takes long, and give up in the end."""
    started = time.monotonic()
    told = False
    while not try_once():
        waited = time.monotonic() - started
        if waited >= _MAX_SECONDS:
            raise InputError(
                f"{_shown(url)}: another process has kept it locked for {_MAX_SECONDS:.0f} s; "
                "end that one if it hangs, and the same command continues"
            )
        if waited >= _SECONDS_OF_SILENCE and not told:
            print(f"waiting for another process that has locked {_shown(url)}", flush=True)
            told = True
        time.sleep(_SECONDS_BETWEEN_TRIES)


def copy_to_file(study: Study, url: str, folder: Path) -> None:
    """Leave a copy of an Optuna study in the search's folder, if it is kept elsewhere."""
    if is_own_file(url, folder):
        return
    target = sqlite_url(folder)
    with alone(target):
        with contextlib.suppress(KeyError):
            optuna.delete_study(study_name=study.study_name, storage=target)
        optuna.copy_study(from_study_name=study.study_name, from_storage=url, to_storage=target)


@contextlib.contextmanager
def _advisory_lock(url: URL) -> Iterator[None]:
    """PostgreSQL's own lock, which it takes back from a process that dies."""
    engine = sqlalchemy.create_engine(url, poolclass=sqlalchemy.NullPool)
    with engine.connect() as connection:
        lock = sqlalchemy.func.pg_try_advisory_lock(zlib.crc32(b"optsweep"))
        _until(lambda: bool(connection.scalar(sqlalchemy.select(lock))), str(url))
        yield


def checksum(told: Any) -> str:
    """The SHA-256 of plain data, whether before or after it was kept as JSON."""
    return hashlib.sha256(json.dumps(told, sort_keys=True).encode()).hexdigest()


def _check_same(name: str, known: Mapping[str, Any], settings: Mapping[str, Any]) -> None:
    for key in sorted({*known, *settings}):
        if known.get(key) != settings.get(key):
            before, now = (as_text(each.get(key, "nothing")) for each in (known, settings))
            raise InputError(
                f"the search {name} was begun with {key}: {before}, not {now}; "
                "give another one a name of its own: name=NAME"
            )


def _shown(url: str) -> str:
    return make_url(url).render_as_string(hide_password=True)
