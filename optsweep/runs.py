"""Run directories: every file and folder name, and files written so that a kill leaves no lie.

`result.json` is written last and atomically: a directory that has it holds a finished cell.
"""

from __future__ import annotations

import csv
import errno
import hashlib
import io
import json
import math
import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from optsweep.config.checks import InputError
from optsweep.config.identity import config_hash
from optsweep.config.schema import Config

# Of a cell.
CONFIG_FILE = "config.yaml"
HISTORY_FILE = "history.csv"
GRADIENTS_FILE = "gradients.csv"
RESULT_FILE = "result.json"
CURVES_FILE = "curves.png"
LOG_FILE = "log.txt"
# Of all runs together.
RUNS_FOLDER = "multirun"
QUICK_FOLDER = "quick"  # in it, the runs of the study that are cut short
CELLS_FOLDER = "cells"
REPORT_FOLDER = "report"
QUICK_FILE = "quick.json"  # tells the report that the folder's runs are cut short
MACHINE_FILE = "machine.json"
RESERVED_NAMES = (CELLS_FOLDER, REPORT_FOLDER, QUICK_FOLDER)  # which no sweep may have
# Of a sweep, in a folder of its name beside the cells.
SWEEP_FILE = "cells.csv"  # of the cells that were asked for last
SWEEP_FILES = "cells-*.csv"  # one for each list of cells, with a hash of it in place of the star
STUDY_FILE = "study.db"
TRIALS_FILE = "trials.csv"
FINALS_FILE = "finals.csv"
TRIALS_PAGE = "trials.md"
SUMMARY_FILE = "summary.json"
# Of a report; the figures of a search's own folder lie in one of the same name.
PAGE_FILE = "index.html"
CLAIMS_FILE = "claims.csv"
TABLES_FOLDER = "tables"
FIGURES_FOLDER = "figures"

SWEEP_COLUMNS = ("cell", "overrides")
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


def read_result(directory: Path) -> dict[str, Any] | None:
    """The cell's result, or None if it is not finished.

    Raises:
        InputError: If there is a result file that cannot be read.
    """
    path = directory / RESULT_FILE
    try:
        result = json.loads(path.read_text(encoding="utf-8"))
    except (FileNotFoundError, NotADirectoryError):
        return None
    except (OSError, ValueError) as error:
        raise InputError(f"{path} cannot be read ({error}); remove it to train again") from error
    if not isinstance(result, dict) or "config_hash" not in result:
        raise InputError(f"{path} is not the result of a cell; remove it to train again")
    return result


def finished(directory: Path, config: Config) -> dict[str, Any] | None:
    """The result of this very configuration, or None if it has still to be trained.

    Raises:
        InputError: If the directory holds the result of another configuration.
    """
    result = read_result(directory)
    if result is not None and result["config_hash"] != config_hash(config):
        raise InputError(
            f"{directory} holds the result of another configuration; "
            "choose another directory, or rerun=true to replace it"
        )
    return result


def start(directory: Path, config: Config) -> None:
    """Make the directory and say what will be trained in it."""
    directory.mkdir(parents=True, exist_ok=True)
    text = yaml.safe_dump(config.to_mapping(), sort_keys=False)
    write_atomically(directory / CONFIG_FILE, text)


def write(
    directory: Path,
    history: Iterable[Mapping[str, Any]],
    result: Mapping[str, Any],
    gradients: Sequence[Mapping[str, Any]] = (),
) -> None:
    """Keep a finished cell: its history, its gradients if there are any, then its result."""
    (directory / RESULT_FILE).unlink(missing_ok=True)  # of an earlier training of the cell
    write_atomically(directory / HISTORY_FILE, to_csv(HISTORY_COLUMNS, history))
    if gradients:
        write_atomically(directory / GRADIENTS_FILE, to_csv(GRADIENT_COLUMNS, gradients))
    text = json.dumps(result, indent=2, allow_nan=False) + "\n"
    write_atomically(directory / RESULT_FILE, text)


def refusal(directory: Path) -> str:
    """Why nothing can be written in a directory, which need not be there yet; empty if it can."""
    there = next(path for path in (directory, *directory.parents) if os.path.lexists(path))
    if not there.is_dir():
        return f"{there}: {os.strerror(errno.ENOTDIR)}"
    usable = os.access(there, os.W_OK | os.X_OK)
    return "" if usable else f"{there}: {os.strerror(errno.EACCES)}"


def list_cells(folder: Path, rows: Iterable[Mapping[str, Any]]) -> None:
    """Keep the cells of a sweep in the sweep's folder, beside those of earlier ones of its name.

    `cells.csv` has the latest list, for all who want the sweep as it stands. Every list also has
    a file with a hash of its cells in the name: so one never costs another, and nor do two
    processes that begin at once. A `cells.csv` of an earlier version, without such a file, gets
    one.
    """
    folder.mkdir(parents=True, exist_ok=True)
    latest = folder / SWEEP_FILE
    texts = [latest.read_text(encoding="utf-8")] if latest.exists() else []
    for text in (*texts, to_csv(SWEEP_COLUMNS, rows)):
        write_atomically(_list_file(folder, text), text)
    write_atomically(latest, text)


def cell_lists(folder: Path) -> dict[str, Path]:
    """The lists of cells in a sweep's folder, each once: the latest by the folder's name.

    An earlier one is called by that and its hash, as in `grid-1f2e3d4c5b`.
    """
    latest = folder / SWEEP_FILE
    lists = {folder.name: latest} if latest.exists() else {}
    same = _list_file(folder, latest.read_text(encoding="utf-8")) if lists else None
    for path in sorted(folder.glob(SWEEP_FILES)):
        if path != same:
            lists[folder.name + path.stem.removeprefix("cells")] = path
    return lists


def _list_file(folder: Path, text: str) -> Path:
    """The file of a list: cells that are asked for in other words are the same list."""
    cells = sorted({line.partition(",")[0] for line in text.splitlines()})
    digest = hashlib.sha256("\n".join(cells).encode()).hexdigest()[:10]
    return folder / SWEEP_FILES.replace("*", digest)


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


def write_atomically(path: Path, text: str) -> None:
    """Put `text` at `path` whole or not at all."""
    partial = path.with_name(f".{path.name}.{os.getpid()}.partial")
    try:
        with partial.open("w", encoding="utf-8", newline="") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        os.replace(partial, path)
    except BaseException:
        partial.unlink(missing_ok=True)
        raise
