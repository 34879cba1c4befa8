"""The program: rewrite the overrides, let Hydra compose, train what it composed."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import hydra
from hydra.core.hydra_config import HydraConfig
from hydra.core.plugins import Plugins
from hydra.types import RunMode
from omegaconf import DictConfig

from optsweep import runs
from optsweep.cli import composition
from optsweep.cli.mistakes import MISTAKES, exit_with, is_mistake
from optsweep.cli.overrides import rewrite
from optsweep.cli.pruning import PrunedError, reported
from optsweep.cli.sweepers import GridSweeper, SearchSweeper
from optsweep.cli.trust import PARTS, check_command_line
from optsweep.config import identity
from optsweep.config.checks import InputError
from optsweep.liveness import STALE_SECONDS, alone_in

if TYPE_CHECKING:
    from rich.console import Console

    from optsweep.config.schema import Config
    from optsweep.training.cell import Record


# Flags after which Hydra only shows something.
_INFORMATION = {"-h", "--help", "--hydra-help", "--version", "-sc", "--shell-completion"}


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line: exit code 2 and one line for a user's mistake.

    Args:
        arguments: In place of those that the program was started with.
    """
    # Let Hydra raise what it would print, so that it can be said in one line here.
    os.environ.setdefault("HYDRA_FULL_ERROR", "1")
    try:
        given = sys.argv[1:] if arguments is None else list(arguments)
        sys.argv[1:] = rewrite(given, composition.config_dir())
        for sweeper in (GridSweeper, SearchSweeper):
            Plugins.instance().register(sweeper)
        if not _INFORMATION.intersection(given):
            composed = check_command_line(sys.argv[1:])
            if composed.hydra.launcher._target_.endswith(".ClusterLauncher"):
                _register_cluster()
        _hydra_main()
    except KeyboardInterrupt:
        print("optsweep: interrupted; the same command continues", file=sys.stderr)
        sys.exit(130)
    except MISTAKES as error:
        exit_with(error)
    except ValueError as error:
        if not is_mistake(error):
            raise
        exit_with(error)


def _register_cluster() -> None:
    """Tell Hydra of the launcher for Slurm, which the command line or a file has chosen.

    Raises:
        InputError: If its extra is not installed.
    """
    try:
        from optsweep.cli.slurm import ClusterLauncher  # noqa: PLC0415
    except ModuleNotFoundError as error:
        raise InputError(
            "hydra/launcher=submitit_slurm: it is an extra; pip install 'optsweep[slurm]'"
        ) from error
    Plugins.instance().register(ClusterLauncher)


def run_job(composed: DictConfig) -> float:
    """Hydra's task: train one cell, or find it done; its objective is a finite number.

    Raises:
        InputError: In a sweep, if the data or the directory cannot be used.
    """
    try:
        return _objective(composed)
    except PrunedError as pruned:
        print(pruned)
        return pruned.objective
    except MISTAKES as error:
        if HydraConfig.get().mode == RunMode.MULTIRUN:
            raise  # Hydra tells which job it was
        exit_with(error)


def _objective(composed: DictConfig) -> float:
    from rich.console import Console  # noqa: PLC0415

    console = Console(highlight=False, soft_wrap=True)
    config = composition.to_config(composed)
    job = HydraConfig.get()
    directory = Path(job.runtime.output_dir)
    curves = directory / runs.CURVES_FILE
    result = None if composed.rerun else runs.finished(directory, config)
    if result is None:
        with alone_in(directory, console.print, job.sweeper.get("stale_seconds") or STALE_SECONDS):
            result = None if composed.rerun else runs.finished(directory, config)
            if result is None:
                curves.unlink(missing_ok=True)
                runs.start(directory, config)
                record = _train_cell(console, composed, config)
                # Taken for dead by another process, it may have been made up for by now.
                if composed.rerun or runs.finished(directory, config) is None:
                    runs.write(directory, record.history, record.result, record.gradients)
                result = record.result
                console.print(f"results: {_shown(directory)}")
    else:
        console.print(f"done before: {_shown(directory)} (rerun=true trains it again)")
    if job.mode == RunMode.RUN:
        from optsweep.cli.progress import result_table  # noqa: PLC0415

        console.print(result_table(result))
        if not curves.exists():
            from optsweep.report.curves import draw_curves  # noqa: PLC0415

            draw_curves(directory, curves)
        console.print(f"curves: {_shown(curves)}")
    return result["objective"]


def _train_cell(console: Console, composed: DictConfig, config: Config) -> Record:
    from optsweep.cli.progress import EpochDisplay  # noqa: PLC0415
    from optsweep.training.cell import train_cell  # noqa: PLC0415

    plan = composition.plan(config)
    for warning in plan.warnings:
        print(f"optsweep: warning: {warning}", file=sys.stderr)
    seeds = f"{config.num_seeds} seed{'s' if config.num_seeds > 1 else ''}"
    about = f"{seeds}, engine: {plan.engine}, device: {plan.work.device}"
    about += f", {plan.note}" if plan.note else ""
    console.print(f"{identity.label(config)}: {about}")
    with EpochDisplay(console, config.trainer.epochs) as display:
        return train_cell(plan, reported(composed, display))


def _shown(path: Path) -> Path:
    """A path from here if it is below, else the whole of it."""
    return path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path


_hydra_main = hydra.main(
    config_path=str(composition.config_dir()),
    config_name="config",
    # What a configuration may name for Hydra to call; cells name torch and optsweep alone.
    execution_whitelist=[path for paths in PARTS.values() for path in paths],
)(run_job)
