"""The program: rewrite the overrides, let Hydra compose, train what it composed."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence

import hydra
from hydra.core.hydra_config import HydraConfig
from hydra.core.plugins import Plugins
from hydra.main import get_args_parser
from hydra.types import RunMode
from omegaconf import DictConfig

from optsweep import interrupts
from optsweep.cli import composition
from optsweep.cli.jobs import find_or_train, job_of, show_result
from optsweep.cli.mistakes import (
    FULL_ERROR,
    CellsFailed,
    exit_with,
    in_one_line,
    is_mistake,
    one_line,
)
from optsweep.cli.output import make_sturdy
from optsweep.cli.overrides import rewrite
from optsweep.cli.sweepers import GridSweeper, SearchSweeper
from optsweep.cli.trust import PARTS, check_command_line
from optsweep.config.checks import InputError
from optsweep.liveness import alone_in
from optsweep.surroundings import CORES_VARIABLE, num_cores

# Flags of ours: for the tracebacks of mistakes, and for what would be trained.
_DEBUG, _DRY_RUN = "--debug", "--dry-run"
# Flags after which Hydra only shows something.
_INFORMATION = {"-h", "--help", "--hydra-help", "--version", "-sc", "--shell-completion"}


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line: exit code 2 and one line for a user's mistake, 1 for a bug.

    Args:
        arguments: In place of those that the program was started with.
    """
    given = sys.argv[1:] if arguments is None else list(arguments)
    asked = os.environ.get(FULL_ERROR)
    debug = _DEBUG in given or asked == "1"
    try:
        with in_one_line(debug):
            os.environ[FULL_ERROR] = "1"  # let Hydra raise what it would print
            _run([each for each in given if each not in (_DEBUG, _DRY_RUN)], _DRY_RUN in given)
    except CellsFailed as failed:
        sys.exit(failed.tell(debug))
    finally:
        if asked is None:
            del os.environ[FULL_ERROR]
        else:
            os.environ[FULL_ERROR] = asked


def _run(given: list[str], dry: bool) -> None:
    sys.argv[1:] = rewrite(given, composition.config_dir())
    for sweeper in (GridSweeper, SearchSweeper):
        Plugins.instance().register(sweeper)
    if not _INFORMATION.intersection(given):
        flags = _flags(sys.argv[1:])
        if flags.experimental_rerun is not None:
            raise InputError(
                "--experimental-rerun: optsweep repeat DIR trains a cell again from its folder"
            )
        composed = check_command_line(sys.argv[1:])
        os.environ.setdefault(CORES_VARIABLE, str(num_cores()))  # joblib looks at less than we do
        is_sweep = flags.multirun or composed.hydra.mode == RunMode.MULTIRUN
        shows = flags.cfg is not None or flags.info is not None
        if dry or (flags.cfg is not None and is_sweep):
            from optsweep.cli.dry_run import print_configurations, show  # noqa: PLC0415

            return show(composed, is_sweep) if dry else print_configurations(composed, flags.cfg)
        if composed.hydra.launcher._target_.endswith(".ClusterLauncher"):
            _register_cluster()
        if not shows and not is_sweep:
            from optsweep.cli.validation import check_run  # noqa: PLC0415 (of which help has no need)

            check_run(composed)  # before Hydra makes its directory
    try:
        _hydra_main()
        return
    except _PastHydra as carrier:
        error = carrier.error
    raise error


def _flags(arguments: Sequence[str]) -> argparse.Namespace:
    """What Hydra's own parser reads, whose mistakes are one line here."""
    parser = get_args_parser()
    parser.error = lambda message: exit_with(  # type: ignore[method-assign]
        InputError(f"{message}; --help and --hydra-help tell of what there is")
    )
    return parser.parse_intermixed_args(arguments)


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
        InputError: For every mistake of the user's. What is something else is a bug: only here,
            where it was raised, can the one be told from the other.
    """
    make_sturdy()  # this may be a process of its own
    with interrupts.handled_in_worker():
        return _told_from_bugs(composed)


def _told_from_bugs(composed: DictConfig) -> float:
    try:
        with interrupts.as_interrupt():
            return _objective(composed)
    except Exception as error:
        if HydraConfig.get().mode == RunMode.RUN:
            raise _PastHydra(error) from error
        if is_mistake(error) and not isinstance(error, InputError):
            raise InputError(one_line(error)) from error
        raise


class _PastHydra(BaseException):
    """Carries what ended a run past Hydra, which would say something of its own."""

    def __init__(self, error: Exception) -> None:
        super().__init__(error)
        self.error = error


def _objective(composed: DictConfig) -> float:
    from rich.console import Console  # noqa: PLC0415

    console = Console(highlight=False, soft_wrap=True)
    job = job_of(composed)
    result = find_or_train(job, console)
    settings = composition.diagnosis_of(composed)
    if settings is not None and "status" in result:  # not of a cell that a pruner has ended
        from optsweep.cli.diagnose import diagnose  # noqa: PLC0415

        with alone_in(job.directory, console.print, job.patience), interrupts.as_interrupt():
            diagnose(job.directory, settings, console)
    if HydraConfig.get().mode == RunMode.RUN:
        show_result(result, job.directory, console)
    return result["objective"]


_hydra_main = hydra.main(
    config_path=str(composition.config_dir()),
    config_name="config",
    # What a configuration may name for Hydra to call; cells name torch and optsweep alone.
    execution_whitelist=[path for paths in PARTS.values() for path in paths],
)(run_job)
