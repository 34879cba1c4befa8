"""The rounds of measurements: everyone in turn, again and again, each in a process of its own.

Every measurement is a row of a CSV file as soon as it is made, so that the same command continues.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd

from benchmark.peers import OURS, PEERS, family
from benchmark.tasks import CELL, NETWORKS, QUICK_EXAMPLES, Images, Task, cell_name
from benchmark.workers import Worker
from optsweep.surroundings import seconds_of_others

FILE = "measurements.csv"
KEY = ["peer", *Task._fields, "repeat"]
COLUMNS = [*KEY, "seconds", "compile_seconds", "losses", "engine", "other_cores"]
# A form of a peer that took so many times as long as its best one in the first round is left out.
_HOPELESS = 1.5
_FIRST_SEED = 1000  # of the first round; seeds are new in every round
# After their work, thread pools look for more for some milliseconds before they sleep.
_SETTLE_SECONDS = 0.1
_WEIGHT_COSTS = {"sgd": 1.0, "momentum": 1.7, "adam": 4.0}  # of a step, roughly


class Measurement(NamedTuple):
    """An epoch of a peer in one of the rounds."""

    peer: str
    task: Task
    repeat: int

    @property
    def key(self) -> tuple[Any, ...]:
        return (self.peer, *self.task, self.repeat)

    @property
    def expected_seconds(self) -> float:
        """Roughly, on two quiet cores, with what comes before the first round."""
        call, step, rate, compilation = PEERS[self.peer].costs
        task, flops = self.task, NETWORKS[self.task.network].flops
        step *= _WEIGHT_COSTS[task.optimizer] * max(1, flops / NETWORKS["mlp"].flops)
        steps = task.num_steps * (call + step * task.num_seeds) / 1e3
        seconds = steps + task.num_examples * flops * task.num_seeds / rate / 1e9
        return 0.3 + seconds + (0 if self.repeat else compilation)


def schedule(
    cells: Iterable[Task], families: Sequence[str], repeats: int, quick: bool
) -> Iterator[Measurement]:
    """All measurements in their order: within a cell ours, the peers, and so again.

    Where a peer is timed on a part of an epoch, ours trains that too, for its losses.
    """
    for cell in cells:
        tasks = []
        for name, peer in PEERS.items():
            takes = cell.network in peer.networks and cell.num_seeds in peer.num_seeds
            if name == OURS or (takes and family(name) in families):
                most = max(cell.batch_size, QUICK_EXAMPLES) if quick else cell.num_examples
                most = min(most, cell.num_examples, peer.parts.get(cell.batch_size, most))
                tasks.append((name, cell._replace(num_examples=most)))
        checks = {(OURS, task) for _, task in tasks} - {tasks[0]}
        for repeat in range(repeats):
            for name, task in [*tasks, *sorted(checks)]:
                yield Measurement(name, task, repeat)


class Rounds:
    """Carries measurements out, with a process for every peer; `failures` tell what has none."""

    def __init__(self, images: Images, settings: Sequence[str], folder: Path) -> None:
        self.arguments, self.folder = (images, settings), folder
        self.failures: dict[str, str] = {}
        self._workers: dict[str, Worker] = {}
        self._prepared: dict[str, tuple[Any, float]] = {}

    def run(self, measurements: Iterable[Measurement], tell: Callable[[str], None]) -> None:
        """Make them; cells are told before they begin."""
        last = None
        try:
            for each in measurements:
                if each.task[:4] != last:
                    tell(cell_name(each.task))
                last, what = each.task[:4], f"{PEERS[each.peer].name()}, {cell_name(each.task)}"
                try:
                    if what not in self.failures and not self._is_hopeless(each):
                        self._measure(each)
                except Exception as error:  # whatever a library raises, or that its process ended
                    self.failures[what] = " ".join(f"{type(error).__name__}: {error}".split())
                    self._end(each.peer)  # the next cell starts another
        finally:
            for peer in [*self._workers]:
                self._end(peer)

    def _is_hopeless(self, each: Measurement) -> bool:
        if not each.repeat or each.peer == OURS:
            return False
        rows = read(self.folder / FILE, COLUMNS)
        rows = rows[(rows["repeat"] == 0) & (rows["peer"].map(family) == family(each.peer))]
        first = rows[(rows[CELL] == list(each.task[:4])).all(axis=1)].set_index("peer")["seconds"]
        return bool(first.get(each.peer, 0) > _HOPELESS * first.min())

    def _measure(self, each: Measurement) -> None:
        if each.peer not in self._workers:
            log = self.folder / "logs" / f"{each.peer}.log"
            self._workers[each.peer] = Worker(log, PEERS[each.peer], *self.arguments, log)
        worker, (cell, compile_seconds) = (
            self._workers[each.peer],
            self._prepared.get(each.peer, (None, 0.0)),
        )
        if cell != each.task[:4]:
            compile_seconds, _ = worker.begin("prepare", each.task).result()
            self._prepared[each.peer] = each.task[:4], compile_seconds
        first = _FIRST_SEED * (each.repeat + 1)  # the same for every peer
        seeds = range(first, first + each.task.num_seeds)
        time.sleep(_SETTLE_SECONDS)
        before, started = seconds_of_others(os.getpid()), time.perf_counter()
        outcome, own = worker.begin("train", each.task, seeds).result()
        after, seconds = seconds_of_others(os.getpid()), time.perf_counter() - started
        others = None  # cores that were busy with other programs
        if before is not None and after is not None:
            others = round(max(0.0, (after - before - own) / seconds), 2)
        row = dict(zip(KEY, each.key, strict=True)) | outcome._asdict()
        row["losses"] = " ".join(f"{loss:.6g}" for loss in outcome.losses)
        row |= {"compile_seconds": compile_seconds, "other_cores": others}
        append(self.folder / FILE, COLUMNS, row)

    def _end(self, peer: str) -> None:
        self._prepared.pop(peer, None)
        if worker := self._workers.pop(peer, None):
            worker.close()


def append(path: Path, columns: Sequence[str], row: dict[str, Any]) -> None:
    """Let a CSV file grow, or start it."""
    table = pd.DataFrame([row], columns=[*columns])
    table.to_csv(path, mode="a", header=not path.exists(), index=False, lineterminator="\n")


def read(path: Path, columns: Sequence[str]) -> pd.DataFrame:
    """A CSV file, or what it would be before it is started; columns that it lacks are empty.

    Measurements without a network are of the first one, which was alone then.
    """
    table = pd.read_csv(path, dtype={"losses": str}) if path.exists() else pd.DataFrame()
    table = table.reindex(columns=[*columns])
    if "network" in columns:
        table["network"] = table["network"].astype(object).fillna(next(iter(NETWORKS)))
    return table
