"""The rounds of measurements: everyone in turn, again and again, each in a process of its own.

Every measurement is a row of a CSV file as soon as it is made, so that the same command continues.
"""

from __future__ import annotations

import itertools
import multiprocessing
import os
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd
import threadpoolctl

from benchmark.peers import OURS, PEERS
from benchmark.tasks import LENET_BATCH_SIZE, Images, Task
from optsweep.surroundings import seconds_of_others

QUICK_EXAMPLES = 1000  # of --quick, or one step where a batch is larger
LENET_EXAMPLES = 15_000  # an epoch of ten takes a minute, all of it in steps that are alike
_FIRST_SEED = 1000  # of the first repeat; seeds are new in every repeat
# After their work, thread pools look for more for some milliseconds before they sleep.
_SETTLE_SECONDS = 0.1

FILE = "measurements.csv"
TIMES_KEY = ("peer", *Task._fields, "repeat")
TIMES = (*TIMES_KEY, "seconds", "job_seconds", "compile_seconds", "losses", "engine", "other_cores")


class Rows:
    """A CSV file that grows."""

    def __init__(self, path: Path, columns: Sequence[str]) -> None:
        """Continue the file, or start it."""
        self.path, self.columns = path, list(columns)
        if not path.exists():
            pd.DataFrame(columns=self.columns).to_csv(path, index=False, lineterminator="\n")

    def add(self, **row: Any) -> None:
        """Append a row; what it lacks is left empty."""
        table = pd.DataFrame([row], columns=self.columns)
        table.to_csv(self.path, mode="a", header=False, index=False, lineterminator="\n")

    def keys(self, *columns: str) -> set[tuple[Any, ...]]:
        """What is there, by some of the columns."""
        return set(pd.read_csv(self.path)[[*columns]].itertuples(index=False, name=None))


class WorkerError(RuntimeError):
    """A worker said why it failed, or ended."""


class Worker:
    """A process that holds one object and calls its methods.

    Attributes:
        libraries: BLAS libraries and thread pools of the process, as of the last answer.
        other_cores: How many cores other programs kept busy meanwhile; None if not known.
    """

    libraries: Sequence[str] = ()
    other_cores: float | None = None

    def __init__(self, log: Path, kind: type, *arguments: Any) -> None:
        """Start it with an object `kind(*arguments)`; what libraries print goes to the log.

        Raises:
            WorkerError: If that failed.
        """
        self.log = log
        self.pool = ProcessPoolExecutor(1, multiprocessing.get_context("spawn"), _redirect, (log,))
        self.pid = self._call(os.getpid)
        self._call(_make, kind, *arguments)

    def ask(self, method: str, *arguments: Any) -> Any:
        """Call a method.

        Raises:
            WorkerError: If that failed.
        """
        time.sleep(_SETTLE_SECONDS)
        before, started = seconds_of_others(self.pid), time.perf_counter()
        answer, self.libraries = self._call(_answer, method, *arguments)
        after, seconds = seconds_of_others(self.pid), time.perf_counter() - started
        if before is not None and after is not None:
            self.other_cores = round(max(0.0, (after - before) / seconds), 2)
        return answer

    def _call(self, function: Callable[..., Any], *arguments: Any) -> Any:
        try:
            return self.pool.submit(function, *arguments).result()
        except BrokenProcessPool as error:
            raise WorkerError(f"it ended; its last words are in {self.log}") from error
        except Exception as error:
            raise WorkerError(" ".join(f"{type(error).__name__}: {error}".split())) from error

    def __enter__(self) -> Worker:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """End the process."""
        self.pool.shutdown(cancel_futures=True)


_made: Any = None  # what this process holds, if it is a worker's


def _redirect(log: Path) -> None:
    with log.open("w") as file:
        for stream in (1, 2):
            os.dup2(file.fileno(), stream)


def _make(kind: type, *arguments: Any) -> None:
    global _made  # noqa: PLW0603
    _made = kind(*arguments)


def _answer(method: str, *arguments: Any) -> tuple[Any, list[str]]:
    return getattr(_made, method)(*arguments), _libraries()


def _libraries() -> list[str]:
    """The BLAS libraries and thread pools of this process, with their kernels."""
    told = []
    for pool in threadpoolctl.threadpool_info():
        parts = [pool["internal_api"], pool.get("version"), pool.get("architecture")]
        told.append(f"{' '.join(filter(None, parts))}, {pool['num_threads']} threads")
    return sorted(told)


class Measurement(NamedTuple):
    """One epoch of one peer.

    `is_check` is for those of ours that are only there for their losses, since a peer was
    timed on fewer examples.
    """

    peer: str
    task: Task
    repeat: int
    is_check: bool = False

    @property
    def key(self) -> tuple[Any, ...]:
        """What makes a row of it unique; see `TIMES_KEY`."""
        return (self.peer, *self.task, self.repeat)

    @property
    def seeds(self) -> list[int]:
        """Seeds of its networks, the same for every peer."""
        first = _FIRST_SEED * (self.repeat + 1)
        return list(range(first, first + self.task.num_seeds))


