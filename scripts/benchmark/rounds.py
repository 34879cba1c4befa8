"""The rounds of measurements: everyone in turn, again and again, each in processes of its own.

Every measurement is a row of a CSV file as soon as it is made, so that the same command continues.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import sys
import time
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import nn

from benchmark.peers import OURS, PEERS, Outcome, train
from benchmark.tasks import NETWORKS, Task, Weights, cell_name

FILE = "measurements.csv"
KEY = ["peer", *Task._fields, "repeat"]
COLUMNS = [*KEY, "seconds", "loss", "engine", "other_cores"]
_FIRST_SEED = 1000  # of the first round; seeds are new in every round
# After their work, thread pools look for more for some milliseconds before they sleep.
_SETTLE_SECONDS = 0.05

Turn = tuple[str, Task, int]  # a peer trains, in one of the rounds


def turns(cells: Iterable[Task], others: Sequence[str], num_rounds: int) -> Iterator[Turn]:
    """All in their order: within a cell ours, the other peers, and so again."""
    for cell in cells:
        names = [OURS, *(name for name in others if PEERS[name].takes(cell))]
        yield from ((name, cell, repeat) for repeat in range(num_rounds) for name in names)


def run(planned: Iterable[Turn], settings: tuple[str, ...], folder: Path) -> int:
    """Measure what is not there yet, and return how much of it failed.

    After a failure a peer is left out for the rest of its cell.
    """
    failures: set[str] = set()
    teams: dict[str, list[ProcessPoolExecutor]] = {}
    done, path = set(read(folder)[KEY].itertuples(index=False, name=None)), folder / FILE
    with contextlib.ExitStack() as stack:
        for name, task, repeat in planned:
            what = f"{PEERS[name].name}, {cell_name(task)}"
            if what in failures or (name, *task, repeat) in done:
                continue
            try:
                if name not in teams:
                    teams[name] = [stack.enter_context(worker) for worker in _team(name)]
                    measure(name, task, repeat, settings, teams[name])  # to start all threads
                row = measure(name, task, repeat, settings, teams[name])
            except Exception as error:  # whatever a library raises, or that its process ended
                failures.add(what)
                why = " ".join(f"{type(error).__name__}: {error}".split())
                print(f"optsweep: error: {what}: {why}", file=sys.stderr)
                teams.pop(name, None)  # the next cell starts another
            else:
                row.to_csv(path, mode="a", header=not path.exists(), index=False)
                print(f"{what}: {row['seconds'].item():.3g} s", flush=True)
    return len(failures)


def read(folder: Path) -> pd.DataFrame:
    """All rows; none before the first."""
    path = folder / FILE
    return pd.read_csv(path) if path.exists() else pd.DataFrame(columns=COLUMNS)


def measure(
    name: str, task: Task, repeat: int, settings: tuple[str, ...], team: list[ProcessPoolExecutor]
) -> pd.DataFrame:
    """Let a team train its shares of the seeds at once; a row of the file."""
    first = _FIRST_SEED * (repeat + 1)  # the same for every peer
    starts = [(first + i, initial_weights(task.network, first + i)) for i in range(task.num_seeds)]
    time.sleep(_SETTLE_SECONDS)
    begun: list[Future[Outcome]] = []
    for share in np.array_split(np.arange(len(starts)), min(len(team), len(starts))):
        at_once = 1 if PEERS[name].is_single(task) else len(share)
        part, own = task._replace(num_seeds=at_once), [starts[i] for i in share]
        begun.append(team[len(begun)].submit(train, name, part, settings, own))
    outcomes = [future.result() for future in begun]
    seconds = max(outcome.seconds for outcome in outcomes)
    loss = float(np.mean([loss for outcome in outcomes for loss in outcome.losses]))
    row = (name, *task, repeat, seconds, loss, outcomes[0].engine, outcomes[0].other_cores)
    return pd.DataFrame([row], columns=COLUMNS)


def initial_weights(network: str, seed: int) -> Weights:
    """What optsweep, and a PyTorch script with that seed, starts from."""
    torch.manual_seed(seed)
    parts: Weights = []
    for shape in NETWORKS[network].layers:
        is_dense = len(shape) == 2
        kind: Any = nn.Linear if is_dense else nn.Conv2d
        layer = kind(*shape) if is_dense else kind(shape[1], shape[0], shape[2])
        weight, bias = (part.detach().numpy() for part in (layer.weight, layer.bias))
        parts.append((weight.T.copy() if is_dense else weight, bias))
    return parts


def _team(name: str) -> list[ProcessPoolExecutor]:
    """A process on all cores or, where a system can pin processes, one on each core."""
    spawn = multiprocessing.get_context("spawn")
    if not (PEERS[name].is_pinned and hasattr(os, "sched_setaffinity")):
        return [ProcessPoolExecutor(1, spawn)]
    cores = sorted(os.sched_getaffinity(0))
    return [ProcessPoolExecutor(1, spawn, os.sched_setaffinity, (0, {core})) for core in cores]
