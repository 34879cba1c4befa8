"""Cells whose times are taken, each trained in a process of its own.

What a process happens to get, such as where its memory lies, is the same for all that it trains:
only other processes are independent of it.
"""

from __future__ import annotations

import multiprocessing
from pathlib import Path

from rich.console import Console

from optsweep import interrupts
from optsweep.cli.jobs import Job, find_or_train
from optsweep.cli.mistakes import in_one_line
from optsweep.config.checks import InputError
from optsweep.config.schema import Config


def train_apart(config: Config, directory: Path) -> None:
    """Train a cell in a new process, and wait for it.

    Raises:
        InputError: If the process ended by a mistake, of which it has told.
    """
    process = multiprocessing.get_context("spawn").Process(target=_train, args=(config, directory))
    process.start()
    process.join()
    if process.exitcode:
        raise InputError(f"{directory.name}: its process ended with exit code {process.exitcode}")


def _train(config: Config, directory: Path) -> None:
    with interrupts.handled_in_worker(), in_one_line():
        console = Console(highlight=False, soft_wrap=True)
        find_or_train(Job(config, directory, rerun=False, composed={}), console)
