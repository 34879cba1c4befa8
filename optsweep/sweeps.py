"""The lists of cells in a sweep's folder: which cells belong to it, and by which overrides."""

from __future__ import annotations

import csv
import hashlib
import io
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from optsweep import runs, seals
from optsweep.config.checks import InputError, first_line


def list_cells(folder: Path, rows: Iterable[Mapping[str, Any]]) -> list[str]:
    """Keep the cells of a sweep in the sweep's folder, beside those of earlier ones of its name.

    `cells.csv` has the latest list, for all who want the sweep as it stands. Every list also has
    a file with a hash of its cells in the name: so one never costs another, and nor do two
    processes that begin at once. A `cells.csv` of an earlier version, without such a file, gets
    one.

    Returns:
        Lines on lists that were damaged, and are set aside, or that cannot be written.
    """
    latest = folder / runs.SWEEP_FILE
    if refusal := runs.refusal(folder):  # a finished sweep answers all the same
        rows = list(rows)
        return [] if is_listed(folder, rows) else [f"{latest} is left as it is ({refusal})"]
    folder.mkdir(parents=True, exist_ok=True)
    told = seals.set_aside(folder, _unusable(folder))
    texts = [latest.read_text(encoding="utf-8")] if latest.exists() else []
    texts.append(runs.to_csv(runs.SWEEP_COLUMNS, rows))
    files = {_list_file(folder, text).name: text for text in texts}
    seals.write(folder, files | {latest.name: texts[-1]})
    return told


def read_list(path: Path, columns: Sequence[str] = runs.SWEEP_COLUMNS) -> list[dict[str, str]]:
    """The cells of a list: each cell's name and its overrides.

    Raises:
        InputError: If it is not a list of cells.
    """
    try:
        text = path.read_text(encoding="utf-8")
        reader = csv.DictReader(io.StringIO(text, newline=""), strict=True)
        rows = list(reader)
    except (OSError, ValueError, csv.Error) as error:
        raise InputError(f"{path} is not a list of cells ({first_line(error)})") from error
    complete = all(isinstance(row.get(name), str) for row in rows for name in columns)
    if not set(columns) <= set(reader.fieldnames or ()) or not complete:
        raise InputError(f"{path} is not a list of cells")
    return [{name: row[name] for name in columns} for row in rows]


def list_more_seeds(folder: Path, rows: Iterable[Mapping[str, str]]) -> None:
    """Keep cells that are a sweep's own with further seeds, beside those that are kept already.

    Args:
        folder: Of the sweep.
        rows: Cell, overrides, and the cell that it extends.
    """
    kept = {row["cell"]: row for row in [*_more_seeds(folder), *rows]}
    text = runs.to_csv(runs.MORE_SEEDS_COLUMNS, kept.values())
    seals.write(folder, {runs.MORE_SEEDS_FILE: text})


def with_more_seeds(folder: Path, rows: Sequence[Mapping[str, str]]) -> list[dict[str, str]]:
    """The cells of a list, and those that have further seeds of one of them."""
    listed = {row["cell"] for row in rows}
    found = [row for row in _more_seeds(folder) if row["extends"] in listed - {row["cell"]}]
    return [{name: row[name] for name in runs.SWEEP_COLUMNS} for row in [*rows, *found]]


def _more_seeds(folder: Path) -> list[dict[str, str]]:
    """What is kept of further seeds; nothing where it is damaged, which `seals` tells."""
    path = folder / runs.MORE_SEEDS_FILE
    damaged = {damage.path.name for damage in seals.damage(folder)}
    if not path.is_file() or not damaged.isdisjoint({path.name, seals.SUMS_FILE}):
        return []
    try:
        return read_list(path, runs.MORE_SEEDS_COLUMNS)
    except InputError:
        return []


def is_listed(folder: Path, rows: Iterable[Mapping[str, Any]]) -> bool:
    """Tell whether the latest list is this, and whether all is in order."""
    path = folder / runs.SWEEP_FILE
    text = runs.to_csv(runs.SWEEP_COLUMNS, rows)
    return not seals.damage(folder) and path.is_file() and path.read_bytes() == text.encode()


def _unusable(folder: Path) -> list[seals.Damage]:
    """Lists of a version without checksums that are none."""
    found = []
    for path in cell_lists(folder).values():
        try:
            read_list(path)
        except InputError as error:
            found.append(seals.Damage(path, str(error).removeprefix(f"{path} ")))
    return found


def cell_lists(folder: Path) -> dict[str, Path]:
    """The lists of cells in a sweep's folder that are as they were written, each once.

    The latest is called by the folder's name, an earlier one by that and its hash, as in
    `grid-1f2e3d4c5b`. What `seals.damage` says of the folder is left out.
    """
    damaged = {damage.path.name for damage in seals.damage(folder)}
    if seals.SUMS_FILE in damaged:
        return {}
    latest = folder / runs.SWEEP_FILE
    lists = {}
    same = None
    if latest.is_file() and latest.name not in damaged:
        lists[folder.name] = latest
        same = _list_file(folder, latest.read_text(encoding="utf-8", errors="replace"))
    for path in sorted(folder.glob(runs.SWEEP_FILES)):
        if path != same and path.name not in damaged:
            lists[folder.name + path.stem.removeprefix("cells")] = path
    return lists


def _list_file(folder: Path, text: str) -> Path:
    """The file of a list: cells that are asked for in other words are the same list."""
    cells = sorted({line.partition(",")[0] for line in text.splitlines()})
    digest = hashlib.sha256("\n".join(cells).encode()).hexdigest()[:10]
    return folder / runs.SWEEP_FILES.replace("*", digest)


def latest_list(folder: Path) -> dict[str, str]:
    """The overrides of a sweep's cells, by the cells' names.

    Raises:
        InputError: If its list is not as it was written.
    """
    lists = cell_lists(folder)
    if folder.name not in lists:
        raise InputError(f"{folder / runs.SWEEP_FILE} is not as it was written")
    rows = with_more_seeds(folder, read_list(lists[folder.name]))
    return {row["cell"]: row["overrides"] for row in rows}
