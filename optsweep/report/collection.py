"""A folder of runs as tidy tables; what is missing or damaged stays in them, with the reason.

Status of a cell, and of the cells of a setting together: `completed` (every seed),
`partly diverged` (some seeds did), `diverged` (all did), `missing` (an experiment lists it, nothing
is there), `partial` (begun, not finished) or `corrupt` (its files cannot be used).
"""

from __future__ import annotations

import functools
import json
import os
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import yaml

from optsweep import provenance, runs, seals
from optsweep.config.checks import InputError
from optsweep.report import settings
from optsweep.report.language import say
from optsweep.seals import Damage
from optsweep.sweeps import cell_lists, read_list, with_more_seeds

# From good to bad.
STATUSES = ("completed", "partly diverged", "diverged", "missing", "partial", "corrupt")
TRAINED = STATUSES[:3]
DIVERGED = STATUSES[1:3]

SEED_COLUMNS = (
    "seed",
    "status",
    "epochs",
    "steps",
    *(f"{split}_{metric}" for split in ("train", "val", "test") for metric in ("loss", "accuracy")),
    "final_train_loss",
    "final_train_accuracy",
)
# Of the tables that hold rows of every trained cell; a column `cell` comes last.
_COLUMNS = {
    "seeds": (*SEED_COLUMNS, "generalisation_gap"),
    "history": runs.HISTORY_COLUMNS,
    "gradients": runs.GRADIENT_COLUMNS,
}
_MEMBER_COLUMNS = ("experiment", "cell", "label", "settings")
_CELL_COLUMNS = (
    *("seconds", "device", "engine", "num_threads", "objective", "num_seeds", "num_diverged"),
    *("status", "reason", "facets", "code", "other_cores", "process"),
)
# Cores that other processes may keep busy while a time is taken: a machine's own housekeeping.
MOST_OTHER_CORES = 0.1


@dataclass(frozen=True)
class Setting:
    """One line of an experiment: a cell, or cells that differ in nothing but their seeds.

    Attributes:
        label: What distinguishes it within the experiment.
        cells: Names of its cells.
        chosen: Its overrides.
        facets: Plain columns of its configuration; empty if no cell has been begun.
        status: That of its cells together; the worst, if one is not trained.
        reason: Why it is not simply completed.
    """

    label: str
    cells: tuple[str, ...]
    chosen: settings.Settings
    facets: settings.Settings
    status: str
    reason: str

    @property
    def is_trained(self) -> bool:
        """Whether all its cells have results."""
        return self.status in TRAINED

    def value(self, key: str) -> Any:
        """A facet, or else an override."""
        return self.facets.get(key, self.chosen.get(key))


def is_search(some: Sequence[Setting]) -> bool:
    """Whether the settings hold out validation examples, on which a best value is chosen."""
    known = [setting for setting in some if setting.facets]
    return bool(known) and all(setting.facets.get("val_size") for setting in known)


def longest(some: Sequence[Setting]) -> int:
    """The most epochs that one of the settings was trained for."""
    return max(int(setting.facets["epochs"]) for setting in some)


