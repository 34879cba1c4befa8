"""Where compiled code is kept, so that it is the right code for whoever loads it.

numba takes what it kept for current as long as the function's own file is. What is called from
other files is compiled into it, however, so that the folder is one for each state of all files of
this engine; and for each processor and each version of what compiles, since a home is shared by
machines. numba has no lock either: of two processes that write at once, one may find the code of
the other, of another precision, under the name of its own.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import platform
import tempfile
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any, NamedTuple

import llvmlite
import numba
from filelock import FileLock, Timeout
from llvmlite import binding

from optsweep.surroundings import user_folder

_LOCK = "lock"


class Place(NamedTuple):
    """A folder for compiled code.

    Attributes:
        folder: Where it is; None if there is none.
        refusal: Why there is none, in a line.
    """

    folder: Path | None
    refusal: str


@functools.cache
def place() -> Place:
    """The folder of this state of the code, this processor and these versions."""
    config: Any = numba.config
    root = Path(config.CACHE_DIR or user_folder() / "numba")
    folder = root.absolute() / _state()
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder), contextlib.suppress(Timeout):
            FileLock(folder / _LOCK).acquire(timeout=0).lock.release()
    except (OSError, NotImplementedError) as error:
        why = getattr(error, "strerror", None) or error
        return Place(
            None,
            f"compiled code cannot be kept in {root} ({why}), so that every start compiles it "
            "anew; NUMBA_CACHE_DIR names another folder",
        )
    return Place(folder, "")


def alone() -> AbstractContextManager[Any]:
    """Keep other processes from loading and writing compiled code for as long as this lasts."""
    folder = place().folder
    return contextlib.nullcontext() if folder is None else FileLock(folder / _LOCK)


def _state() -> str:
    """Ten hexadecimal digits of the SHA-256 of all that compiled code depends on."""
    config: Any = numba.config
    sources = sorted(Path(__file__).parent.glob("*.py"))
    versions = (numba.__version__, llvmlite.__version__, platform.python_version())
    chosen = (config.CPU_NAME, config.CPU_FEATURES)
    processor = (binding.get_host_cpu_name(), binding.get_host_cpu_features().flatten())
    facts = repr((versions, chosen, processor)).encode()
    content = b"\0".join([facts, *(source.read_bytes() for source in sources)])
    return hashlib.sha256(content).hexdigest()[:10]
