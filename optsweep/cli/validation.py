"""Hydra's callback that checks every cell of a run or grid before the first one trains."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from hydra.experimental.callback import Callback
from hydra.types import RunMode
from omegaconf import DictConfig

from optsweep import runs
from optsweep.cli.composition import check, to_config
from optsweep.cli.grids import compose_cells
from optsweep.cli.mistakes import MISTAKES, exit_with
from optsweep.config import identity
from optsweep.config.dataset import DatasetConfig


class Validate(Callback):
    """Checks cells, lists those of a grid in `<name>/cells.csv`, and sums them up at its end.

    Hydra turns an exception of a callback into a warning, so a mistake ends the program here.
    """

    def __init__(self) -> None:
        """Start without a grid."""
        self.grid: list[dict[str, str]] = []

    def on_run_start(self, config: DictConfig, **kwargs: Any) -> None:
        """Check the one cell before Hydra makes its directory."""
        try:
            check(to_config(config), Path(config.hydra.run.dir), config.rerun)
        except MISTAKES as error:
            exit_with(error)

    def on_multirun_start(self, config: DictConfig, **kwargs: Any) -> None:
        """Check all cells of a grid; a search chooses its cells as it goes."""
        if not config.hydra.sweeper._target_.endswith(".GridSweeper"):
            return
        try:
            self.grid = _checked_grid(config)
        except MISTAKES as error:
            exit_with(error)

    def on_job_start(self, config: DictConfig, **kwargs: Any) -> None:
        """Say which cell of how many comes now."""
        if self.grid and config.hydra.mode == RunMode.MULTIRUN:
            print(f"\ncell {config.hydra.job.num + 1} of {len(self.grid)}", flush=True)

    def on_multirun_end(self, config: DictConfig, **kwargs: Any) -> None:
        """Show all cells of a grid side by side."""
        if not self.grid:
            return
        from rich.console import Console  # noqa: PLC0415

        from optsweep.cli.progress import sweep_table  # noqa: PLC0415

        folder = Path(config.hydra.sweep.dir) / runs.CELLS_FOLDER
        results = [runs.read_result(folder / row["cell"]) for row in self.grid]
        Console().print("", sweep_table([row["overrides"] for row in self.grid], results))


def _checked_grid(config: DictConfig) -> list[dict[str, str]]:
    from optsweep.data.arrays import load_arrays  # noqa: PLC0415 (NumPy, which most starts spare)

    sweep_dir = Path(config.hydra.sweep.dir)
    rows = []
    datasets: list[DatasetConfig] = []
    for overrides, composed in compose_cells(config):
        cell = to_config(composed)
        name = identity.cell_name(cell)
        check(cell, sweep_dir / runs.CELLS_FOLDER / name, composed.rerun)
        if cell.dataset not in datasets:
            load_arrays(cell.dataset)  # missing or corrupt data end a sweep before it starts
            datasets.append(cell.dataset)
        rows.append(dict(zip(runs.SWEEP_COLUMNS, (name, " ".join(overrides)), strict=True)))
    folder = sweep_dir / str(config.name)
    folder.mkdir(parents=True, exist_ok=True)
    runs.write_atomically(folder / runs.SWEEP_FILE, runs.to_csv(runs.SWEEP_COLUMNS, rows))
    return rows