@dataclass(frozen=True)
class Collection:
    """All that a folder of runs holds.

    Attributes:
        folder: Where it was read from.
        quick: What `quick.json` says; None for full runs.
        cells: A row per cell, index `cell`: status, reason, num_seeds, num_diverged, seconds,
            device, engine, num_threads, objective, `facets`, a mapping of its configuration,
            `code`, see `provenance.code_of`, other_cores, the cores that other processes kept
            busy meanwhile, and process, a name of the one that trained it; None: not known.
        seeds: A row per trained cell and seed: `SEED_COLUMNS` and generalisation_gap, the
            accuracy of the final weights on the training split less that on the test split.
        history: `runs.HISTORY_COLUMNS` of all trained cells, with a column `cell`.
        gradients: What cells recorded of their gradients, with a column `cell`; may be empty.
        members: A row per experiment and cell: experiment, cell, label and `settings`,
            a mapping of the overrides.
        damaged: What cannot be used and is left out: cells, and what sweeps keep.
    """

    folder: Path
    quick: dict[str, Any] | None
    cells: pd.DataFrame
    seeds: pd.DataFrame
    history: pd.DataFrame
    gradients: pd.DataFrame
    members: pd.DataFrame
    damaged: Sequence[Damage] = ()

    @property
    def experiments(self) -> list[str]:
        """Names of the experiments, sorted."""
        return sorted(self.members["experiment"].unique())

    def settings_of(self, experiment: str) -> list[Setting]:
        """The settings of an experiment, in its own order."""
        return list(self._settings.get(experiment, ()))

    def trained(self, experiments: Sequence[str]) -> list[Setting]:
        """The settings of some experiments that are trained."""
        return [each for name in experiments for each in self.settings_of(name) if each.is_trained]

    def searches(self, experiments: Sequence[str]) -> list[str]:
        """Those of the experiments that are searches."""
        return [name for name in experiments if is_search(self.settings_of(name))]

    def compared(self, experiments: Sequence[str]) -> list[Setting]:
        """The trained settings of the experiments that are no searches."""
        searches = self.searches(experiments)
        return self.trained([name for name in experiments if name not in searches])

    def find(self, experiment: str, where: Mapping[str, Any]) -> list[Setting]:
        """The experiment's settings that have all these values."""
        found = self.settings_of(experiment)
        return [one for one in found if settings.matches(where, one.chosen, one.facets)]

    def seeds_of(self, cells: Sequence[str]) -> pd.DataFrame:
        """The results of all seeds of some cells, index `seed`."""
        return _rows_of(self.seeds, self._seeds_by_cell, cells).set_index("seed")

    def history_of(self, cells: Sequence[str]) -> pd.DataFrame:
        """The history of some cells."""
        return _rows_of(self.history, self._history_by_cell, cells)

    def taken_alone(self, cells: Sequence[str]) -> list[str]:
        """Those of some cells whose times are not known to have been taken beside other work."""
        load = self.cells.loc[list(cells), "other_cores"].astype(float)
        return list(load.index[~(load > MOST_OTHER_CORES)])

    def timed_alike(self, cells: Sequence[str]) -> list[str]:
        """Those of a setting's cells that were taken alone, by as many threads as most of them.

        Of a tie, by more threads.
        """
        alone = self.taken_alone(cells)
        threads = self.cells.loc[alone, "num_threads"].astype(float)
        return list(threads.index[threads.isna() | (threads == threads.mode().max())])

    def threads_of(self, cells: Sequence[str]) -> int | None:
        """With how many threads those that are `timed_alike` were trained; None: not known."""
        threads = self.cells.loc[self.timed_alike(cells), "num_threads"].dropna()
        return int(threads.iloc[0]) if len(threads) else None

    def recorded(self, cells: Sequence[str], quantity: str) -> pd.DataFrame:
        """What some cells recorded of a quantity: seed, epoch, parameter, value."""
        chosen = self.gradients["cell"].isin(list(cells))
        return self.gradients[chosen & (self.gradients["quantity"] == quantity)]

    @property
    def mixed_code(self) -> dict[str, list[str]]:
        """Cells that other code made than most, by that code in words."""
        trained = self.cells.loc[self.cells["status"].isin(TRAINED), "code"].to_dict()
        counts: dict[str, Counter[str]] = {}
        for code in trained.values():
            for name, version in code.items():
                counts.setdefault(name, Counter())[version] += 1
        usual = {name: versions.most_common(1)[0][0] for name, versions in counts.items()}
        found: dict[str, list[str]] = {}
        for cell, code in trained.items():
            if other := {name: made for name, made in code.items() if made != usual[name]}:
                found.setdefault(provenance.in_words(other), []).append(str(cell))
        return found

    def __getstate__(self) -> dict[str, Any]:
        """To other processes without what each finds for itself."""
        return {each.name: getattr(self, each.name) for each in fields(self)}

    # Asked for hundreds of times in a report; what it reads does not change.
    @functools.cached_property
    def _settings(self) -> dict[str, list[Setting]]:
        return {
            str(name): [self._setting(label, one) for label, one in of.groupby("label", sort=False)]
            for name, of in self.members.groupby("experiment")
        }

    @functools.cached_property
    def _seeds_by_cell(self) -> dict[str, pd.Index]:
        return self.seeds.groupby("cell").groups

    @functools.cached_property
    def _history_by_cell(self) -> dict[str, pd.Index]:
        return self.history.groupby("cell").groups

    def _setting(self, label: Any, group: pd.DataFrame) -> Setting:
        cells = self.cells.loc[list(group["cell"])]
        status = max(cells["status"], key=STATUSES.index)
        if status == "diverged" and set(cells["status"]) != {"diverged"}:
            status = "partly diverged"  # the seeds of the other cells did not
        reasons = list(dict.fromkeys(reason for reason in cells["reason"] if reason))
        reason = reasons[0] if len(reasons) == 1 else "; ".join(reasons)
        chosen, facets = group["settings"].iloc[0], cells.iloc[0]["facets"]
        return Setting(str(label), tuple(cells.index), chosen, facets, status, reason)


