"""The rounds of measurements: every peer in turn, again and again."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any, NamedTuple

from optsweep.benchmark.peers import OURS, PEERS
from optsweep.benchmark.process import Worker, WorkerError
from optsweep.benchmark.rows import TIMES_KEY, Rows, losses_text
from optsweep.benchmark.tasks import Cell, Task, as_mapping, num_repeats, task_of

# Of the first repeat; seeds are new in every repeat.
_FIRST_SEED = 1000


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
        task = self.task
        return (self.peer, *task.cell, task.num_examples, self.repeat)

    @property
    def seeds(self) -> list[int]:
        """Seeds of its networks, the same for every peer."""
        first = _FIRST_SEED * (self.repeat + 1)
        return list(range(first, first + self.task.num_seeds))


def schedule(
    cells: Sequence[Cell], peers: Sequence[str], num_train: int, repeats: int, quick: bool
) -> Iterator[Measurement]:
    """All measurements in their order: within a cell ours, the peers, and so again."""
    for cell in cells:
        tasks = {
            peer: task_of(cell, num_train, PEERS[peer].parts, quick)
            for peer in [OURS, *(peer for peer in peers if peer != OURS)]
            if cell.num_seeds == 1 or PEERS[peer].stacks
        }
        sizes = dict.fromkeys(task.num_examples for task in tasks.values())
        checks = [size for size in sizes if size != tasks[OURS].num_examples]
        for repeat in range(num_repeats(cell, repeats, quick)):
            for peer, task in tasks.items():
                if repeat < repeats or not _takes_long(peer):
                    yield Measurement(peer, task, repeat)
            if repeat < repeats:
                for size in checks:
                    yield Measurement(OURS, Task(*cell, size), repeat, is_check=True)


def _takes_long(peer: str) -> bool:
    return bool(PEERS[peer].parts) and not PEERS[peer].stacks


class Rounds:
    """Carries measurements out, with a process for every peer."""

    def __init__(self, dataset: Mapping[str, Any], rows: Rows, logs: Path) -> None:
        """Keep what is measured in `rows`."""
        self.dataset = dataset
        self.rows = rows
        self.logs = logs
        self.failures: dict[tuple[str, Cell], str] = {}
        self.libraries: dict[str, list[str]] = {}
        self._workers: dict[str, Worker] = {}
        self._compiled: dict[str, tuple[Task, float]] = {}
        self._stack = ExitStack()

    def __enter__(self) -> Rounds:
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def run(
        self, measurements: Sequence[Measurement], on_each: Callable[[Measurement], None]
    ) -> None:
        """Measure what is not there yet; `on_each` is told before each of all measurements."""
        done = self.rows.keys(TIMES_KEY)
        self._warm_up(
            [each.task for each in measurements if each.peer == OURS and each.key not in done]
        )
        for each in measurements:
            on_each(each)
            failed = (each.peer, each.task.cell)
            if each.key in done or failed in self.failures:
                continue
            try:
                self._measure(each)
            except WorkerError as error:
                self.failures[failed] = str(error)
                self._forget(each.peer)

    def _warm_up(self, tasks: Sequence[Task]) -> None:
        """Have what optsweep compiles once after its installation kept on disk.

        How long the first job waits for that is measured in `startup`.
        """
        loops = {(task.batch_size == 1, task.optimizer): task for task in tasks}
        if loops:
            with Worker(OURS, self.logs / f"{OURS}.log", PEERS[OURS].environment) as worker:
                worker.ask(do="load", dataset=self.dataset)
                for task in loops.values():
                    worker.ask(do="prepare", task=as_mapping(task))

    def _measure(self, measurement: Measurement) -> None:
        peer, task = measurement.peer, measurement.task
        worker = self._worker(peer)
        compiled_task, compile_seconds = self._compiled.get(peer, (None, 0.0))
        if compiled_task != task and not measurement.is_check:
            answer = worker.ask(do="prepare", task=as_mapping(task))
            compile_seconds = answer["compile_seconds"]
            self._compiled[peer] = (task, compile_seconds)
            self.libraries[peer] = answer["blas"]
        answer = worker.ask(do="train", task=as_mapping(task), seeds=measurement.seeds)
        answer["losses"] = losses_text(answer["losses"])
        row = dict(zip(TIMES_KEY, measurement.key, strict=True))
        self.rows.add(row | answer | {"compile_seconds": compile_seconds})

    def _worker(self, peer: str) -> Worker:
        if peer not in self._workers:
            worker = Worker(peer, self.logs / f"{peer}.log", PEERS[peer].environment)
            self._workers[peer] = self._stack.enter_context(worker)
            worker.ask(do="load", dataset=self.dataset)
        return self._workers[peer]

    def _forget(self, peer: str) -> None:
        """End a process that failed; the next cell starts another."""
        self._compiled.pop(peer, None)
        if worker := self._workers.pop(peer, None):
            worker.close()
