"""The command line: Hydra composes, this module validates and calls plain functions.

It imports neither torch nor pandas before a cell has to be trained, so that `--help`,
shell completion and finished cells answer at once.
"""

from __future__ import annotations

import itertools
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

import hydra
from hydra.core.hydra_config import HydraConfig
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import HydraException, MissingConfigException
from hydra.experimental.callback import Callback
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from optsweep import naming, runs
from optsweep.config import Config, InputError, nearest
from optsweep.overrides import VALUE_KEYS, options, rewrite

if TYPE_CHECKING:
    from rich.console import Console

    from optsweep.cell import Plan

CELLS_FOLDER = Path("multirun/cells")
# What a user can put right: told in one line, exit code 2.
_MISTAKES = (InputError, HydraException, OmegaConfBaseException, OSError)


def config_dir() -> Path:
    """The folder of the configuration: in an installed package, or in a checkout."""
    package = Path(__file__).resolve().parent
    return next(
        folder for folder in (package / "conf", package.parent / "conf") if folder.is_dir()
    )


def main() -> None:
    """Run the command line: exit code 2 and one line for a user's mistake."""
    # Let Hydra raise what it would print, so that it can be said in one line here.
    os.environ.setdefault("HYDRA_FULL_ERROR", "1")
    try:
        sys.argv[1:] = rewrite(sys.argv[1:], config_dir())
        _hydra_main()
    except KeyboardInterrupt:
        print("optsweep: interrupted; the same command continues", file=sys.stderr)
        sys.exit(130)
    except _MISTAKES as error:
        _exit(_one_line(error))


def to_config(composed: DictConfig) -> Config:
    """Validate a composed configuration.

    Raises:
        InputError: If a key or a value cannot be used.
    """
    values = {
        key: OmegaConf.to_container(node, resolve=True) if OmegaConf.is_config(node) else node
        for key, node in composed.items()
        if key not in ("hydra", "rerun", "name")
    }
    if not isinstance(composed.rerun, bool):
        raise InputError(f"rerun={composed.rerun}: expected true or false")
    return Config.from_mapping(values)


def train(composed: DictConfig) -> float:
    """Train one cell, or find it done, and return its objective: a finite number.

    Raises:
        InputError: If the configuration, the data or the directory cannot be used.
    """
    config = to_config(composed)
    job = HydraConfig.get()
    directory = Path(job.runtime.output_dir)
    result = None if composed.rerun else runs.finished(directory, config)
    console = _console()
    shown = _shown(directory)
    if result is not None:
        console.print(f"done before: {shown} (rerun=true trains it again)", soft_wrap=True)
        _print_result(console, result)
        return result["objective"]

    from optsweep.cell import train_cell  # noqa: PLC0415
    from optsweep.progress import EpochDisplay  # noqa: PLC0415

    plan = _plan(config)
    for warning in plan.warnings:
        print(f"optsweep: warning: {warning}", file=sys.stderr)
    seeds = f"{config.num_seeds} seed{'s' if config.num_seeds > 1 else ''}"
    console.print(
        f"{naming.label(config)}: {seeds}, engine: {plan.engine}, device: {plan.device}",
        soft_wrap=True,
    )
    runs.start(directory, config)
    with EpochDisplay(console, config.trainer.epochs) as display:
        record = train_cell(plan, display)
    runs.write(directory, record.history, record.result)
    _print_result(console, record.result)
    if job.mode == RunMode.RUN:
        from optsweep.analysis.curves import draw_curves  # noqa: PLC0415

        draw_curves(directory)
        console.print(f"curves: {shown / 'curves.png'}", soft_wrap=True)
    console.print(f"results: {shown}", soft_wrap=True)
    return record.result["objective"]


