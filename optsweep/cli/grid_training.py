"""The cells of a grid, trained one after the other or side by side, and what became of them."""

from __future__ import annotations

import contextlib
import io
from collections.abc import Callable, Sequence
from concurrent.futures import BrokenExecutor
from pathlib import Path

from hydra.core.hydra_config import HydraConfig
from hydra.core.utils import JobReturn
from hydra.plugins.launcher import Launcher
from hydra.types import TaskFunction
from omegaconf import DictConfig

from optsweep import runs
from optsweep.cli.composition import stacking_of
from optsweep.cli.mistakes import CellsFailed, Failure, is_mistake
from optsweep.cli.output import make_sturdy
from optsweep.cli.stacks import train_stacks
from optsweep.cli.sweepers import is_trained_here
from optsweep.cli.validation import CheckedCell, check_grid
from optsweep.provenance import told_of_other_code


class CellTask:
    """Hydra's task for a cell of a grid: what ends one cell does not end the others."""

    def __init__(self, task: TaskFunction, num_cells: int) -> None:
        """Take the task for one cell, and how many there are."""
        self.task = task
        self.num_cells = num_cells

    def __call__(self, composed: DictConfig) -> Failure | None:
        """Train a cell, and return what ended it before its time."""
        make_sturdy()  # this may be a process of its own
        print(f"\ncell {HydraConfig.get().job.num + 1} of {self.num_cells}", flush=True)
        try:
            self.task(composed)
        except Exception as error:
            return Failure.of(error)
        return None


def train_grid(
    config: DictConfig, task: TaskFunction, make_launcher: Callable[[TaskFunction], Launcher]
) -> None:
    """Check all cells of a grid, train those that are not done, and show all side by side.

    Args:
        config: The composed configuration of the whole, with its `hydra` node.
        task: Trains one cell.
        make_launcher: Gives what runs a task in many cells.

    Raises:
        InputError: If one of them cannot be trained as it is configured; none is then.
        CellsFailed: If some were not trained.
    """
    from rich.console import Console  # noqa: PLC0415

    from optsweep.cli.progress import distinct_words, sweep_table  # noqa: PLC0415

    cells = check_grid(config)
    folder = Path(config.hydra.sweep.dir) / runs.CELLS_FOLDER
    by_name = {cell.name: cell for cell in cells}
    failures = {
        name: Failure(cell.refusal, is_bug=False, traceback="")
        for name, cell in by_name.items()
        if cell.refusal and not cell.is_done
    }
    for name, cell in by_name.items():
        if cell.is_done:
            runs.tidy(folder / name)
            print(f"done before: {folder / name} (rerun=true trains it again)", flush=True)
    if line := told_of_other_code([cell.other_code for cell in by_name.values()]):
        print(line, flush=True)
    waiting = [cell for cell in by_name.values() if not cell.is_done and not cell.refusal]
    num_cells = len(waiting)
    try:
        if waiting and is_trained_here(config):
            waiting = train_stacks(waiting, stacking_of(config), folder, make_launcher)
        failures |= _launched(waiting, make_launcher(CellTask(task, num_cells)), folder, num_cells)
    finally:
        names = distinct_words([cell.overrides for cell in cells])
        results = [None if c.name in failures else runs.read_result(folder / c.name) for c in cells]
        failed = [cell.name in failures for cell in cells]
        Console().print("", sweep_table(names, results, failed))
    if failures:
        called = {cell.name: name for cell, name in zip(cells, names, strict=True)}
        raise CellsFailed({called[name]: failure for name, failure in failures.items()})


def _launched(
    cells: Sequence[CheckedCell], launcher: Launcher, folder: Path, num_cells: int
) -> dict[str, Failure]:
    """Have a launcher train cells, the last ones of so many; those that failed, and why."""
    failures: dict[str, Failure] = {}
    batches = [cells] if cells else []
    while batches:
        batch = batches.pop(0)
        before = {cell.name: _written(folder / cell.name) for cell in batch}
        first = num_cells - len(batch) - sum(map(len, batches))
        try:
            returned = launcher.launch([cell.overrides for cell in batch], initial_job_idx=first)
            ended = zip(batch, map(_failure, returned), strict=True)
            failures |= {cell.name: failure for cell, failure in ended if failure is not None}
        except Exception as error:  # of the launcher, which takes all of its cells with it
            if not is_mistake(error):
                raise
            left = [c for c in batch if _written(folder / c.name) == before[c.name]]
            if isinstance(error, BrokenExecutor) and len(left) > 1:
                # The process of one of them was killed, and the others' ended with it.
                batches += [left[: len(left) // 2], left[len(left) // 2 :]]
            else:
                failures |= dict.fromkeys((cell.name for cell in left), Failure.of(error))
    return failures


def _failure(job: JobReturn) -> Failure | None:
    """What ended a cell, of which a job that was lost says nothing."""
    try:
        with contextlib.redirect_stderr(io.StringIO()):  # Hydra's own word on it
            return job.return_value
    except Exception as error:
        return Failure.of(error)


def _written(directory: Path) -> int | None:
    """When the result of a cell was written, as its file system counts."""
    path = directory / runs.RESULT_FILE
    return path.stat().st_mtime_ns if path.exists() else None
