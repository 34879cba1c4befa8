"""What the loop of a lab report takes of time: measured elsewhere, kept beside the runs.

Three forms of one loop train the same network: `whole`, with torchvision's images one by one
through a DataLoader and a figure drawn anew after every fifty batches; `no plotting`; and `bare`,
which has neither, on images that are tensors already.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

import pandas as pd

from optsweep.config.checks import InputError
from optsweep.report.collection import MOST_OTHER_CORES, Collection, Setting
from optsweep.runs import LOOPS_FILE, to_csv, write_atomically

WHOLE, NO_PLOTTING, BARE = LOOPS = ("whole", "no plotting", "bare")
_COLUMNS = ("repeat", "loop", "batch_size", "seconds", "other_cores")


class Timing(NamedTuple):
    """Seconds of an epoch of one loop, in one of several processes.

    Attributes:
        repeat: Which process.
        loop: One of `LOOPS`.
        batch_size: Images of a step.
        seconds: Wall time, evaluation included.
        other_cores: Cores that others kept busy meanwhile; None: unknown.
    """

    repeat: int
    loop: str
    batch_size: int
    seconds: float
    other_cores: float | None = None


def keep_timings(folder: Path, timings: Iterable[Timing]) -> None:
    """Write what was measured beside a folder's runs."""
    rows = [each._asdict() for each in timings]
    write_atomically(folder / LOOPS_FILE, to_csv(_COLUMNS, rows))


def loop_ratio(collection: Collection, settings: Sequence[Setting], of: str, to: str) -> pd.Series:
    """How many times as long an epoch takes with one loop and batch size as with another.

    Args:
        collection: Whose folder has the measurements.
        settings: Not asked, for these loops are none of the program's.
        of: Loop and batch size, such as `bare, batch size 256`.
        to: Those that it is compared with, in the same process.

    Returns:
        A ratio for each repeat; not known where a time was taken beside other work.

    Raises:
        InputError: If nothing was measured, or the file cannot be used.
    """
    del settings
    try:
        timings = pd.read_csv(collection.folder / LOOPS_FILE)
        beside_others = timings["other_cores"].astype(float) > MOST_OTHER_CORES
        timings["seconds"] = timings["seconds"].astype(float).mask(beside_others)
        timings["form"] = timings["loop"] + ", batch size " + timings["batch_size"].astype(str)
        seconds = timings.pivot(index="repeat", columns="form", values="seconds")
        return seconds[of] / seconds[to]
    except FileNotFoundError as error:
        raise InputError(f"{LOOPS_FILE} is not there; optsweep reproduce measures it") from error
    except (ValueError, KeyError, TypeError) as error:
        raise InputError(f"{LOOPS_FILE} cannot be read as times of loops") from error
