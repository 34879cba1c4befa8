"""What is measured, in which order, and what is written."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import hydra
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from optsweep.benchmark import study_time
from optsweep.benchmark.arguments import Wanted
from optsweep.benchmark.environment import environment, keep_environment
from optsweep.benchmark.files import (
    LIBRARIES_FILE,
    LIMITS_FILE,
    MEASURED_FILES,
    NOTES_FILE,
    STARTS_FILE,
    STUDY_FILE,
    TIMES_FILE,
)
from optsweep.benchmark.limit_rows import measure_limits, num_limits
from optsweep.benchmark.matrix import Rounds, schedule
from optsweep.benchmark.peers import PEERS
from optsweep.benchmark.process import WorkerError
from optsweep.benchmark.rows import LIMITS, STARTS, TIMES, Rows
from optsweep.benchmark.startup import measure_starts, num_starts
from optsweep.benchmark.tasks import cells
from optsweep.benchmark.wording import cell_name
from optsweep.benchmark.write import read_and_write
from optsweep.cli.composition import config_dir, to_config
from optsweep.cli.overrides import rewrite
from optsweep.config.schema import Config
from optsweep.engine.cores import num_cores
from optsweep.runs import write_atomically


def run(wanted: Wanted) -> int:
    """Measure, and write what was found.

    Returns:
        The exit code: 1 if a measurement failed.

    Raises:
        InputError: If a setting cannot be used, or the folder holds other measurements.
    """
    console = Console(highlight=False, soft_wrap=True)
    config = _compose(wanted.settings)
    wanted.check(config.dataset.num_train)
    folder = wanted.out
    if wanted.fresh:
        for name in MEASURED_FILES:
            (folder / name).unlink(missing_ok=True)
    (folder / "logs").mkdir(parents=True, exist_ok=True)
    keep_environment(folder, environment(config.dataset))
    problems: list[str] = []
    for peer in wanted.missing:
        pip = " ".join(PEERS[peer].missing())
        problems.append(f"{PEERS[peer].title} is left out; pip install {pip} brings it")
    for line in problems:
        console.print(f"optsweep: {line}")
    failures: list[str] = []
    parts: dict[str, Callable[[], list[str]]] = {
        "limits": lambda: _limits(console, wanted, config),
        "startup": lambda: _starts(console, wanted),
        "matrix": lambda: _matrix(console, wanted, config),
        "study": lambda: _study(console, wanted),
    }
    for name in wanted.only:
        try:
            failures += parts[name]()
        except WorkerError as error:
            failures.append(f"{name}: {error}")
    for line in failures:
        print(f"optsweep: error: {line}", file=sys.stderr)
    write_atomically(folder / NOTES_FILE, json.dumps(problems + failures, indent=2) + "\n")
    for line in read_and_write(folder):
        console.print(line)
    return 1 if failures else 0


def _compose(settings: Sequence[str]) -> Config:
    with hydra.initialize_config_dir(str(config_dir())):
        return to_config(hydra.compose("config", rewrite(list(settings), config_dir())))


def _limits(console: Console, wanted: Wanted, config: Config) -> list[str]:
    rows = Rows(wanted.out / LIMITS_FILE, LIMITS)
    with _bar(console, "limits", num_limits(wanted)) as told:
        dataset = config.to_mapping()["dataset"]
        return measure_limits(rows, wanted, dataset, num_cores(), told)


def _starts(console: Console, wanted: Wanted) -> list[str]:
    rows = Rows(wanted.out / STARTS_FILE, STARTS)
    with _bar(console, "start-up", num_starts(wanted.repeats)) as told:
        measure_starts(rows, wanted.repeats, wanted.settings, told)
    return []


def _matrix(console: Console, wanted: Wanted, config: Config) -> list[str]:
    matrix = list(cells(wanted.batch_sizes, wanted.optimizers, wanted.seeds))
    train = config.dataset.num_train
    measurements = list(schedule(matrix, wanted.peers, train, wanted.repeats, wanted.quick))
    rows = Rows(wanted.out / TIMES_FILE, TIMES)
    libraries = wanted.out / LIBRARIES_FILE
    known = json.loads(libraries.read_text()) if libraries.exists() else {}
    dataset = config.to_mapping()["dataset"]
    with (
        Rounds(dataset, rows, wanted.out / "logs") as rounds,
        _bar(console, "epochs", len(measurements)) as told,
    ):
        try:
            rounds.run(
                measurements, lambda each: told(f"{cell_name(*each.task.cell)}: {each.peer}")
            )
        finally:
            write_atomically(libraries, json.dumps(known | rounds.libraries, indent=2) + "\n")
    return [
        f"{PEERS[peer].title}, {cell_name(*cell)}: {reason}"
        for (peer, cell), reason in rounds.failures.items()
    ]


def _study(console: Console, wanted: Wanted) -> list[str]:
    path = wanted.out / STUDY_FILE
    known: dict[str, Any] = json.loads(path.read_text()) if path.exists() else {}
    with _bar(console, "study", 2) as told:
        told("finished cells")
        if wanted.reproduce != "none" and (found := study_time.of_cells(wanted.runs)):
            seconds = study_time.report_seconds(wanted.runs)
            known["cells"] = found | {"report_seconds": seconds}
        told("reproduce.py --quick")
        if wanted.reproduce == "quick" and "quick" not in known:
            known["quick"] = study_time.run_quick()
    write_atomically(path, json.dumps(known, indent=2) + "\n")
    return []


@contextmanager
def _bar(console: Console, name: str, total: int) -> Iterator[Callable[[str], None]]:
    """Tell what is being measured: as a bar on a terminal, elsewhere a line when it changes."""
    if not console.is_terminal:
        said: list[str] = []

        def told(text: str) -> None:
            what = text.partition(":")[0]
            if said[-1:] != [what]:
                said.append(what)
                console.print(f"{name}: {what}")

        yield told
        return
    columns = (
        TextColumn(name),
        MofNCompleteColumn(),
        BarColumn(bar_width=24),
        TimeElapsedColumn(),
        TextColumn("{task.fields[what]}"),
    )
    with Progress(*columns, console=console) as progress:
        task = progress.add_task(name, total=total + 1, completed=0, what="")

        def advance(text: str) -> None:
            progress.update(task, advance=1, what=text)

        yield advance
        progress.update(task, completed=total + 1, what="")
