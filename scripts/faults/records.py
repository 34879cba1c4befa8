"""What runs have written, without their times: two folders with the same are told from others."""

from __future__ import annotations

import csv
import io
import json
import sqlite3
from collections.abc import Mapping
from contextlib import closing
from pathlib import Path

from optsweep import runs

# Of these the contents tell of times, paths or the order of events.
_UNCOMPARED = {runs.LOG_FILE, runs.CURVES_FILE, "overrides.yaml", "hydra.yaml"}
_UNCOMPARED_FOLDERS = {runs.COMPOSED_FOLDER, runs.FIGURES_FOLDER}


def files(folder: Path) -> set[str]:
    """Every file below a folder, by its path from there; what was set aside does not count."""
    found = {path.relative_to(folder) for path in folder.rglob("*") if not path.is_dir()}
    kept = {path for path in found if not any(map(is_set_aside, path.parts))}
    return {str(path) for path in kept if path.name != runs.LOG_FILE}


def is_set_aside(name: str) -> bool:
    """Whether a folder or file is of a record that was damaged."""
    return name.startswith(f"{runs.DAMAGED_FOLDER}_")


def tables(folder: Path) -> dict[str, bytes]:
    """What every file below a folder says, times aside, by its path from there."""
    found = {}
    for name in sorted(files(folder)):
        path = folder / name
        parts = Path(name).parts
        if path.name in _UNCOMPARED or _UNCOMPARED_FOLDERS.intersection(parts):
            continue
        if path.name == runs.STUDY_FILE:
            found[name] = _trials(path)
        elif not path.name.endswith(".lock"):
            found[name] = without_times(path)
    return found


def without_times(path: Path) -> bytes:
    """The contents of a file, less the times in it."""
    content = path.read_bytes()
    if path.name == runs.HISTORY_FILE:
        rows = list(csv.DictReader(io.StringIO(content.decode())))
        return runs.to_csv(runs.HISTORY_COLUMNS, [row | {"seconds": ""} for row in rows]).encode()
    if path.name == runs.RESULT_FILE:
        result = json.loads(content)
        # The checksums are also of the times, and a commit may be made meanwhile.
        for key in ("seconds", "other_cores", "process", "sha256", "commit"):
            result.pop(key, None)
        return json.dumps(result).encode()
    return content


def _trials(database: Path) -> bytes:
    """The trials that an Optuna study has, and how each ended."""
    with closing(sqlite3.connect(f"file:{database}?mode=ro", uri=True)) as connection:
        rows = connection.execute("SELECT study_id, number, state FROM trials ORDER BY 1, 2")
        return repr(list(rows)).encode()


def rows(report: Path) -> dict[str, dict[str, str]]:
    """The rows of a report's tables, by the cells that they are of; a search's by its settings."""
    found = {}
    for path in sorted((report / runs.TABLES_FOLDER).glob("*.csv")):
        with path.open(newline="", encoding="utf-8") as file:
            for row in csv.DictReader(file):
                found[row.get("cells") or f"{path.stem}: {row['setting']}"] = row
    return found


def differences(found: Mapping[str, bytes], undisturbed: Mapping[str, bytes]) -> list[str]:
    """What is missing, what there is too much, and what is not the same; a line each."""
    told = [f"{name} is missing" for name in undisturbed if name not in found]
    told += [f"{name} should not be there" for name in found if name not in undisturbed]
    common = sorted(undisturbed.keys() & found.keys())
    return told + [f"{name} is another" for name in common if found[name] != undisturbed[name]]
