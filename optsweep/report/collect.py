"""A folder of runs as tidy tables; what is missing or damaged stays in them, with the reason."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import yaml

from optsweep import runs
from optsweep.config.checks import InputError
from optsweep.report import settings
from optsweep.report.study import Study

SEED_COLUMNS = (
    "seed",
    "status",
    "epochs",
    "steps",
    *(f"{split}_{metric}" for split in ("train", "val", "test") for metric in ("loss", "accuracy")),
    "final_train_loss",
    "final_train_accuracy",
)
# Of the tables of seeds, history and gradients, if no cell has any.
_COLUMNS = (
    (*SEED_COLUMNS, "generalisation_gap"),
    runs.HISTORY_COLUMNS,
    runs.GRADIENT_COLUMNS,
)
_MEMBER_COLUMNS = ["experiment", "cell", "label", "settings"]
_CELL_COLUMNS = [
    *("seconds", "device", "engine", "num_threads", "objective", "num_seeds", "num_diverged"),
    *("status", "reason", "facets"),
]


def collect_runs(folder: Path, on_cell: Callable[[int, int], None] = lambda *_: None) -> Study:
    """Read every cell and every experiment below `folder`.

    Args:
        folder: Such as `multirun/`.
        on_cell: Told how many cells of how many have been read.

    Raises:
        InputError: If there is no folder, or nothing in it is a cell or an experiment.
    """
    if not folder.is_dir():
        raise InputError(f"{folder}: there is no such folder")
    members = _read_members(folder)
    cells_folder = folder / runs.CELLS_FOLDER
    found = {path.parent.name for path in cells_folder.glob("*/*")}
    names = sorted(found | set(members["cell"]))
    if not names:
        raise InputError(f"{folder}: no runs in it; cells are expected in {cells_folder}")
    cells: list[dict[str, Any]] = []
    tables: dict[str, list[pd.DataFrame]] = {"seeds": [], "history": [], "gradients": []}
    for count, name in enumerate(names, start=1):
        cell, of_cell = _read_cell(cells_folder / name)
        cells.append({"cell": name, **cell})
        for table, rows in of_cell.items():
            tables[table].append(rows.assign(cell=name))
        on_cell(count, len(names))
    seeds, history, gradients = (
        pd.concat(rows, ignore_index=True) if rows else pd.DataFrame(columns=[*columns, "cell"])
        for rows, columns in zip(tables.values(), _COLUMNS, strict=True)
    )
    indexed = pd.DataFrame(cells).set_index("cell")
    return Study(folder, _quick(folder), indexed, seeds, history, members, gradients)


def empty_study(folder: Path) -> Study:
    """What a folder without runs holds: the same tables, without rows."""
    tables = [pd.DataFrame(columns=[*columns, "cell"]) for columns in _COLUMNS]
    seeds, history, gradients = tables
    members = pd.DataFrame(columns=_MEMBER_COLUMNS)
    cells = pd.DataFrame(columns=_CELL_COLUMNS, index=pd.Index([], name="cell"))
    return Study(folder, None, cells, seeds, history, members, gradients)


def _read_members(folder: Path) -> pd.DataFrame:
    rows: list[dict[str, Any]] = []
    for path in sorted(folder.glob(f"*/{runs.SWEEP_FILE}")):
        try:
            listed = pd.read_csv(path, dtype=str, keep_default_na=False)[["cell", "overrides"]]
        except (OSError, ValueError, KeyError) as error:
            raise InputError(f"{path} is not a list of cells ({error})") from error
        chosen = [settings.parse_overrides(text) for text in listed["overrides"]]
        labels = _labels(path.parent.name, list(listed["cell"]), chosen)
        rows += [
            {"experiment": path.parent.name, "cell": cell, "label": label, "settings": each}
            for cell, label, each in zip(listed["cell"], labels, chosen, strict=True)
        ]
    members = pd.DataFrame(rows, columns=_MEMBER_COLUMNS)
    return members.drop_duplicates(["experiment", "cell"], ignore_index=True)


def _labels(experiment: str, cells: list[str], chosen: list[settings.Settings]) -> list[str]:
    """What distinguishes each cell within its experiment; seeds alone distinguish nothing."""
    keys = settings.varying(chosen)
    told = [key for key in keys if key != "seed"]
    if told:
        return [settings.label(each, told) or experiment for each in chosen]
    return [experiment if keys else cell.rpartition("_")[0] or cell for cell in cells]


def _read_cell(directory: Path) -> tuple[dict[str, Any], dict[str, pd.DataFrame]]:
    """What is known of a cell, and its tables; none unless it is trained."""
    known: dict[str, Any] = dict.fromkeys(_CELL_COLUMNS)
    known |= {"status": "missing", "reason": "not trained yet", "facets": {}}
    if not directory.is_dir():
        return known, {}
    try:
        known["facets"] = _read_facets(directory)
        result = runs.read_result(directory)
        if result is None:
            return known | {"status": "partial", "reason": "begun, but not finished"}, {}
        if not directory.name.endswith(str(result["config_hash"])):
            raise InputError(f"{runs.RESULT_FILE} belongs to another configuration")
        tables = {"seeds": _seeds(result), "history": _history(directory / runs.HISTORY_FILE)}
        if (directory / runs.GRADIENTS_FILE).exists():
            tables["gradients"] = _gradients(directory / runs.GRADIENTS_FILE)
    except (InputError, OSError, ValueError, TypeError, KeyError, AttributeError) as error:
        reason = " ".join(str(error).replace(str(directory) + "/", "").split()) or repr(error)
        return known | {"status": "corrupt", "reason": reason}, {}
    num_diverged = int((tables["seeds"]["status"] != "completed").sum())
    known |= {key: result[key] for key in known if key in result and key != "status"}
    known |= {"num_seeds": len(tables["seeds"]), "num_diverged": num_diverged}
    reason = f"{num_diverged} of {len(tables['seeds'])} seeds diverged" if num_diverged else ""
    return known | {"status": "diverged" if num_diverged else "completed", "reason": reason}, tables


def _read_facets(directory: Path) -> settings.Settings:
    path = directory / runs.CONFIG_FILE
    try:
        return settings.facets(yaml.safe_load(path.read_text(encoding="utf-8")))
    except FileNotFoundError as error:
        raise InputError(f"{path.name} is missing") from error
    except (yaml.YAMLError, TypeError, KeyError, AttributeError) as error:
        raise InputError(f"{path.name} is not the configuration of a cell") from error


def _seeds(result: dict[str, Any]) -> pd.DataFrame:
    try:
        seeds = pd.DataFrame(result["per_seed"])[list(SEED_COLUMNS)]
        numbers = [column for column in SEED_COLUMNS if column != "status"]
        seeds[numbers] = seeds[numbers].apply(pd.to_numeric).astype(float)
        seeds["seed"] = seeds["seed"].astype(int)
    except (ValueError, TypeError, KeyError) as error:
        raise InputError(f"{runs.RESULT_FILE} has no usable results of its seeds") from error
    if seeds.empty:
        raise InputError(f"{runs.RESULT_FILE} has no seeds")
    return seeds.assign(generalisation_gap=seeds["final_train_accuracy"] - seeds["test_accuracy"])


def _history(path: Path) -> pd.DataFrame:
    try:
        history = pd.read_csv(path)[list(runs.HISTORY_COLUMNS)].astype(float)
    except FileNotFoundError as error:
        raise InputError(f"{path.name} is missing") from error
    except (ValueError, KeyError) as error:
        raise InputError(f"{path.name} cannot be read as a history") from error
    if history.empty:
        raise InputError(f"{path.name} has no rows")
    return history.astype({"seed": int, "epoch": int, "step": int})


def _gradients(path: Path) -> pd.DataFrame:
    try:
        return pd.read_csv(path)[list(runs.GRADIENT_COLUMNS)].astype({"value": float})
    except (ValueError, KeyError) as error:
        raise InputError(f"{path.name} cannot be read as recorded gradients") from error


def _quick(folder: Path) -> dict[str, Any] | None:
    try:
        said = json.loads((folder / runs.QUICK_FILE).read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    except (OSError, ValueError):
        return {"quick": True}
    return said if isinstance(said, dict) and said.get("quick", True) else None
