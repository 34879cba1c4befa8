"""Run directories: every file and folder name, and files written so that a kill leaves no lie.

`result.json` is written last and atomically: a directory that has it holds a finished cell.
"""

from __future__ import annotations

import contextlib
import csv
import errno
import hashlib
import io
import itertools
import json
import math
import os
import re
import time
import uuid
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from optsweep.config.checks import InputError, first_line
from optsweep.config.identity import config_hash
from optsweep.config.schema import Config, Origin
from optsweep.liveness import is_running, machine_id, remove_dead_leases
from optsweep.provenance import by_other_code

# Of a cell.
CONFIG_FILE = "config.yaml"
HISTORY_FILE = "history.csv"
GRADIENTS_FILE = "gradients.csv"
RESULT_FILE = "result.json"
CURVES_FILE = "curves.png"
LOG_FILE = "log.txt"
CHECKPOINT_FILE = "checkpoint.pt"  # while it trains: what it goes on from if it is killed
COMPOSED_FOLDER = ".hydra"  # what Hydra composed, and from what
DAMAGED_FOLDER = "damaged"  # and a number: a record that could not be used
WEIGHTS_FOLDER = "weights"  # epoch_<N>.pt for every epoch after which they are kept
# Of a cell that was diagnosed, in a folder in its own.
DIAGNOSIS_FOLDER = "diagnosis"
EXAMINED_FILE = "epoch_{}.json"  # all that was found at a checkpoint
VERDICTS_FILE = "verdicts.csv"
READINGS_FILE = "readings.csv"
SPECTRA_FILE = "spectra.csv"
FORKS_FILE = "forks.csv"
PIXELS_FILE = "pixels.csv"  # only of a network whose first weights have a column for each
DIAGNOSIS_FILE = "diagnosis.json"  # written last: what was measured, and a summary
# Of all runs together.
RUNS_FOLDER = "multirun"
QUICK_FOLDER = "quick"  # in it, the runs of the study that are cut short
CELLS_FOLDER = "cells"
REPORT_FOLDER = "report"
QUICK_FILE = "quick.json"  # tells the report that the folder's runs are cut short
MACHINE_FILE = "machine.json"
LOOPS_FILE = "report_loop.csv"  # times of the lab report's own loop, which the study measures
RESERVED_NAMES = (CELLS_FOLDER, REPORT_FOLDER, QUICK_FOLDER)  # which no sweep may have
# Of a sweep, in a folder of its name beside the cells.
SWEEP_FILE = "cells.csv"  # of the cells that were asked for last
MORE_SEEDS_FILE = "more_seeds.csv"  # of cells that are a sweep's with further seeds
SWEEP_FILES = "cells-*.csv"  # one for each list of cells, with a hash of it in place of the star
STUDY_FILE = "study.db"
TRIALS_FILE = "trials.csv"
FINALS_FILE = "finals.csv"
TRIALS_PAGE = "trials.md"
SUMMARY_FILE = "summary.json"
# Of a report; the figures of a search's own folder lie in one of the same name.
PAGE_FILE = "index.html"
CONSTRAINTS_FILE = "constraints.txt"  # of a study's report: the versions that it was made with
CLAIMS_FILE = "claims.csv"
TABLES_FOLDER = "tables"
FIGURES_FOLDER = "figures"

SWEEP_COLUMNS = ("cell", "overrides")
MORE_SEEDS_COLUMNS = (*SWEEP_COLUMNS, "extends")
FINAL_COLUMNS = ("variant", "kind", "overrides", "cell")
HISTORY_COLUMNS = (
    "seed",
    "epoch",
    "step",
    "lr",
    "train_loss",
    "train_accuracy",
    "val_loss",
    "val_accuracy",
    "test_loss",
    "test_accuracy",
    "seconds",
)
GRADIENT_COLUMNS = ("seed", "epoch", "quantity", "parameter", "value")
STALE = "stale"  # of rerun: train again what other code made
_NOTHING: Mapping[str, str] = {}
_PARTIAL = re.compile(r"\..+\.([0-9a-f]{8})\.(\d+)\.[0-9a-f]{8}\.partial")
_SECONDS_OF_WRITING = 3600.0  # more than any file takes
_CHECKSUMS = "sha256"  # in a result: of the files of the record, and of the rest of the result


