"""From run directories to a tracker: what it has is left alone, what it has in part is replaced."""

from __future__ import annotations

import hashlib
import importlib
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Protocol

import filelock

from optsweep import runs
from optsweep.config.checks import InputError
from optsweep.sweeps import latest_list
from optsweep.trackers.records import Record, Sweep, read_sweep

# Tracker -> its module's class; each is an extra of the same name.
TRACKERS = {
    "tensorboard": "TensorBoard",
    "mlflow": "MLflow",
    "wandb": "WeightsAndBiases",
    "trackio": "Trackio",
}


class Tracker(Protocol):
    """A place for records, each of which is there whole or not at all.

    Attributes:
        place: Where they go; two exports to one place wait for each other.
        hint: How to look at them.
    """

    place: str
    hint: str

    def told(self) -> Mapping[str, str]:
        """Fingerprints of the records that are there whole, by their names."""
        ...

    def tell(self, record: Record) -> None:
        """Put a record there, in place of one of its name that is there already or in part."""
        ...


def connect(name: str, project: str, out: str | None) -> Tracker:
    """A tracker by its name.

    Raises:
        InputError: If its extra is not installed.
    """
    try:
        module = importlib.import_module(f"optsweep.trackers.{name}")
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] == "optsweep":
            raise
        raise InputError(f"--to {name}: it is an extra; pip install 'optsweep[{name}]'") from error
    return getattr(module, TRACKERS[name])(project, out)


def export(
    sweeps: Callable[[], Sequence[Sweep]],
    tracker: Tracker,
    say: Callable[[str], None],
    every: float | None = None,
) -> int:
    """Bring to a tracker what it lacks.

    Args:
        sweeps: Tells what there is; asked again for every look.
        tracker: Where to bring it.
        say: Told of every record, and of what there is none of.
        every: Seconds between looks, until all is there; None: one look.

    Returns:
        The number of records that were brought.
    """
    num_told, named, said = 0, set(), ""
    with _alone(tracker):
        told = dict(tracker.told())
        while True:
            missing: list[str] = []
            damaged: dict[str, str] = {}
            is_running = False
            for sweep in sweeps():
                found = read_sweep(sweep, told)
                is_running |= sweep.is_running
                missing += found.missing
                damaged |= found.damaged
                for record in found.records:
                    tracker.tell(with_curves(record))
                    told[record.name] = record.fingerprint
                    num_told += 1
                    say(f"{record.name}: {len(record.history)} rows of history")
            for cell, reason in damaged.items():
                if cell not in named:
                    say(f"{cell}: left out, {reason}")
                    named.add(cell)
            if every is None or not (missing or is_running):
                if missing:
                    say(f"not trained yet: {len(missing)} cells")
                return num_told
            waiting = f"waiting for {len(missing)} cells" if missing else "waiting for more trials"
            if waiting != said:
                say(waiting)
                said = waiting
            time.sleep(every)


def with_curves(record: Record) -> Record:
    """A record of a cell whose picture has been drawn, if it was not before."""
    curves = record.figures.get("curves")
    if not record.cell or curves is None or curves.is_file():
        return record
    from optsweep.report.curves import draw_curves  # noqa: PLC0415

    drawn = Path(_folder(), f"{record.cell}.png")
    draw_curves(curves.parent, drawn)
    return Record(**{**vars(record), "figures": {**record.figures, "curves": drawn}})


_drawn: list[tempfile.TemporaryDirectory[str]] = []


def _folder() -> str:
    """A folder that goes with the process."""
    if not _drawn:
        _drawn.append(tempfile.TemporaryDirectory())
    return _drawn[0].name


@contextmanager
def _alone(tracker: Tracker) -> Iterator[None]:
    digest = hashlib.sha256(tracker.place.encode()).hexdigest()[:16]
    lock = filelock.FileLock(Path(tempfile.gettempdir(), f"optsweep-export-{digest}.lock"))
    try:
        with lock.acquire(timeout=0):
            yield
    except filelock.Timeout as error:
        raise InputError(f"another export to {tracker.place} is under way") from error


def sweeps_below(root: Path) -> list[Sweep]:
    """Every sweep of a folder of runs, and under `cells` the cells that no sweep lists.

    Raises:
        InputError: If it is no folder of runs.
    """
    if not (root / runs.CELLS_FOLDER).is_dir():
        raise InputError(f"{root}: no runs in it; cells are expected in {root / runs.CELLS_FOLDER}")
    folders = [path for path in sorted(root.iterdir()) if path.name not in runs.RESERVED_NAMES]
    found = [sweep for folder in folders for sweep in sweeps_of(folder)]
    listed = {cell for sweep in found for cell in sweep.cells}
    cells = sorted(
        path.parent.name for path in root.glob(f"{runs.CELLS_FOLDER}/*/{runs.RESULT_FILE}")
    )
    rest = {cell: "" for cell in cells if cell not in listed}
    return [*found, Sweep(runs.CELLS_FOLDER, root, rest)] if rest else found


def sweeps_of(folder: Path) -> list[Sweep]:
    """The sweep of a folder: its latest list of cells, or a search's trials; none if it is none."""
    if (folder / runs.STUDY_FILE).is_file():
        from optsweep.report.searches import cells_of_search  # noqa: PLC0415 (Optuna)

        study, summary = folder / runs.STUDY_FILE, folder / runs.SUMMARY_FILE
        # A search writes its summary in the end, after the last trial.
        ended = summary.is_file() and summary.stat().st_mtime >= study.stat().st_mtime
        return [Sweep(folder.name, folder.parent, cells_of_search(folder), folder, not ended)]
    if (folder / runs.SWEEP_FILE).is_file():
        return [Sweep(folder.name, folder.parent, latest_list(folder), folder)]
    return []
