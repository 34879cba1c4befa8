"""The runs that a user names: by a folder, a sweep's or a cell's name, a label, or overrides."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from optsweep import runs
from optsweep.config.checks import InputError, nearest
from optsweep.report.collection import Collection, Setting, collect_cells
from optsweep.sweeps import cell_lists, latest_list, read_list

_SHOWN = 4  # of names that are all meant


@dataclass(frozen=True)
class Named:
    """Cells of one folder of runs, as a user named them.

    Attributes:
        name: What they are called together.
        root: The folder of all runs.
        cells: Names of the cells, with the overrides that tell them apart.
        sweep: Folder of the sweep's own files; None for what is no sweep.
    """

    name: str
    root: Path
    cells: dict[str, str]
    sweep: Path | None = None

    @property
    def is_search(self) -> bool:
        """Whether it is a search's folder."""
        return self.sweep is not None and (self.sweep / runs.STUDY_FILE).is_file()

    def collect(self) -> Collection:
        """Read the cells."""
        return collect_cells(self.root, self.name, self.cells)

    def directory(self, cell: str) -> Path:
        """Of one of the cells."""
        return self.root / runs.CELLS_FOLDER / cell

    def trained(self, collection: Collection) -> list[Setting]:
        """The settings that are trained.

        Raises:
            InputError: If none is.
        """
        settings = collection.settings_of(self.name)
        if found := [setting for setting in settings if setting.is_trained]:
            return found
        first = settings[0]
        raise InputError(
            f"{self.name}: no cell of it is trained in {self.root} ({first.label}: {first.status}, "
            f"{first.reason}); train it first"
        )


def find(text: str, root: Path) -> Named:
    """The runs that a text names.

    Args:
        text: A cell's or a sweep's folder, or its name; a cell's label; or overrides.
        root: The folder of runs where names, labels and overrides are looked up.

    Raises:
        InputError: If there is nothing of that name, or more than one.
    """
    folder = Path(text)
    if folder.is_dir():
        return _of_folder(folder)
    if "=" in text:
        return _of_overrides(text, root)
    if not root.is_dir():
        raise InputError(f"{root}: there is no such folder")
    if (root / text).is_dir() and text not in runs.RESERVED_NAMES:
        return _of_folder(root / text)
    cells = sorted(path.parent.name for path in (root / runs.CELLS_FOLDER).glob("*/config.yaml"))
    labels = {cell: cell.rpartition("_")[0] for cell in cells}
    found = [cell for cell, label in labels.items() if text in (cell, label)]
    if len(found) == 1:
        return Named(found[0], root, {found[0]: ""})
    if found:
        shown = ", ".join(found[:_SHOWN]) + " …" * (len(found) > _SHOWN)
        raise InputError(f"{text}: {len(found)} cells have this label; name one of {shown}")
    lists = _lists(root)
    if text in lists:
        return Named(
            text,
            root,
            {row["cell"]: row["overrides"] for row in read_list(lists[text])},
            lists[text].parent,
        )
    known = sorted({*labels.values(), *lists})
    close = nearest(text, known) if known else ""
    few = ", ".join(sorted(lists)[:_SHOWN])
    hint = close if close.startswith("did") else f"sweeps there: {few or 'none'}"
    raise InputError(
        f"{text}: neither a folder, nor a cell or a sweep in {root}, nor overrides such as "
        f"optimizer=adam; {hint}"
    )


def _of_folder(folder: Path) -> Named:
    """A cell, a sweep or a search.

    Raises:
        InputError: If it is none.
    """
    folder = folder.resolve() if folder.name in ("", "..") else folder
    if (folder / runs.CONFIG_FILE).is_file():
        if folder.resolve().parent.name != runs.CELLS_FOLDER:
            raise InputError(
                f"{folder}: a cell is looked for in a folder {runs.CELLS_FOLDER}; this one was "
                "trained with hydra.run.dir"
            )
        return Named(folder.resolve().name, folder.parent.parent, {folder.resolve().name: ""})
    root = folder.parent
    if (folder / runs.STUDY_FILE).is_file():
        return Named(folder.name, root, _of_search(folder), folder)
    if (folder / runs.SWEEP_FILE).is_file():
        return Named(folder.name, root, latest_list(folder), folder)
    raise InputError(
        f"{folder}: neither a cell (no {runs.CONFIG_FILE}) nor a sweep (no {runs.SWEEP_FILE})"
    )


def _of_search(folder: Path) -> dict[str, str]:
    """The cells of a search's complete trials, with what each chose."""
    from optsweep.report.searches import cells_of_search  # noqa: PLC0415 (Optuna)

    cells = cells_of_search(folder, complete=True)
    if not cells:
        raise InputError(f"{folder}: no trial of this search is complete")
    return cells


def _of_overrides(text: str, root: Path) -> Named:
    from optsweep.cli.grids import plan_grid  # noqa: PLC0415 (Hydra)

    try:
        arguments = shlex.split(text)
    except ValueError as error:
        raise InputError(f"{text}: {error}") from error
    words = overrides_alone([each for each in arguments if each not in ("-m", "--multirun")])
    grid = plan_grid(["--multirun", *words])
    cells = {cell.name: cell.overrides for cell in grid.cells}
    return Named(" ".join(words), root, cells)


def overrides_alone(arguments: Sequence[str]) -> list[str]:
    """Overrides, of which no flag but `--config-dir` is a part.

    Raises:
        InputError: If there is another.
    """
    names = ("--config-dir", "-cd")
    for before, argument in zip(("", *arguments), arguments, strict=False):
        is_plain = not argument.startswith("-") and ("=" in argument or argument.startswith("~"))
        if not (is_plain or before in names or argument.partition("=")[0] in names):
            raise InputError(f"{argument}: expected overrides such as optimizer=adam; see --help")
    return list(arguments)


def _lists(root: Path) -> dict[str, Path]:
    folders = sorted(path for path in root.iterdir() if path.is_dir())
    return {name: path for folder in folders for name, path in cell_lists(folder).items()}