class DamagedRecord(InputError):
    """A record whose files are not as they were written, or not of one training."""


def read_result(directory: Path) -> dict[str, Any] | None:
    """The cell's result, or None if it is not finished.

    Raises:
        DamagedRecord: If it is no result, or the files beside it are not those it came with.
        InputError: If it cannot be read.
    """
    path = directory / RESULT_FILE
    try:
        result = json.loads(path.read_text(encoding="utf-8"))
    except (FileNotFoundError, NotADirectoryError):
        return None
    except IsADirectoryError as error:
        raise DamagedRecord(f"{path} is a folder") from error
    except OSError as error:
        raise InputError(f"{path} cannot be read ({error.strerror})") from error
    except ValueError as error:
        raise DamagedRecord(f"{path} cannot be read ({first_line(error)})") from error
    if not isinstance(result, dict) or "config_hash" not in result:
        raise DamagedRecord(f"{path} is not the result of a cell")
    if _CHECKSUMS in result:  # the first cells had none
        for name in (RESULT_FILE, CONFIG_FILE, HISTORY_FILE, GRADIENTS_FILE):
            if not _is_as_written(directory, name, result):
                how = "not as it was written" if (directory / name).exists() else "missing"
                raise DamagedRecord(f"{directory / name} is {how}")
    elif not (directory / HISTORY_FILE).is_file():
        raise DamagedRecord(f"{directory / HISTORY_FILE} is missing")
    return result


def _is_as_written(directory: Path, name: str, result: Mapping[str, Any]) -> bool:
    checksums = result[_CHECKSUMS]
    known = checksums.get(name) if isinstance(checksums, dict) else "of nothing"
    if name == RESULT_FILE:
        return known == _checksum_of_result(result)
    try:
        found = hashlib.sha256((directory / name).read_bytes()).hexdigest()
    except OSError:
        found = None
    if name == CONFIG_FILE and found not in (None, known):
        # It may be of a process that began the same cell with, say, other threads.
        with contextlib.suppress(InputError):
            return config_hash(read_config(directory)) == result["config_hash"]
    return found == known


def _checksum_of_result(result: Mapping[str, Any]) -> str:
    """The checksum of all that a result holds beside checksums."""
    rest = {key: value for key, value in result.items() if key != _CHECKSUMS}
    return hashlib.sha256(json.dumps(rest, sort_keys=True).encode()).hexdigest()


def set_aside(directory: Path) -> str:
    """Move a damaged record into a folder of its own beside, so that the cell can be trained.

    Returns:
        A line that says so; empty if there is no damaged record.
    """
    try:
        read_result(directory)
    except DamagedRecord as error:
        names = (RESULT_FILE, CONFIG_FILE, HISTORY_FILE, GRADIENTS_FILE, CURVES_FILE)
        return f"{error}; it was set aside in {keep_damaged(directory, names)}"
    return ""


def keep_damaged(directory: Path, names: Iterable[str]) -> Path | None:
    """Move files, or what lies in their place, into a new folder beside them.

    Returns:
        The folder; None if there are no such files.
    """
    there = [name for name in names if os.path.lexists(directory / name)]
    if not there:
        return None
    for number in itertools.count(1):
        folder = directory / f"{DAMAGED_FOLDER}_{number}"
        with contextlib.suppress(FileExistsError):
            folder.mkdir()
            break
    for name in there:
        os.replace(directory / name, folder / name)
    return folder


def finished(directory: Path, config: Config, rerun: bool | str = False) -> dict[str, Any] | None:
    """The result of this very configuration, or None if it has still to be trained.

    It has also if its record is damaged, or if the configuration keeps weights that a training
    before did not keep.

    Args:
        directory: Of the cell.
        config: Of the cell.
        rerun: Whether to train it again: True, or `STALE` if other code made its result.

    Raises:
        InputError: If the directory holds the result of another configuration.
    """
    if rerun is True:
        return None
    try:
        result = read_result(directory)
    except DamagedRecord:
        return None
    if result is not None and result["config_hash"] != config_hash(config):
        raise InputError(
            f"{directory} holds the result of another configuration; "
            "choose another directory, or rerun=true to replace it"
        )
    if result is not None and rerun == STALE and by_other_code(result, config):
        return None
    if result is not None and config.trainer.keep_weights:
        last, kept = last_epoch(result), set(kept_epochs(directory))
        if any(config.trainer.keeps(e, e == last) and e not in kept for e in range(last + 1)):
            return None
    return result


