"""Calls to the system that fail, or in the middle of which a program is killed; see `calls.c`."""

from __future__ import annotations

import shutil
import subprocess
import sys
import threading
from pathlib import Path

from faults.ground import Workshop
from optsweep import runs

_lock = threading.Lock()


class Library:
    """The compiled library."""

    def __init__(self, path: Path) -> None:
        """Take it from where it lies."""
        self.path = path

    def failing(self, how: str, number: int, lasts: bool = False) -> dict[str, str]:
        """The environment in which a call of a program fails.

        Args:
            how: EIO, ENOSPC, READ or KILL.
            number: Which one, from 1, of those that it concerns.
            lasts: Whether all after it do too.
        """
        told = {"FAULT_PATH": f"{runs.RUNS_FOLDER}", "FAULT_HOW": how, "FAULT_AT": str(number)}
        return {"LD_PRELOAD": str(self.path), **told, **({"FAULT_LASTS": "1"} if lasts else {})}


def library(workshop: Workshop) -> tuple[Library | None, str]:
    """The library, compiled once; None where that cannot be, and why."""
    compiler = shutil.which("cc")
    if not sys.platform.startswith("linux") or compiler is None:
        return None, "there is no cc, or no Linux, to let calls to the system fail"
    path = workshop.folder / "calls.so"
    with _lock:
        if not path.exists():
            source = Path(__file__).with_name("calls.c")
            command = [compiler, "-shared", "-fPIC", "-O1", "-o", str(path), str(source), "-ldl"]
            subprocess.run(command, check=True)
    return Library(path), ""