def _rows_of(
    table: pd.DataFrame, by_cell: Mapping[str, pd.Index], cells: Sequence[str]
) -> pd.DataFrame:
    """The rows of some cells in the table's order, which is that of a plain index."""
    found = [by_cell[cell] for cell in dict.fromkeys(cells) if cell in by_cell]
    if not found:
        return table.iloc[:0]
    return table.loc[found[0] if len(found) == 1 else np.sort(np.concatenate(found))]


def collect_runs(folder: Path) -> Collection:
    """Read every cell and every experiment below `folder`, such as `multirun/`.

    Raises:
        InputError: If there is no folder, or nothing in it is a cell or an experiment.
    """
    if not folder.is_dir():
        raise InputError(f"{folder}: there is no such folder")
    members, damaged = _read_members(folder)
    cells_folder = folder / runs.CELLS_FOLDER
    found = {path.parent.name for path in cells_folder.glob("*/*")}
    names = sorted(found | set(members["cell"]))
    if not names and not damaged:
        raise InputError(f"{folder}: no runs in it; cells are expected in {cells_folder}")
    return _collect(folder, names, members, damaged)


def collect_cells(folder: Path, name: str, listed: Mapping[str, str]) -> Collection:
    """Read some cells alone, as the one experiment `name` of a folder of runs.

    Args:
        folder: The runs, such as `multirun/`.
        name: What they are called together.
        listed: Their overrides, by their names.
    """
    rows = [{"cell": cell, "overrides": overrides} for cell, overrides in listed.items()]
    return _collect(folder, list(listed), _members({name: rows}), [])


def _collect(
    folder: Path, names: Sequence[str], members: pd.DataFrame, damaged: Sequence[Damage]
) -> Collection:
    cells_folder = folder / runs.CELLS_FOLDER
    cells: list[dict[str, Any]] = []
    tables: dict[str, list[pd.DataFrame]] = {table: [] for table in _COLUMNS}
    for name in names:
        cell, of_cell = _read_cell(cells_folder / name)
        cells.append({"cell": name, **cell})
        for table, rows in of_cell.items():
            tables[table].append(rows.assign(cell=name))
    whole = {table: pd.concat(rows, ignore_index=True) for table, rows in tables.items() if rows}
    if not cells:
        return replace(empty_collection(folder), damaged=damaged)
    indexed = pd.DataFrame(cells).set_index("cell")
    corrupt = indexed.loc[indexed["status"] == "corrupt", "reason"]
    damaged = [
        *(Damage(cells_folder / str(n), f"is left out: {why}") for n, why in corrupt.items()),
        *damaged,
    ]
    return Collection(
        folder, _quick(folder), indexed, **(_no_rows() | whole), members=members, damaged=damaged
    )


