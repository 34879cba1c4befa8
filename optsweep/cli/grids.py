"""The cells of a grid, composed without being trained."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import hydra
from hydra.core.global_hydra import GlobalHydra
from hydra.core.override_parser.overrides_parser import OverridesParser
from omegaconf import DictConfig

from optsweep import runs
from optsweep.cli.cell_loader import CellLoader
from optsweep.cli.composition import config_dir, to_config
from optsweep.cli.overrides import refuse_underflow, rewrite
from optsweep.cli.trust import check_trust, refuse_hydra
from optsweep.config import identity
from optsweep.config.checks import InputError
from optsweep.config.schema import Config


@dataclass(frozen=True)
class Cell:
    """One cell of a grid: its directory's name, its overrides and what they amount to."""

    name: str
    overrides: str
    config: Config


@dataclass(frozen=True)
class Grid:
    """What a command line would train.

    Attributes:
        folder: Of the sweep's own files.
        cells_folder: Where the cells' directories are.
        rerun: Whether cells are trained that have been before.
        cells: In the order of training; the same cell may be there twice.
    """

    folder: Path
    cells_folder: Path
    rerun: bool
    cells: tuple[Cell, ...]


def plan_grid(arguments: Sequence[str]) -> Grid:
    """Compose what `python -m optsweep ARGUMENTS` would train, without checking or training it.

    Raises:
        InputError: If a key or a value cannot be used.
    """
    with hydra.initialize_config_dir(str(config_dir())):
        overrides = rewrite(list(arguments), config_dir())
        config = hydra.compose("config", overrides, return_hydra_config=True)
        cells = []
        for of_cell, composed in compose_cells(config):
            cell = to_config(composed)
            cells.append(Cell(identity.cell_name(cell), " ".join(of_cell), cell))
    sweep_dir = Path(config.hydra.sweep.dir)
    folder, cells_folder = sweep_dir / str(config.name), sweep_dir / runs.CELLS_FOLDER
    return Grid(folder, cells_folder, bool(config.rerun), tuple(cells))


def expand(config: DictConfig) -> list[list[str]]:
    """The overrides of every cell of a grid, in the order of training.

    Args:
        config: The composed configuration of the whole, with its `hydra` node.

    Raises:
        InputError: If a value is a range, or a pattern that no option has.
    """
    parameters = [f"{key}={value}" for key, value in (config.hydra.sweeper.params or {}).items()]
    for text in parameters:
        refuse_underflow(text)
    choices: dict[str, list[str]] = {}
    # The loader tells which options a pattern such as glob(a*) means.
    parser = OverridesParser.create(GlobalHydra.instance().config_loader())
    for override in parser.parse_overrides([*parameters, *config.hydra.overrides.task]):
        key = override.get_key_element()
        refuse_hydra(key)
        if override.is_discrete_sweep():
            values = [str(value) for value in override.sweep_string_iterator()]
            if not values:
                raise InputError(f"{override.input_line}: no option has such a name")
        elif override.is_sweep_override():
            raise InputError(
                f"{override.input_line}: a range is for a search; add hydra/sweeper=optuna"
            )
        else:
            values = [override.get_value_element_as_str()]
        choices[key] = [f"{key}={value}" for value in values]
    return [list(overrides) for overrides in itertools.product(*choices.values())]


def compose_cells(config: DictConfig) -> Iterator[tuple[list[str], DictConfig]]:
    """Compose every cell of a grid; Hydra has to be initialised.

    Args:
        config: The composed configuration of the whole, with its `hydra` node.

    Yields:
        A cell's overrides and its configuration.
    """
    loader = CellLoader(GlobalHydra.instance().config_loader())
    told = [*config.hydra.overrides.hydra, *config.hydra.overrides.task]
    for overrides in expand(config):
        composed = loader.load_sweep_config(config, overrides)
        check_trust(composed, told)
        yield overrides, composed


def split_override(override: str) -> tuple[str, str]:
    """Key and value of `key=value`."""
    key, _, value = override.partition("=")
    return key, value
