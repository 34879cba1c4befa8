"""What a command would train, which of it is done, and how long the rest will take.

Nothing is written, and no data are loaded but those whose shape a configuration has to know.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import hydra
import optuna
import yaml
from hydra.core.global_hydra import GlobalHydra
from omegaconf import DictConfig, OmegaConf
from optuna.distributions import (
    BaseDistribution,
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
)
from rich.console import Console
from rich.table import Table

from optsweep import runs
from optsweep.cli.cell_loader import CellLoader
from optsweep.cli.composition import check, config_dir, to_config
from optsweep.cli.effects import check_effects, repetitions
from optsweep.cli.grids import Cell, cells_of, compose_cells
from optsweep.cli.progress import distinct_words
from optsweep.cli.time_left import Clock, in_words
from optsweep.cli.validation import check_run
from optsweep.config.checks import InputError
from optsweep.config.schema import Config

_NUM_MEASURED = 200  # cells of other sweeps that are looked at; the first ones found


def show(config: DictConfig, is_sweep: bool) -> None:
    """Print what a command would train.

    Args:
        config: The composed configuration of the whole, with its `hydra` node.
        is_sweep: Whether the command is one.

    Raises:
        InputError: If something of it cannot be trained.
    """
    console = Console(highlight=False, soft_wrap=True)
    if not is_sweep:
        check_run(config)
        directory = Path(config.hydra.run.dir)
        single = Cell(directory.name, "", to_config(config))
        _show_cells(console, [single], directory.parent, config.rerun)
        return
    with hydra.initialize_config_dir(str(config_dir())):
        if config.hydra.sweeper._target_.endswith(".SearchSweeper"):
            _show_search(console, config)
            return
        cells = list(cells_of(config))
        folder = Path(config.hydra.sweep.dir) / runs.CELLS_FOLDER
        for cell in cells:
            check(cell.config, folder / cell.name, config.rerun)
        check_effects(config, cells)
        if repeated := repetitions(cells):
            console.print(repeated)
    _show_cells(console, cells, folder, config.rerun)


def _show_cells(console: Console, cells: Sequence[Cell], folder: Path, rerun: bool | str) -> None:
    table = Table("cell", "folder", "state")
    for column in table.columns[:2]:
        column.overflow = "fold"
    waiting: dict[str, Cell] = {}
    names = distinct_words([cell.overrides.split() for cell in cells])
    for words, cell in zip(names, cells, strict=True):
        result = runs.finished(folder / cell.name, cell.config, rerun)
        if result is None:
            waiting.setdefault(cell.name, cell)
        state = "to train" if result is None else f"done, {result['objective']:.4f}"
        table.add_row(words, cell.name, state)
    console.print(table)
    num_cells = len({cell.name for cell in cells})
    done = num_cells - len(waiting)
    noun = "cell" if num_cells == 1 else "cells"
    console.print(f"{num_cells} {noun}, {done} done before; nothing is trained")
    if waiting:
        clock, basis = _clock(folder)
        seconds = clock.estimate(waiting.values())
        console.print(f"the others take {in_words(seconds)} ({basis})")


def _show_search(console: Console, config: DictConfig) -> None:
    """The space of each of a search's studies, its trials so far, and the time for the others."""
    from optsweep.cli.search import as_overrides, spaces_of  # noqa: PLC0415

    loader = CellLoader(GlobalHydra.instance().config_loader())
    folder = Path(config.hydra.sweep.dir) / runs.CELLS_FOLDER
    for variant, space in spaces_of(config).items():
        table = Table("key", "values", title=variant or str(config.name), title_justify="left")
        for key, values in space.dimensions.items():
            table.add_row(key, _in_words(values))
        console.print(table)
        cells = []
        for point in space.examples():
            overrides = as_overrides({**space.fixed, **point})
            cell = to_config(loader.load_sweep_config(config, overrides))
            cells.append(Cell("", " ".join(overrides), cell))
        finished = _num_finished(config, variant)
        left = max(0, config.hydra.sweeper.n_trials - finished)
        console.print(
            f"{config.hydra.sweeper.n_trials} trials, {finished} done before; nothing is trained"
        )
        if left:
            clock, basis = _clock(folder)
            seconds = clock.estimate(cells) / len(cells) * left
            console.print(f"the others take {in_words(seconds)} ({basis})")


def _in_words(values: BaseDistribution) -> str:
    """What a key may be: a list, or the ends of a range."""
    if isinstance(values, CategoricalDistribution):
        return ", ".join(map(str, values.choices))
    assert isinstance(values, (FloatDistribution, IntDistribution))
    step = f" in steps of {values.step:g}" if values.step and values.step != 1 else ""
    return f"{values.low:g} … {values.high:g}{', logarithmic' * values.log}{step}"


def _num_finished(config: DictConfig, variant: str) -> int:
    """Finished trials of a study; none if nobody has begun it."""
    from optsweep.cli.search_settings import study_name  # noqa: PLC0415
    from optsweep.search.integrity import damage_of_file, is_begun  # noqa: PLC0415
    from optsweep.search.storage import connect, storage_url  # noqa: PLC0415
    from optsweep.search.trials import FINISHED  # noqa: PLC0415

    folder = Path(config.hydra.sweep.dir) / str(config.name)
    given = config.hydra.sweeper.storage
    path = folder / runs.STUDY_FILE
    if given is None and (not path.exists() or damage_of_file(path) or not is_begun(path)):
        return 0  # to open it would make the file
    try:
        study = optuna.load_study(
            study_name=study_name(str(config.name), variant),
            storage=connect(storage_url(given, folder)),
        )
    except KeyError:
        return 0
    return sum(trial.state in FINISHED for trial in study.get_trials(deepcopy=False))


def _clock(folder: Path) -> tuple[Clock, str]:
    """A clock that has learnt from finished cells, and what its times are founded on."""
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
    basis = f"told from {num_measured} cells" if num_measured else "a guess for two cores"
    return clock, basis


def print_configurations(config: DictConfig, which: str) -> None:
    """What `--cfg` prints of a sweep: for `job`, the configuration of each of its cells."""
    if which == "hydra":
        print(OmegaConf.to_yaml(OmegaConf.create({"hydra": config.hydra})))
        return
    with hydra.initialize_config_dir(str(config_dir())):
        for overrides, composed in compose_cells(config):
            print(f"# {' '.join(overrides)}")
            hidden = () if which == "all" else ("hydra",)
            shown = OmegaConf.masked_copy(composed, [str(k) for k in composed if k not in hidden])
            print(OmegaConf.to_yaml(shown))
