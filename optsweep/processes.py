"""Pieces of work that do not depend on each other, done by several processes."""

from __future__ import annotations

import multiprocessing
import signal
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from typing import Any, TypeVar

T = TypeVar("T")


def side_by_side(
    work: Callable[..., T], calls: Sequence[tuple[Any, ...]], num_processes: int, least: int
) -> Iterator[T]:
    """Results of calls with these arguments, in their order.

    Args:
        work: A function of a module, which every process imports.
        calls: Arguments of each call, which are sent to a process.
        num_processes: At most. With more than one, what is started as a program may do nothing
            when it is imported: each process imports it.
        least: Calls that are worth a process of their own; with fewer there is none.
    """
    num_processes = min(num_processes, len(calls) // least)
    if num_processes < 2:
        yield from (work(*call) for call in calls)
        return
    # Not forked: the threads of this process may have locks.
    spawn = multiprocessing.get_context("spawn")
    pool = ProcessPoolExecutor(num_processes, spawn, _be_quiet)
    try:
        for future in [pool.submit(work, *call) for call in calls]:
            yield future.result()
    finally:
        pool.shutdown(cancel_futures=True)


def _be_quiet() -> None:
    """Leave an interruption to the process that waits for this one."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
