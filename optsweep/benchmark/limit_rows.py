"""The machine's limits, measured library by library and kept as rows."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Mapping
from typing import Any

from optsweep.benchmark.arguments import Wanted
from optsweep.benchmark.libraries import LIBRARIES, NEEDS
from optsweep.benchmark.network import num_weights
from optsweep.benchmark.process import Worker, WorkerError
from optsweep.benchmark.rows import Rows
from optsweep.report.timing import NUM_CLASSES, NUM_INPUTS

_ROUNDS = 2  # through all libraries, so that none has all of a busy moment
_OTHERS = "NumPy"  # the process that measures what is no library's


def num_limits(wanted: Wanted) -> int:
    """How often `on_each` is called."""
    return (1 if wanted.quick else _ROUNDS) * (len(_installed()) + 1)


def measure_limits(
    rows: Rows,
    wanted: Wanted,
    dataset: Mapping[str, Any],
    num_threads: int,
    on_each: Callable[[str], None],
) -> list[str]:
    """Measure what is not there yet, in rounds.

    Returns:
        What failed, a line each.
    """
    failures = []
    sizes = list(wanted.batch_sizes)
    weights = num_weights(NUM_INPUTS, NUM_CLASSES)
    for done in range(1 if wanted.quick else _ROUNDS):
        for library in [*_installed(), None]:
            on_each(library or "bandwidth")
            question = {"do": "matmul", "batch_sizes": sizes, "num_threads": num_threads}
            if library is None:
                question = {"do": "others", "num_weights": weights, "num_threads": num_threads}
                question |= {"batch_sizes": sizes, "dataset": dataset}
            if _count(rows, library or "", sizes) > done:
                continue
            log = wanted.out / "logs" / f"limits-{library or 'bandwidth'}.log"
            try:
                with Worker(library or _OTHERS, log, {}) as worker:
                    answer = worker.ask(**question)
            except WorkerError as error:
                failures.append(f"limits, {library or 'bandwidth'}: {error}")
                continue
            for row in answer["rows"]:
                rows.add(row | {"other_cores": answer.get("other_cores")})
    return failures


def _installed() -> list[str]:
    return [
        name
        for name in LIBRARIES
        if name not in NEEDS or importlib.util.find_spec(NEEDS[name]) is not None
    ]


def _count(rows: Rows, library: str, batch_sizes: list[int]) -> int:
    """How many rounds have all of these batch sizes."""
    found = rows.read()
    found = found[found["library"].fillna("") == library]
    found = found[found["unit"].isin(["share", "GFLOP/s"])]
    counts = found[found["how"] != "apart"].groupby("batch_size").size()
    return min(int(counts.get(size, 0)) for size in batch_sizes)
