"""The cells of a grid, composed without being trained."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import hydra
from hydra.core.global_hydra import GlobalHydra
from hydra.core.override_parser.overrides_parser import OverridesParser
from omegaconf import DictConfig, ListConfig

from optsweep import runs
from optsweep.cli.cell_loader import CellLoader, folders_of
from optsweep.cli.composition import (
    compose_whole,
    config_dir,
    diagnosis_of,
    refuse_hydra,
    to_config,
)
from optsweep.cli.overrides import rewrite, settings_of, shown, translate
from optsweep.cli.trust import check_trust
from optsweep.config import identity
from optsweep.config.checks import InputError, as_text
from optsweep.config.schema import Config
from optsweep.diagnosis.settings import Settings


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
        rerun: Whether cells are trained that have been before, see `runs.finished`.
        cells: In the order of training; the same cell may be there twice.
        diagnosis: How each is diagnosed when it is trained; None if it is not.
    """

    folder: Path
    cells_folder: Path
    rerun: bool | str
    cells: tuple[Cell, ...]
    diagnosis: Settings | None = None


def plan_grid(arguments: Sequence[str]) -> Grid:
    """Compose what `python -m optsweep ARGUMENTS` would train, without checking or training it.

    Raises:
        InputError: If a key or a value cannot be used.
    """
    with hydra.initialize_config_dir(str(config_dir())):
        config = compose_whole(rewrite(list(arguments), config_dir()))
        cells = tuple(cells_of(config))
    sweep_dir = Path(config.hydra.sweep.dir)
    folder, cells_folder = sweep_dir / str(config.name), sweep_dir / runs.CELLS_FOLDER
    return Grid(folder, cells_folder, config.rerun, cells, diagnosis_of(config))


def cells_of(config: DictConfig) -> Iterator[Cell]:
    """The cells of a grid; Hydra has to be initialised.

    Args:
        config: The composed configuration of the whole, with its `hydra` node.
    """
    for of_cell, composed in compose_cells(config):
        cell = to_config(composed)
        yield Cell(identity.cell_name(cell), " ".join(of_cell), cell)


def sweep_overrides(config: DictConfig, extra: Sequence[str] = ()) -> list[str]:
    """The overrides of a sweep but its pairs: those of its file that nobody decides, then the rest.

    Args:
        config: The composed configuration of the whole, with its `hydra` node.
        extra: Overrides that count as the command line's do, and stand before them.
    """
    told = [shown(text) for text in [*extra, *config.hydra.overrides.task]]
    decided, folders = _decided(config, extra), folders_of(config)
    params = config.hydra.sweeper.params or {}
    texts = [f"{key}={_listed(value)}" for key, value in params.items() if "," not in str(key)]
    kept = [text for text in texts if next(iter(settings_of(text, folders))) not in decided]
    return [each for text in kept for each in translate(text, folders)] + told


def pairs(config: DictConfig, extra: Sequence[str] = ()) -> dict[str, list[list[str]]]:
    """Keys that vary together: `key,key` -> the overrides of each of their sets of values.

    A value may be several, in quotes: `optimizer,optimizer.lr=[sgd,'0.1,0.3'],[adam,0.001]` has
    three sets; null leaves the key as it is. What the command line decides is left out of those
    of a file.

    Args:
        config: See `sweep_overrides`.
        extra: See `sweep_overrides`.

    Raises:
        InputError: If a list has not one value for each key, or a value is a range.
    """
    decided, folders = _decided(config, extra), folders_of(config)
    found = {}
    for given, rows in (config.hydra.sweeper.params or {}).items():
        if "," in str(given):
            keys = [key.strip() for key in str(given).split(",")]
            free = [k for k in keys if next(iter(settings_of(f"{k}=", folders))) not in decided]
            if free:
                found[",".join(free)] = _sets(keys, rows, free, folders)
    for node in config.hydra.sweeper.pairs or ():
        found[",".join(node["keys"])] = _sets(node["keys"], node["values"], node["keys"], folders)
    return found


def expand(config: DictConfig) -> list[list[str]]:
    """The overrides of every cell of a grid, in the order of training.

    Args:
        config: The composed configuration of the whole, with its `hydra` node.

    Raises:
        InputError: If a value is a range, or a pattern that no option has.
    """
    choices: dict[str, list[list[str]]] = dict(pairs(config))
    for text in sweep_overrides(config):
        key, values = _each(text)
        choices[key] = [[value] for value in values]
    for key in ",".join(choices).split(","):
        refuse_hydra(key)
    return [list(itertools.chain(*cell)) for cell in itertools.product(*choices.values())]


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


def _decided(config: DictConfig, extra: Sequence[str]) -> set[str]:
    """The settings that the command line decides."""
    keys = [f"{key}=" for node in config.hydra.sweeper.pairs or () for key in node["keys"]]
    told = [*extra, *config.hydra.overrides.task, *keys]
    return {setting for text in told for setting in settings_of(text, folders_of(config))}


def _sets(
    keys: Sequence[str], rows: Any, kept: Sequence[str], folders: Sequence[Path]
) -> list[list[str]]:
    """The overrides that each row of values amounts to, each set once."""
    sets = []
    for row in rows:
        if not isinstance(row, ListConfig) or len(row) != len(keys):
            raise InputError(
                f"{','.join(keys)}={as_text(rows)}: expected lists of {len(keys)} values such as "
                f"[{','.join('x' * len(keys))}]"
            )
        texts = [
            text
            for key, value in zip(keys, row, strict=True)
            if key in kept and value is not None
            for text in translate(f"{key}={_text(value)}", folders)
        ]
        sets += [list(each) for each in itertools.product(*(_each(text)[1] for text in texts))]
    return [each for index, each in enumerate(sets) if each not in sets[:index]]


def _listed(value: Any) -> str:
    """What a file says of a key, as the command line has it: a text, or a list of values."""
    return ",".join(map(_text, value)) if isinstance(value, ListConfig) else _text(value)


def _text(value: Any) -> str:
    """A value of a list as the command line has it."""
    if isinstance(value, bool) or value is None:
        return {True: "true", False: "false", None: "null"}[value]
    return as_text(value)


def _each(text: str) -> tuple[str, list[str]]:
    """The key of an override, and one override for each of its values.

    Raises:
        InputError: If it is a range, or a pattern that no option has.
    """
    # The loader tells which options a pattern such as glob(a*) means.
    parser = OverridesParser.create(GlobalHydra.instance().config_loader())
    (override,) = parser.parse_overrides([text])
    key = override.get_key_element()
    if not override.is_sweep_override():
        return key, [f"{key}={override.get_value_element_as_str()}"]
    if not override.is_discrete_sweep():
        raise InputError(f"{text}: a range is for a search; add hydra/sweeper=optuna")
    values = [f"{key}={value}" for value in override.sweep_string_iterator()]
    if not values:
        raise InputError(f"{text}: no option has such a name")
    return key, values


def split_override(override: str) -> tuple[str, str]:
    """Key and value of `key=value`."""
    key, _, value = override.partition("=")
    return key, value
