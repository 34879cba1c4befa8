"""Processes that hold an object and call its methods.

Only the standard library is imported here: what a process is told, to flush subnormal numbers and
to stay on a core, has to be told before NumPy and others start their threads.
"""

from __future__ import annotations

import ctypes
import multiprocessing
import os
import platform
import struct
import time
from collections.abc import Callable
from concurrent.futures import Future, ProcessPoolExecutor
from pathlib import Path
from typing import Any

# Of glibc's fenv_t on x86-64: its size and the place of MXCSR, whose bits 15 and 6 flush results
# and operands to zero (Intel's manual, volume 1, 10.2.3). Threads inherit it.
_FENV_BYTES, _MXCSR, _FLUSH = 32, 28, 0x8040

_made: Any = None  # what this process holds, if it is a worker's


class Worker:
    """A process with an object `kind(*arguments)`; what libraries print goes to the log."""

    def __init__(self, log: Path, kind: type, *arguments: Any, core: int | None = None) -> None:
        context = multiprocessing.get_context("spawn")
        self.pool = ProcessPoolExecutor(1, context, _settle_in, (log, core))
        self.pool.submit(_make, kind, *arguments).result()

    def begin(self, method: str, *arguments: Any) -> Future[tuple[Any, float]]:
        """Call a method; there will be its result, and the CPU seconds that it took."""
        return self.pool.submit(_answer, method, *arguments)

    def close(self) -> None:
        self.pool.shutdown(cancel_futures=True)


def _settle_in(log: Path, core: int | None) -> None:
    with log.open("a") as file:
        for stream in (1, 2):
            os.dup2(file.fileno(), stream)
    if core is not None:
        os.sched_setaffinity(0, {core})
    if platform.machine() == "x86_64" and platform.libc_ver()[0] == "glibc":
        libm, state = ctypes.CDLL("libm.so.6"), ctypes.create_string_buffer(_FENV_BYTES)
        libm.fegetenv(state)
        (word,) = struct.unpack_from("<I", state, _MXCSR)
        struct.pack_into("<I", state, _MXCSR, word | _FLUSH)
        libm.fesetenv(state)


def _make(kind: Callable[..., Any], *arguments: Any) -> None:
    global _made  # noqa: PLW0603
    _made = kind(*arguments)


def _answer(method: str, *arguments: Any) -> tuple[Any, float]:
    before = time.process_time() + getattr(_made, "workers_seconds", 0.0)
    answer = getattr(_made, method)(*arguments)
    return answer, time.process_time() + getattr(_made, "workers_seconds", 0.0) - before