class Validate(Callback):
    """Checks every cell of a run or sweep before the first one trains.

    Hydra turns an exception of a callback into a warning, so a mistake ends the program here.
    """

    def __init__(self) -> None:
        """Start with no cells."""
        self.cells: list[str] = []

    def on_run_start(self, config: DictConfig, **kwargs: Any) -> None:
        """Check the one cell before Hydra makes its directory."""
        try:
            _check(to_config(config), Path(config.hydra.run.dir), config.rerun)
        except _MISTAKES as error:
            _exit(_one_line(error))

    def on_multirun_start(self, config: DictConfig, **kwargs: Any) -> None:
        """Check all cells of a grid."""
        if not config.hydra.sweeper._target_.endswith(".BasicSweeper"):
            return  # a search chooses its cells as it goes
        try:
            rows = _checked_grid(config, kwargs["config_name"])
        except _MISTAKES as error:
            _exit(_one_line(error))
        self.cells = [row["cell"] for row in rows]

    def on_job_start(self, config: DictConfig, **kwargs: Any) -> None:
        """Say which cell of how many comes now."""
        if self.cells and config.hydra.mode == RunMode.MULTIRUN:
            _console().print(f"\ncell {config.hydra.job.num + 1} of {len(self.cells)}")

    def on_multirun_end(self, config: DictConfig, **kwargs: Any) -> None:
        """Show all cells of a grid side by side."""
        if self.cells:
            from optsweep.progress import sweep_table  # noqa: PLC0415

            folder = Path(config.hydra.sweep.dir) / "cells"
            results = {name: runs.read_result(folder / name) for name in self.cells}
            _console().print("", sweep_table(results))


def _checked_grid(config: DictConfig, config_name: str) -> list[dict[str, str]]:
    """Check every cell of a grid and list them in the sweep's folder."""
    sweep_dir = Path(config.hydra.sweep.dir)
    rows = []
    for overrides in _grid(config):
        composed = hydra.compose(config_name, overrides)
        cell = to_config(composed)
        directory = sweep_dir / "cells" / naming.cell_name(cell)
        _check(cell, directory, composed.rerun)
        rows.append({"cell": directory.name, "overrides": " ".join(overrides)})
    folder = sweep_dir / str(config.name)
    folder.mkdir(parents=True, exist_ok=True)
    runs.write_atomically(folder / "cells.csv", runs.to_csv(("cell", "overrides"), rows))
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


def _check(config: Config, directory: Path, rerun: bool) -> None:
    if rerun or runs.finished(directory, config) is None:
        _plan(config)


_plans: dict[str, Plan] = {}


def _plan(config: Config) -> Plan:
    """What `plan_cell` gives, made once for each configuration."""
    from optsweep.cell import plan_cell  # noqa: PLC0415

    key = naming.config_hash(config)
    if key not in _plans:
        _plans[key] = plan_cell(config)
    return _plans[key]


def _cell_name(*, _root_: DictConfig) -> str:
    return naming.cell_name(to_config(_root_))


def _cell_dir(*, _root_: DictConfig) -> str:
    return str(CELLS_FOLDER / _cell_name(_root_=_root_))


OmegaConf.register_resolver("cell_name", _cell_name, replace=True)
OmegaConf.register_resolver("cell_dir", _cell_dir, replace=True)

_hydra_main = hydra.main(
    config_path=str(config_dir()),
    config_name="config",
    execution_whitelist=["optsweep.*", "hydra.*", "hydra_plugins.*", "logging.*"],
)(train)


def _console() -> Console:
    from rich.console import Console  # noqa: PLC0415

    return Console(highlight=False)


def _print_result(console: Console, result: dict[str, Any]) -> None:
    from optsweep.progress import result_table  # noqa: PLC0415

    console.print(result_table(result))


def _shown(path: Path) -> Path:
    """A path as short as it can be said from here."""
    return Path(os.path.relpath(path)) if path.is_relative_to(Path.cwd()) else path


def _one_line(error: BaseException) -> str:
    """What went wrong, in one line, from the innermost cause that a user can act on."""
    causes = [error]
    while (cause := causes[-1].__cause__ or causes[-1].__context__) and cause not in causes:
        causes.append(cause)
    for cause in causes:
        if isinstance(cause, InputError):
            return str(cause)
    if isinstance(error, MissingConfigException):
        return _missing_option(error)
    if isinstance(error, OSError):
        return f"{error.filename or 'output'}: {error.strerror or error}"
    innermost = next((e for e in reversed(causes) if isinstance(e, OmegaConfBaseException)), error)
    text = str(error).splitlines()[0] if str(error) else ""
    return _unknown_key(text or str(innermost).splitlines()[0])


def _missing_option(error: MissingConfigException) -> str:
    """A misspelt option of a group, with the nearest valid one."""
    group, _, option = str(error.missing_cfg_file).rpartition("/")
    names = list(error.options or options(group, config_dir()))
    if not group or not names:
        return str(error).splitlines()[0]
    number = ", or a number" if group in VALUE_KEYS else ""
    return f"{group}={option}: there is no such option; {nearest(option, names)}{number}"


def _unknown_key(text: str) -> str:
    return text


def _exit(message: str) -> NoReturn:
    print(f"optsweep: error: {message}", file=sys.stderr)
    sys.exit(2)