def matrix(
    batch_sizes: Sequence[int], optimizers: Sequence[str], seeds: Sequence[int], num_train: int
) -> list[Task]:
    """Whole epochs of every cell, small stacks first, those of lenet last."""
    cells = itertools.product(seeds, optimizers, batch_sizes)
    mlps = [Task("mlp", size, optimizer, count, num_train) for count, optimizer, size in cells]
    return mlps + [
        task._replace(model="lenet")
        for task in mlps
        if task.batch_size == LENET_BATCH_SIZE and task.optimizer == "sgd"
    ]


def schedule(
    cells: Sequence[Task], peers: Sequence[str], repeats: int, quick: bool
) -> Iterator[Measurement]:
    """All measurements in their order: within a cell ours, the peers, and so again."""
    for cell in cells:
        lenet = cell.model == "lenet"
        chosen = [peer for peer in peers if peer == "torch"] if lenet else peers
        tasks = {
            peer: cell._replace(num_examples=_num_examples(cell, peer, quick))
            for peer in [OURS, *chosen]
            if cell.num_seeds == 1 or PEERS[peer].stacks
        }
        sizes = {task.num_examples for task in tasks.values()} - {tasks[OURS].num_examples}
        for repeat in range(_num_repeats(cell, repeats, quick)):
            for peer, task in tasks.items():
                takes_long = PEERS[peer].parts and not PEERS[peer].stacks
                if repeat < repeats or not takes_long:
                    yield Measurement(peer, task, repeat)
            if repeat < repeats:
                for size in sorted(sizes):
                    yield Measurement(OURS, cell._replace(num_examples=size), repeat, True)


def _num_examples(cell: Task, peer: str, quick: bool) -> int:
    """Of the epoch that a peer is timed on."""
    most = PEERS[peer].parts.get(cell.batch_size, cell.num_examples)
    if cell.model == "lenet":
        most = LENET_EXAMPLES
    if quick:
        most = max(cell.batch_size, QUICK_EXAMPLES)
    return min(most, cell.num_examples)


def _num_repeats(cell: Task, repeats: int, quick: bool) -> int:
    """More where a measurement takes a fraction of a second, fewer where it has 10^5 steps."""
    if quick or cell.model == "lenet":
        return repeats
    if cell.batch_size == 1:
        return max(1, repeats - 1) if cell.num_seeds > 1 else repeats
    return repeats + 2 if cell.num_seeds == 1 else repeats


class Rounds:
    """Carries measurements out, with a process for every peer.

    Attributes:
        failures: Peer and cell: why there is no more of it.
        libraries: BLAS libraries and thread pools of every peer's process.
    """

    def __init__(self, images: Images, settings: Sequence[str], rows: Rows, logs: Path) -> None:
        """Keep what is measured in `rows`; for the rest see `peers.Peer`."""
        self.arguments = images, settings
        self.rows, self.logs = rows, logs
        self.failures: dict[tuple[str, str], str] = {}
        self.libraries: dict[str, list[str]] = {}
        self._workers: dict[str, Worker] = {}
        self._prepared: dict[str, tuple[Task, float]] = {}

    def run(self, measurements: Sequence[Measurement], told: Callable[[str], None]) -> None:
        """Measure what is not there yet; cells are `told` before they begin."""
        done = self.rows.keys(*TIMES_KEY)
        missing = [each for each in measurements if each.key not in done]
        try:
            self._warm_up([each.task for each in missing if each.peer == OURS])
            for each in missing:
                told(str(each.task))
                failed = (each.peer, str(each.task))
                try:
                    if failed not in self.failures:
                        self._measure(each)
                except WorkerError as error:
                    self.failures[failed] = str(error)
                    self._end(each.peer)  # the next cell starts another
        finally:
            for peer in [*self._workers]:
                self._end(peer)

    def _warm_up(self, tasks: Sequence[Task]) -> None:
        """Have what optsweep compiles once after its installation kept on disk.

        How long the first job waits for that is measured in `startup`.
        """
        loops = {(task.model, task.batch_size == 1, task.optimizer): task for task in tasks}
        for task in loops.values():
            self._worker(OURS).ask("prepare", task)
        self._end(OURS)

    def _measure(self, measurement: Measurement) -> None:
        peer, task = measurement.peer, measurement.task
        worker = self._worker(peer)
        prepared, compile_seconds = self._prepared.get(peer, (None, 0.0))
        if prepared != task and not measurement.is_check:
            compile_seconds = worker.ask("prepare", task)
            self._prepared[peer] = (task, compile_seconds)
            self.libraries[peer] = [*worker.libraries]
        outcome = worker.ask("train", task, measurement.seeds)
        row = dict(zip(TIMES_KEY, measurement.key, strict=True)) | outcome._asdict()
        row["losses"] = " ".join(f"{loss:.6g}" for loss in outcome.losses)
        self.rows.add(**row, compile_seconds=compile_seconds, other_cores=worker.other_cores)

    def _worker(self, peer: str) -> Worker:
        if peer not in self._workers:
            log = self.logs / f"{peer}.log"
            self._workers[peer] = Worker(log, PEERS[peer], *self.arguments)
        return self._workers[peer]

    def _end(self, peer: str) -> None:
        self._prepared.pop(peer, None)
        if worker := self._workers.pop(peer, None):
            worker.close()
