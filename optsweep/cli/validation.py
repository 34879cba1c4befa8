"""Hydra's callback that checks every cell of a run or grid before the first one trains."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

import hydra
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.experimental.callback import Callback
from hydra.types import RunMode
from omegaconf import DictConfig

from optsweep import naming, runs
from optsweep.checks import InputError
from optsweep.cli.composition import CELLS_FOLDER, check, to_config
from optsweep.cli.mistakes import MISTAKES, exit_with
from optsweep.config import DatasetConfig
from optsweep.dataset_files import load_contents

SWEEP_COLUMNS = ("cell", "overrides")


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
        if not config.hydra.sweeper._target_.endswith(".BasicSweeper"):
            return
        try:
            self.grid = _checked_grid(config, kwargs["config_name"])
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

        from optsweep.progress import sweep_table  # noqa: PLC0415

        folder = Path(config.hydra.sweep.dir) / CELLS_FOLDER
        results = [runs.read_result(folder / row["cell"]) for row in self.grid]
        Console().print("", sweep_table([row["overrides"] for row in self.grid], results))


def _checked_grid(config: DictConfig, config_name: str) -> list[dict[str, str]]:
    sweep_dir = Path(config.hydra.sweep.dir)
    rows = []
    datasets: list[DatasetConfig] = []
    for overrides in _grid(config):
        composed = hydra.compose(config_name, overrides)
        cell = to_config(composed)
        name = naming.cell_name(cell)
        check(cell, sweep_dir / CELLS_FOLDER / name, composed.rerun)
        if cell.dataset not in datasets:
            load_contents(cell.dataset)  # missing or corrupt data end a sweep before it starts
            datasets.append(cell.dataset)
        rows.append(dict(zip(SWEEP_COLUMNS, (name, " ".join(overrides)), strict=True)))
    folder = sweep_dir / str(config.name)
    folder.mkdir(parents=True, exist_ok=True)
    runs.write_atomically(folder / "cells.csv", runs.to_csv(SWEEP_COLUMNS, rows))
    return rows


def _grid(config: DictConfig) -> list[list[str]]:
    """The overrides of every cell of a grid, as Hydra's basic sweeper makes them."""
    parameters = [f"{key}={value}" for key, value in (config.hydra.sweeper.params or {}).items()]
    choices: dict[str, list[str]] = {}
    parser = OverridesParser.create()
    for override in parser.parse_overrides([*parameters, *config.hydra.overrides.task]):
        key = override.get_key_element()
        if override.is_discrete_sweep():
            values = [str(value) for value in override.sweep_string_iterator()]
        elif override.is_sweep_override():
            raise InputError(
                f"{override.input_line}: a range is for a search; add hydra/sweeper=optuna"
            )
        else:
            values = [override.get_value_element_as_str()]
        choices[key] = [f"{key}={value}" for value in values]
    return [list(overrides) for overrides in itertools.product(*choices.values())]
