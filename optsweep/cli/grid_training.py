"""The cells of a grid, trained one after the other or side by side, and what became of them."""

from __future__ import annotations

import contextlib
import io
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from hydra.core.hydra_config import HydraConfig
from hydra.plugins.launcher import Launcher
from hydra.types import TaskFunction
from omegaconf import DictConfig

from optsweep import runs
from optsweep.cli.mistakes import BUG, MISTAKE, Failure, is_mistake
from optsweep.cli.validation import CheckedCell, check_grid


class CellsFailed(Exception):
    """Some cells of a grid were not trained; the others were."""

    def __init__(self, failures: Mapping[str, Failure]) -> None:
        """Take what ended each of them, by what they are called."""
        super().__init__(f"{len(failures)} cells failed")
        self.failures = failures

    def tell(self, debug: bool) -> int:
        """Print a line for each reason, with its cells, and the tracebacks of bugs.

        Args:
            debug: Print those of mistakes too.

        Returns:
            The exit code.
        """
        cells_of: dict[str, list[str]] = {}
        for cell, failure in self.failures.items():
            if failure.reason not in cells_of and (debug or failure.is_bug):
                print(failure.traceback, file=sys.stderr, end="")
            cells_of.setdefault(failure.reason, []).append(cell)
        for reason, cells in cells_of.items():
            print(f"optsweep: error: {reason} [{'; '.join(cells)}]", file=sys.stderr)
        return BUG if any(failure.is_bug for failure in self.failures.values()) else MISTAKE


class CellTask:
    """Hydra's task for a cell of a grid: what ends one cell does not end the others."""

    def __init__(self, task: TaskFunction, num_cells: int) -> None:
        """Take the task for one cell, and how many there are."""
        self.task = task
        self.num_cells = num_cells

    def __call__(self, composed: DictConfig) -> Failure | None:
        """Train a cell, and return what ended it before its time."""
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
            print(f"done before: {folder / name} (rerun=true trains it again)", flush=True)
    waiting = [cell for cell in by_name.values() if not cell.is_done and not cell.refusal]
    try:
        failures |= _launched(waiting, make_launcher(CellTask(task, len(waiting))), folder)
    finally:
        names = distinct_words([cell.overrides for cell in cells])
        results = [None if c.name in failures else runs.read_result(folder / c.name) for c in cells]
        failed = [cell.name in failures for cell in cells]
        Console().print("", sweep_table(names, results, failed))
    if failures:
        called = {cell.name: name for cell, name in zip(cells, names, strict=True)}
        raise CellsFailed({called[name]: failure for name, failure in failures.items()})


def _launched(cells: Sequence[CheckedCell], launcher: Launcher, folder: Path) -> dict[str, Failure]:
    """Have a launcher train cells; those that failed, and why."""
    if not cells:
        return {}
    failures = {}
    try:
        returned = launcher.launch([cell.overrides for cell in cells], initial_job_idx=0)
        for cell, job in zip(cells, returned, strict=True):
            try:
                with contextlib.redirect_stderr(io.StringIO()):  # Hydra's own word on it
                    failure = job.return_value
            except Exception as error:  # of a job that was lost
                failure = Failure.of(error)
            if failure is not None:
                failures[cell.name] = failure
    except Exception as error:  # of the launcher, which takes all of its cells with it
        if not is_mistake(error):
            raise
        failure = Failure.of(error)
        for cell in cells:
            if runs.read_result(folder / cell.name) is None:
                failures[cell.name] = failure
    return failures
