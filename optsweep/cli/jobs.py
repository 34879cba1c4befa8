"""Jobs: each a cell that shall have a result, found in its directory or trained."""

from __future__ import annotations

import functools
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig, OmegaConf

from optsweep import interrupts, runs
from optsweep.cli import composition
from optsweep.cli.cell_log import logged
from optsweep.cli.pruning import PrunedError, reported
from optsweep.config import identity
from optsweep.liveness import STALE_SECONDS, alone_in
from optsweep.provenance import by_other_code

if TYPE_CHECKING:
    from rich.console import Console

    from optsweep.cli.progress import EpochDisplay
    from optsweep.config.schema import Config
    from optsweep.training.cell import Record
    from optsweep.training.loop import Epoch
    from optsweep.training.plan import Plan


@dataclass(frozen=True)
class Job:
    """A cell that shall have a result.

    Attributes:
        config: Of the cell.
        directory: Of the cell.
        rerun: See `runs.finished`.
        composed: Texts that tell what it was composed from, by name of a file.
        patience: Seconds after which another process that shows no life is taken for dead.
        listener: What is told of every epoch, from what shows it.
    """

    config: Config
    directory: Path
    rerun: bool | str
    composed: Mapping[str, str]
    patience: float = STALE_SECONDS
    listener: Callable[[EpochDisplay], Callable[[Epoch], None]] = lambda display: display

    def result(self) -> dict[str, Any] | None:
        """What it is done with, unless it is to be trained."""
        return runs.finished(self.directory, self.config, self.rerun)

    def begin(self, say: Callable[[str], None]) -> bool:
        """Make its directory ready; to be called within its claim, before it is trained.

        Returns:
            Whether another record stands there, which is to be replaced.
        """
        if line := runs.set_aside(self.directory):
            say(line)
        standing = runs.read_result(self.directory)
        if not self.rerun and standing is not None:
            say(f"done before, but without its weights: {shown(self.directory)}")
        runs.start(self.directory, self.config, self.composed)
        return standing is not None

    def keep(self, record: Record, replaces: bool) -> None:
        """Write what was trained; what `begin` has said tells whether it replaces a record."""
        # Taken for dead by another process, it may have been made up for by now.
        if replaces or runs.finished(self.directory, self.config) is None:
            parts = record.history, record.result, record.gradients
            runs.write(self.directory, *parts, self.config, self.composed)


def job_of(composed: DictConfig) -> Job:
    """The job that Hydra runs, from what it composed.

    Raises:
        InputError: If a key or a value cannot be used.
    """
    node = HydraConfig.get()
    return Job(
        composition.to_config(composed),
        Path(node.runtime.output_dir),
        composed.rerun,
        _composed_texts(composed),
        node.sweeper.get("stale_seconds") or STALE_SECONDS,
        functools.partial(reported, composed),
    )


def find_or_train(job: Job, console: Console) -> dict[str, Any]:
    """The result of a cell, which is trained if it has none.

    Returns:
        What `result.json` has; of a cell that a search's pruner has ended, its objective alone.

    Raises:
        InputError: For every mistake of the user's.
    """
    directory = job.directory
    result = job.result()
    if result is not None:
        runs.tidy(directory)
        other = by_other_code(result, job.config)
        by, again = (f" by {other}", "rerun=stale") if other else ("", "rerun=true")
        console.print(f"done before{by}: {shown(directory)} ({again} trains it again)")
        return result
    with alone_in(directory, console.print, job.patience), logged(directory / runs.LOG_FILE):
        result = job.result()
        if result is None:
            try:
                with interrupts.as_interrupt():
                    result = _trained(console, job)
            except PrunedError as pruned:
                console.print(str(pruned))
                return {"objective": pruned.objective}
            console.print(f"results: {shown(directory)}")
    return result


def show_result(result: Mapping[str, Any], directory: Path, console: Console) -> None:
    """Show a table of a cell's result, and draw its curves."""
    from optsweep.cli.progress import result_table  # noqa: PLC0415

    curves = directory / runs.CURVES_FILE
    console.print(result_table(result))
    if not curves.exists():
        from optsweep.report.curves import draw_curves  # noqa: PLC0415

        draw_curves(directory, curves)
    console.print(f"curves: {shown(curves)}")


def described(plan: Plan) -> str:
    """A line that says what a cell is and how it is trained."""
    config = plan.config
    seeds = f"{config.num_seeds} seed{'s' if config.num_seeds > 1 else ''}"
    about = f"{seeds}, engine: {plan.engine}, device: {plan.work.device}"
    about += f", {plan.note}" if plan.note else ""
    return f"{identity.label(config)}: {about}"


def shown(path: Path) -> Path:
    """A path from here if it is below, else the whole of it."""
    return path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path


def _composed_texts(composed: DictConfig) -> dict[str, str]:
    """What Hydra keeps of a job by itself, but of those alone that train something."""
    whole: Any = HydraConfig.instance().cfg
    parts = {
        "config.yaml": composed,
        "hydra.yaml": whole,
        "overrides.yaml": OmegaConf.select(whole, "hydra.overrides.task"),
    }
    return {name: OmegaConf.to_yaml(part) for name, part in parts.items()}


def _trained(console: Console, job: Job) -> dict[str, Any]:
    replaces = job.begin(console.print)
    record = _train_cell(console, job)
    job.keep(record, replaces)
    return record.result


def _train_cell(console: Console, job: Job) -> Record:
    from optsweep.cli.progress import EpochDisplay  # noqa: PLC0415
    from optsweep.training.cell import train_cell  # noqa: PLC0415

    plan = composition.plan(job.config)
    for warning in plan.warnings:
        print(f"optsweep: warning: {warning}", file=sys.stderr)
    console.print(described(plan))
    with EpochDisplay(console, job.config.trainer.epochs) as display:
        return train_cell(plan, job.listener(display), job.directory, console.print)