def last_epoch(result: Mapping[str, Any]) -> int:
    """The epoch that a cell's training ended with, be it that in which its last seed diverged."""
    if result["stopped"]:
        return result["stopped"]["epoch"]
    survived = max(seed["epochs"] for seed in result["per_seed"])
    return survived + (result["status"] == "diverged")


def weights_file(directory: Path, epoch: int) -> Path:
    """Where a cell keeps its weights after an epoch."""
    return directory / WEIGHTS_FOLDER / f"epoch_{epoch}.pt"


def kept_epochs(directory: Path) -> list[int]:
    """The epochs after which a cell has kept its weights, in order."""
    names = (path.name for path in (directory / WEIGHTS_FOLDER).glob("epoch_*.pt"))
    return sorted(int(name[6:-3]) for name in names if name[6:-3].isdecimal())


def read_config(directory: Path) -> Config:
    """The configuration of a cell that was begun.

    Raises:
        InputError: If there is none, or it cannot be read.
    """
    path = directory / CONFIG_FILE
    try:
        return Config.from_mapping(yaml.safe_load(path.read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError, KeyError, yaml.YAMLError) as error:
        raise InputError(f"{path} is not the configuration of a cell ({first_line(error)})") from (
            error
        )


def find_origin(text: str) -> Origin:
    """What `start_from=DIR` or `start_from=DIR@EPOCH` names: weights that a cell has kept.

    Raises:
        InputError: If there is no such folder, or it has not kept them.
    """
    path, at, epoch = text.rpartition("@")
    if not at or Path(text).is_dir():
        path, epoch = text, ""
    directory = Path(path)
    if not directory.is_dir():
        raise InputError(f"start_from={text}: there is no folder {path}")
    cell = config_hash(read_config(directory))
    kept = kept_epochs(directory)
    if not kept:
        raise InputError(
            f"start_from={text}: this cell has kept no weights; "
            "train it with trainer.keep_weights=true, or with epochs such as [1,2,4]"
        )
    if not epoch and read_result(directory) is None:
        raise InputError(f"start_from={text}: this cell is not finished; say which epoch: DIR@4")
    if epoch and (not epoch.isdecimal() or int(epoch) not in kept):
        there = ", ".join(map(str, kept))
        raise InputError(f"start_from={text}: weights are kept of epochs {there}, not of {epoch}")
    return Origin(path, cell, int(epoch) if epoch else kept[-1])


def start(directory: Path, config: Config, composed: Mapping[str, str] = _NOTHING) -> None:
    """Make the directory and say what will be trained in it.

    The record of an earlier training stays whole until `write` puts another in its place.

    Args:
        directory: Of the cell.
        config: Of the cell.
        composed: Texts that tell what it was composed from, by name of a file.
    """
    directory.mkdir(parents=True, exist_ok=True)
    remove_partials(directory)
    if not (directory / RESULT_FILE).exists():
        _describe(directory, config, composed)


def _describe(directory: Path, config: Config, composed: Mapping[str, str]) -> None:
    text = yaml.safe_dump(config.to_mapping(), sort_keys=False)
    write_atomically(directory / CONFIG_FILE, text)
    for name, content in composed.items():
        (directory / COMPOSED_FOLDER).mkdir(exist_ok=True)
        write_atomically(directory / COMPOSED_FOLDER / name, content)


def write(
    directory: Path,
    history: Iterable[Mapping[str, Any]],
    result: Mapping[str, Any],
    gradients: Sequence[Mapping[str, Any]] = (),
    config: Config | None = None,
    composed: Mapping[str, str] = _NOTHING,
) -> None:
    """Keep a finished cell: its history, its gradients if there are any, then its result.

    What an earlier training has left is replaced or removed, and so is the checkpoint.

    Args:
        directory: Of the cell, which was started.
        history: Rows of `HISTORY_COLUMNS`.
        result: The result.
        gradients: Rows of `GRADIENT_COLUMNS`.
        config: Of the cell; None: as it was started.
        composed: See `start`.
    """
    is_replaced = (directory / RESULT_FILE).exists()
    for name in (RESULT_FILE, GRADIENTS_FILE, CURVES_FILE):
        (directory / name).unlink(missing_ok=True)
    if is_replaced and config is not None:
        _describe(directory, config, composed)
    write_atomically(directory / HISTORY_FILE, to_csv(HISTORY_COLUMNS, history))
    if gradients:
        write_atomically(directory / GRADIENTS_FILE, to_csv(GRADIENT_COLUMNS, gradients))
    names = (CONFIG_FILE, HISTORY_FILE, *([GRADIENTS_FILE] if gradients else []))
    paths = {name: directory / name for name in names}
    checksums = {
        name: hashlib.sha256(path.read_bytes()).hexdigest()
        for name, path in paths.items()
        if path.exists()
    }
    result = {**result, _CHECKSUMS: checksums | {RESULT_FILE: _checksum_of_result(result)}}
    text = json.dumps(result, indent=2, allow_nan=False) + "\n"
    write_atomically(directory / RESULT_FILE, text)
    (directory / CHECKPOINT_FILE).unlink(missing_ok=True)


def tidy(directory: Path) -> None:
    """Remove from a finished folder what a kill in the moment of its end has left, if it may be."""
    with contextlib.suppress(OSError):
        (directory / CHECKPOINT_FILE).unlink(missing_ok=True)
        remove_partials(directory)
        remove_dead_leases(directory)


def refusal(directory: Path) -> str:
    """Why nothing can be written in a directory, which need not be there yet; empty if it can."""
    there = next(path for path in (directory, *directory.parents) if os.path.lexists(path))
    told = there if there.name else there.absolute()  # "." tells nothing
    if not there.is_dir():
        return f"{told}: {os.strerror(errno.ENOTDIR)}"
    usable = os.access(there, os.W_OK | os.X_OK)
    return "" if usable else f"{told}: {os.strerror(errno.EACCES)}"


def counted_accuracies(accuracies: Iterable[float | None]) -> list[float]:
    """Accuracies of seeds as they are averaged and compared: a diverged seed's counts as 0.

    >>> counted_accuracies([0.8, None, float("nan")])
    [0.8, 0.0, 0.0]
    """
    return [0.0 if value is None or math.isnan(value) else float(value) for value in accuracies]


def mean_accuracy(accuracies: Iterable[float | None]) -> float:
    """Mean accuracy of at least one seed, in which a diverged seed's counts as 0.

    >>> mean_accuracy([0.8, None])
    0.4
    """
    counted = counted_accuracies(accuracies)
    return math.fsum(counted) / len(counted)


def to_csv(columns: Sequence[str], rows: Iterable[Mapping[str, Any]]) -> str:
    """Rows as CSV text; None is an empty field, numbers keep every digit."""
    buffer = io.StringIO(newline="")
    writer = csv.DictWriter(buffer, columns, lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return buffer.getvalue()


def write_atomically(path: Path, content: str | bytes | memoryview) -> None:
    """Put `content` at `path` whole or not at all."""
    # Two machines, or two containers, may have processes of one number, and a process threads.
    own = f"{machine_id()}.{os.getpid()}.{uuid.uuid4().hex[:8]}"
    partial = path.with_name(f".{path.name}.{own}.partial")
    try:
        with partial.open("wb") as file:
            file.write(content.encode() if isinstance(content, str) else content)
            file.flush()
            os.fsync(file.fileno())
        os.replace(partial, path)
    except BaseException:
        partial.unlink(missing_ok=True)
        raise


def remove_partials(directory: Path) -> None:
    """Remove what killed processes were writing in a directory and in those of its cell.

    Of this machine's processes it is known that they are dead; another's have had an hour.
    """
    folders = (directory, *(directory / name for name in (COMPOSED_FOLDER, WEIGHTS_FOLDER)))
    for path in (path for folder in folders for path in folder.glob(".*.partial")):
        match = _PARTIAL.fullmatch(path.name)
        with contextlib.suppress(OSError):
            is_ours = match is not None and match[1] == machine_id()
            age = time.time() - path.stat().st_mtime
            if not is_running(int(match[2])) if match and is_ours else age > _SECONDS_OF_WRITING:
                path.unlink()
