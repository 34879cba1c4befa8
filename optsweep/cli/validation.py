"""The check of every cell of a grid before the first one trains."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from omegaconf import DictConfig

from optsweep import runs
from optsweep.cli.composition import check, check_memory, diagnosis_of, plan, to_config
from optsweep.cli.effects import check_effects, refuse_of_sweeps, repetitions
from optsweep.cli.grids import Cell, compose_cells
from optsweep.config import identity
from optsweep.config.checks import InputError
from optsweep.config.dataset import DatasetConfig
from optsweep.config.schema import Config
from optsweep.diagnosis.done import Asked
from optsweep.provenance import by_other_code
from optsweep.sweeps import list_cells


@dataclass(frozen=True)
class CheckedCell:
    """A cell of a grid that could be trained.

    Attributes:
        name: Of its directory.
        overrides: On the command line.
        config: Its configuration.
        is_done: Whether it has its result, and shall not be trained again.
        other_code: Which other code made that result; empty if this did, or there is none.
        refusal: Why its directory cannot be used; empty if it can.
    """

    name: str
    overrides: list[str]
    config: Config
    is_done: bool
    other_code: str
    refusal: str


def check_run(composed: DictConfig) -> None:
    """Check the one cell of a run before Hydra makes its directory.

    Raises:
        InputError: If it cannot be trained.
    """
    cell = to_config(composed)
    check(cell, Path(composed.hydra.run.dir), composed.rerun)
    refuse_of_sweeps(composed)
    check_effects(composed, [Cell(identity.cell_name(cell), "", cell)])


def check_grid(config: DictConfig) -> list[CheckedCell]:
    """Check all cells of a grid, and list them in the sweep's folder; Hydra is initialised.

    A directory that cannot be used is the matter of its cell alone.

    Raises:
        InputError: If one of them cannot be trained as it is configured.
    """
    from optsweep.data.arrays import load_arrays  # noqa: PLC0415 (NumPy, which most starts spare)

    sweep_dir = Path(config.hydra.sweep.dir)
    cells, checked, plans = [], [], {}
    datasets: list[DatasetConfig] = []
    for overrides, composed in compose_cells(config):
        cell = to_config(composed)
        name = identity.cell_name(cell)
        directory = sweep_dir / runs.CELLS_FOLDER / name
        refusal, result = runs.refusal(directory), None
        try:
            result = runs.finished(directory, cell, composed.rerun)
        except InputError as error:
            refusal = str(error)
        if result is None:
            plans[name] = plan(cell)
            if cell.dataset not in datasets:
                load_arrays(cell.dataset)  # missing or corrupt data end a sweep before it starts
                datasets.append(cell.dataset)
        cells.append(Cell(name, " ".join(overrides), cell))
        other_code = "" if result is None else by_other_code(result, cell)
        is_done = result is not None
        if is_done and (settings := diagnosis_of(composed)) is not None:
            is_done = Asked.of(directory, cell, settings).is_done
        checked.append(CheckedCell(name, overrides, cell, is_done, other_code, refusal))
    check_memory(list(plans.values()), num_at_once(config.hydra.launcher, len(plans)))
    check_effects(config, cells)
    if repeated := repetitions(cells):
        print(f"optsweep: {repeated}", flush=True)
    rows = [{"cell": cell.name, "overrides": cell.overrides} for cell in cells]
    for line in list_cells(sweep_dir / str(config.name), rows):
        print(line, flush=True)
    return checked


def num_at_once(launcher: DictConfig, num_cells: int) -> int:
    """How many cells a launcher trains side by side on this machine; 0: none here."""
    if "array_parallelism" in launcher:
        return 0
    if launcher._target_.endswith(".LocalLauncher"):  # starts all of them
        return num_cells
    if "n_jobs" not in launcher:
        return 1
    from joblib import effective_n_jobs  # noqa: PLC0415 (which most starts spare)

    return min(effective_n_jobs(launcher.n_jobs), num_cells)
