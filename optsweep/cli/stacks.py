"""The cells of a grid that are trained as one stack: which they are, and what becomes of them.

A stack is a faster way to the same records. Whatever keeps a cell from having one by it, a mistake
in it or another process that is at it, leaves the cell to be trained by itself, as it is told then.
"""

from __future__ import annotations

import contextlib
import functools
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from hydra.plugins.launcher import Launcher
from hydra.types import TaskFunction
from rich.console import Console

from optsweep import interrupts, runs
from optsweep.cli import composition
from optsweep.cli.cell_log import logged
from optsweep.cli.jobs import Job, described, job_of, shown
from optsweep.cli.mistakes import Failure
from optsweep.cli.progress import EpochDisplay, show_stack
from optsweep.cli.validation import CheckedCell
from optsweep.config.checks import InputError
from optsweep.liveness import Occupied, alone_in

if TYPE_CHECKING:
    from optsweep.training.plan import Plan


def train_stacks(
    cells: Sequence[CheckedCell],
    mode: str,
    folder: Path,
    make_launcher: Callable[[TaskFunction], Launcher],
) -> list[CheckedCell]:
    """Train together what can be one stack, and is faster so.

    With the compiled engine nothing is: it has no stacks, since its threads train each seed by
    itself with all that it reads in their caches.

    Args:
        cells: Of a grid, all that have still to be trained.
        mode: auto, on (also where it is not known to be faster) or off.
        folder: Of the cells' directories.
        make_launcher: See `train_grid`.

    Returns:
        The cells that are left, to be trained one by one.
    """
    if mode == "off":
        return [*cells]
    console = Console(highlight=False, soft_wrap=True)
    stacks = _stacks(cells, mode, folder, console)
    done: list[str] = []
    for stack in stacks:
        first = len(done)
        launcher = make_launcher(job_of)  # so that a cell's record tells what it tells by itself
        launched = launcher.launch([cell.overrides for cell in stack], initial_job_idx=first)
        jobs: list[Job] = [each.return_value for each in launched]
        console.print(f"\ncells {first + 1} to {first + len(stack)} of {len(cells)}")
        done += [job.directory.name for job in train_stack(jobs, console)]
    return [cell for cell in cells if cell.name not in done]


def train_stack(jobs: Sequence[Job], console: Console) -> list[Job]:
    """Train cells as one stack; if it fails, its halves.

    Those that another process is training are left out: whoever waits for several cells may wait
    for one who waits for him.

    Args:
        jobs: Of cells that can be one stack.
        console: Where to tell of it.

    Returns:
        Those that were trained.
    """
    with contextlib.ExitStack() as claims:
        waiting = [job for job in jobs if _is_to_be_trained(job, claims)]
        if len(waiting) < 2:
            return []
        try:
            with interrupts.as_interrupt():
                return _trained(waiting, console)
        except Exception as error:
            parts = "its halves are" if len(waiting) > 2 else "they are"
            told = f"the stack of {len(waiting)} cells failed ({Failure.of(error).reason})"
            console.print(f"{told}; {parts} trained by themselves")
    half = (len(waiting) + 1) // 2
    return train_stack(waiting[:half], console) + train_stack(waiting[half:], console)


def _stacks(
    cells: Sequence[CheckedCell], mode: str, folder: Path, console: Console
) -> list[list[CheckedCell]]:
    """The stacks of several cells; a cell with a checkpoint goes on by itself."""
    from optsweep.training.stacking import free_memory, pays, stacks_of, why_alone  # noqa: PLC0415

    plans = {cell.name: composition.plan(cell.config) for cell in cells}
    reasons = {why_alone(plan) for plan in plans.values()}
    if mode == "on" and "" not in reasons:
        console.print(f"no cells are stacked: {'; '.join(sorted(reasons))}")
    wanted = [
        plan
        for name, plan in plans.items()
        if (mode == "on" or pays(plan)) and not (folder / name / runs.CHECKPOINT_FILE).exists()
    ]
    of_plan = {id(plans[cell.name]): cell for cell in cells}
    stacks = [stack for stack in stacks_of(wanted, free_memory) if len(stack) > 1]
    return [[of_plan[id(plan)] for plan in stack] for stack in stacks]


def _is_to_be_trained(job: Job, claims: contextlib.ExitStack) -> bool:
    """Keep others out of a cell's directory until `claims` are over.

    Not if one is in it, has trained the cell by now, or it cannot be used: the cell that is left
    alone tells of that.
    """

    def say_nothing(line: str) -> None:
        del line

    try:
        claims.enter_context(alone_in(job.directory, say_nothing, job.patience, waits=False))
        return job.result() is None
    except (Occupied, InputError, OSError):
        return False


def _trained(jobs: Sequence[Job], console: Console) -> list[Job]:
    """Train claimed cells; those whose results could be written."""
    from optsweep.training.stacking import train_cells  # noqa: PLC0415

    plans = [composition.plan(job.config) for job in jobs]
    terminal = Console(file=sys.stdout, highlight=False, soft_wrap=True)
    with logged(*(job.directory / runs.LOG_FILE for job in jobs)) as logs:
        console.print(_told_of(plans))
        owns = [Console(file=log, highlight=False, soft_wrap=True) for log in logs]
        for own, plan in zip(owns, plans, strict=True):
            own.print(described(plan))
        for warning in dict.fromkeys(each for plan in plans for each in plan.warnings):
            print(f"optsweep: warning: {warning}", file=sys.stderr)
        replaces = [job.begin(console.print) for job in jobs]
        num_epochs = plans[0].config.trainer.epochs
        apart = [EpochDisplay(own, num_epochs) for own in owns]
        with EpochDisplay(terminal, num_epochs) as together:
            show = functools.partial(show_stack, together, apart)
            records = train_cells(plans, show, console.print)
        written = []
        for job, record, is_other, own in zip(jobs, records, replaces, owns, strict=True):
            line = f"results: {shown(job.directory)}"
            try:
                with interrupts.as_interrupt():
                    job.keep(record, is_other)
                written.append(job)
            except Exception as error:
                line = f"not kept ({Failure.of(error).reason}); this cell is trained by itself"
            for each in (terminal, own):
                each.print(line)
        return written


def _told_of(plans: Sequence[Plan]) -> str:
    """A line that says how many cells are a stack, and how it is trained."""
    num_networks = sum(plan.config.num_seeds for plan in plans)
    how = f"engine: {plans[0].engine}, device: {plans[0].work.device}"
    return f"one stack of {len(plans)} cells, {num_networks} networks, {how}"
