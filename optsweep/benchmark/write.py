"""From the rows of a folder to its tables and its figure; nothing is measured."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pandas as pd

from optsweep.benchmark.equal_work import compare_losses
from optsweep.benchmark.figure import speed_figure
from optsweep.benchmark.files import (
    ENVIRONMENT_FILE,
    LIBRARIES_FILE,
    LIMITS_FILE,
    NOTES_FILE,
    README_FILE,
    REPORT_FILE,
    STARTS_FILE,
    STUDY_FILE,
    SUMMARY_FILE,
    TIMES_FILE,
)
from optsweep.benchmark.report import Benchmark, full_report, short_report
from optsweep.benchmark.rows import LIMITS, STARTS, TIMES
from optsweep.benchmark.summary import CELL, bounds, timings
from optsweep.benchmark.tasks import Cell
from optsweep.report.pictures import save
from optsweep.runs import write_atomically


def read_benchmark(folder: Path) -> Benchmark:
    """Sum up what was measured into a folder."""
    environment = _json(folder / ENVIRONMENT_FILE, {})
    rows = _rows(folder / TIMES_FILE, TIMES)
    limits = _rows(folder / LIMITS_FILE, LIMITS)
    starts = _rows(folder / STARTS_FILE, STARTS)
    num_train = environment["num_train"]
    times = timings(rows, num_train)
    cells = [Cell(*row) for row in times[CELL].drop_duplicates().itertuples(index=False)]
    numbers = ["seconds", "told", "trains", "megabytes"]
    return Benchmark(
        environment=environment,
        times=times,
        bound=bounds(limits, cells, num_train),
        equal=compare_losses(rows),
        limits=limits,
        starts=starts.groupby("what", sort=False)[numbers].median(),
        libraries=_json(folder / LIBRARIES_FILE, {}),
        study=_json(folder / STUDY_FILE, {}),
        notes=_json(folder / NOTES_FILE, []),
    )


def read_and_write(folder: Path) -> Iterator[str]:
    """Write all tables and the figure; tell what was written, and the targets."""
    benchmark = read_benchmark(folder)
    write_atomically(folder / REPORT_FILE, full_report(benchmark))
    yield f"report: {folder / REPORT_FILE}"
    if len(benchmark.times):
        write_atomically(folder / README_FILE, short_report(benchmark))
        columns = benchmark.times.to_csv(index=False, lineterminator="\n")
        write_atomically(folder / SUMMARY_FILE, columns)
        save(speed_figure(benchmark.times, benchmark.bound), folder)
        yield f"figure: {folder / 'benchmark.svg'}"
    for target in benchmark.targets:
        yield f"{target.wanted}: {target.found}, {target.verdict.strip('*')}"


def _rows(path: Path, columns: tuple[str, ...]) -> pd.DataFrame:
    if not path.exists():
        return pd.DataFrame(columns=list(columns))
    return pd.read_csv(path, dtype={"losses": str})


def _json(path: Path, default: Any) -> Any:
    return json.loads(path.read_text(encoding="utf-8")) if path.exists() else default