def empty_collection(folder: Path) -> Collection:
    """What a folder without runs holds: the same tables, without rows."""
    cells = pd.DataFrame(columns=_CELL_COLUMNS, index=pd.Index([], name="cell"))
    members = pd.DataFrame(columns=_MEMBER_COLUMNS)
    return Collection(folder, None, cells, **_no_rows(), members=members)


def _no_rows() -> dict[str, pd.DataFrame]:
    return {table: pd.DataFrame(columns=[*names, "cell"]) for table, names in _COLUMNS.items()}


def _read_members(folder: Path) -> tuple[pd.DataFrame, list[Damage]]:
    """The cells of all sweeps, and the lists of cells that cannot be used."""
    lists: dict[str, list[dict[str, str]]] = {}
    damaged: list[Damage] = []
    for sweep in sorted(path for path in folder.iterdir() if path.is_dir()):
        damaged += seals.damage(sweep)
        for name, path in cell_lists(sweep).items():
            try:
                lists[name] = with_more_seeds(sweep, read_list(path))
            except InputError as error:
                damaged.append(Damage(path, str(error).removeprefix(f"{path} ")))
    return _members(lists), damaged


def _members(lists: Mapping[str, Sequence[Mapping[str, str]]]) -> pd.DataFrame:
    """A row for each cell of each list."""
    rows: list[dict[str, Any]] = []
    for name, listed in lists.items():
        cells = [row["cell"] for row in listed]
        chosen = [settings.parse_overrides(row["overrides"]) for row in listed]
        rows += [
            dict(zip(_MEMBER_COLUMNS, (name, *each), strict=True))
            for each in zip(cells, _labels(name, cells, chosen), chosen, strict=True)
        ]
    members = pd.DataFrame(rows, columns=_MEMBER_COLUMNS)
    return members.drop_duplicates(["experiment", "cell"], ignore_index=True)


def _labels(experiment: str, cells: list[str], chosen: list[settings.Settings]) -> list[str]:
    """What distinguishes each cell within its experiment; seeds alone distinguish nothing.

    Of one alone, what is not as in the defaults.
    """
    keys = settings.varying(chosen)
    told = [key for key in keys if key != "seed"]
    if told:
        return [settings.label(each, told) or experiment for each in chosen]
    if keys:
        return [experiment] * len(cells)
    named = (settings.label(each, [key for key in each if key != "experiment"]) for each in chosen)
    return [
        name or cell.rpartition("_")[0] or cell for name, cell in zip(named, cells, strict=True)
    ]


def _read_cell(directory: Path) -> tuple[dict[str, Any], dict[str, pd.DataFrame]]:
    """What is known of a cell, and its tables; none unless it is trained."""
    known: dict[str, Any] = dict.fromkeys(_CELL_COLUMNS)
    known |= {"status": "missing", "reason": "not trained yet", "facets": {}}
    if not os.path.lexists(directory):
        return known, {}
    try:
        if not directory.is_dir():
            raise InputError("it is a file, not a folder")
        try:
            known["facets"] = _read_facets(directory)
        except (InputError, OSError, ValueError):
            if os.path.lexists(directory / runs.RESULT_FILE):
                raise  # else it was killed before it had a configuration
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
    num_seeds = len(tables["seeds"])
    num_diverged = int((tables["seeds"]["status"] != "completed").sum())
    status = DIVERGED[num_diverged == num_seeds] if num_diverged else "completed"
    diverged = say("status.diverged", num=num_diverged, of=num_seeds)
    reason = diverged if num_diverged else ""
    known |= {key: result[key] for key in known if key in result}
    known |= {"num_seeds": num_seeds, "num_diverged": num_diverged}
    known["code"] = provenance.code_of(result)
    return known | {"status": status, "reason": reason}, tables


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
