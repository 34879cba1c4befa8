"""What a command would train, which of it is done, and how long the rest will take.

Nothing is written, and no data are loaded but those whose shape a configuration has to know.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import yaml
from omegaconf import DictConfig, OmegaConf
from rich.console import Console
from rich.table import Table

from optsweep import runs
from optsweep.cli.grids import Cell, compose_cells
from optsweep.cli.time_left import Clock, in_words
from optsweep.config.checks import InputError
from optsweep.config.schema import Config

_NUM_MEASURED = 200  # cells of other sweeps that are looked at; the first ones found


def show_cells(cells: Sequence[Cell], folder: Path, rerun: bool) -> None:
    """Print the cells of a command, those that are done marked, and the time for the others.

    Args:
        cells: In the order of training; of equal ones the first counts.
        folder: Where the cells' directories are.
        rerun: Whether cells are trained that have been before.
    """
    console = Console(highlight=False, soft_wrap=True)
    table = Table("cell", "overrides", "state")
    waiting: dict[str, Cell] = {}
    for cell in cells:
        result = None if rerun else runs.finished(folder / cell.name, cell.config)
        if result is None:
            waiting.setdefault(cell.name, cell)
        state = "to train" if result is None else f"done, {result['objective']:.4f}"
        table.add_row(cell.name, cell.overrides or "(no overrides)", state)
    console.print(table)
    num_cells = len({cell.name for cell in cells})
    console.print(f"{num_cells} cells, {num_cells - len(waiting)} done before; nothing is trained")
    if waiting:
        console.print(f"the others take {time_for([*waiting.values()], folder)}")


def time_for(cells: Sequence[Cell], folder: Path) -> str:
    """How long cells will take, told from finished ones, and what that is founded on."""
    clock, num_measured = Clock(), 0
    for path in sorted(folder.glob(f"*/{runs.RESULT_FILE}"))[:_NUM_MEASURED]:
        try:
            result = runs.read_result(path.parent)
            values = yaml.safe_load((path.parent / runs.CONFIG_FILE).read_text(encoding="utf-8"))
            config = Config.from_mapping(values)
        except (InputError, OSError, yaml.YAMLError):
            continue  # a damaged cell is named by those who need it
        if result is not None and not result.get("stopped"):
            clock.learn(Cell(path.parent.name, "", config), result)
            num_measured += 1
    basis = f"told from {num_measured} that are done" if num_measured else "a guess for two cores"
    return f"{in_words(clock.estimate(cells))} ({basis})"


def print_configurations(config: DictConfig) -> None:
    """What `--cfg job` prints of a sweep: the configuration of each of its cells."""
    for overrides, composed in compose_cells(config):
        print(f"# {' '.join(overrides)}")
        plain = {key: value for key, value in composed.items() if key != "hydra"}
        print(OmegaConf.to_yaml(OmegaConf.create(plain)))
