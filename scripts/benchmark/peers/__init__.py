"""Ways to train the same networks: a table, and how a worker lets one of them train.

A peer's module imports its library, and is itself imported only in the processes of that peer.
"""

from __future__ import annotations

import pkgutil
from collections.abc import Callable, Sequence
from typing import NamedTuple

from benchmark.tasks import STANDARDISED, Start, Task


class Outcome(NamedTuple):
    """An epoch of all seeds together."""

    seconds: float  # on the wall
    losses: list[float]  # of the trained networks on the epoch's images
    engine: str | None = None  # optsweep's own, that trained
    other_cores: float | None = None  # that other programs kept busy, if optsweep knows


Train = Callable[[Sequence[Start]], Outcome]  # a network for each start; waits until that is done


class Peer(NamedTuple):
    """A way to train."""

    title: str  # in tables and figures; of peers with one title the fastest counts
    note: str  # what differs from the others
    prepare: str  # module:function of (task, settings, starts to compile with) that returns a Train
    form: str = ""  # tells peers with one title apart
    package: str = "torch"  # that it needs
    is_pinned: bool = False  # a process for each core, which stays there, has its share of seeds
    # One seed after another, else all of a process at once.
    is_single: Callable[[Task], bool] = lambda task: False
    takes: Callable[[Task], bool] = lambda cell: True  # which cells it is measured on

    @property
    def name(self) -> str:
        return f"{self.title}, {self.form}" if self.form else self.title


OURS = "optsweep"
_JAX = Peer(
    "JAX",
    "one process on all cores; jit, one lax.scan over the epoch, orders drawn before",
    "with_jax:scan",
    form="vmapped",
    package="jax",
)
PEERS: dict[str, Peer] = {
    OURS: Peer(
        "optsweep",
        "the public path, optsweep.training.cell, engine auto; seconds of history.csv",
        "ours:cell",
    ),
    "optsweep-alone": Peer(
        "optsweep",
        "the same with trainer.num_threads=1: what a second thread is worth to a seed",
        "ours:cell_on_one_thread",
        form="one thread",
        takes=lambda cell: cell[:4] == ("mlp", 256, "sgd", 1),
    ),
    "jax": _JAX,
    "jax-pinned": _JAX._replace(
        form="pinned",
        note="the same in a process for each core, which stays there, with its share of the seeds; "
        "one seed only at b ≤ 32, for larger products gain by two cores",
        is_pinned=True,
        takes=lambda cell: cell.num_seeds > 1 or cell.batch_size <= 32,
    ),
    "jax-singly": _JAX._replace(
        form="one by one",
        note="the same pinned processes, each with one seed after another",
        is_pinned=True,
        is_single=lambda task: True,
        takes=lambda cell: cell.num_seeds > 1,
    ),
    "torch": Peer(
        "PyTorch",
        "images resident, autograd, fused torch.optim; ten MLPs as a stack with baddbmm",
        "with_torch:eager",
        is_single=lambda task: task.network == "lenet",
        # At a batch size of 1 a step takes 0.2 to 0.5 ms whatever its data.
        takes=lambda cell: cell.optimizer != "momentum" and cell[:2] != (STANDARDISED, 1),
    ),
    "torch.compile": Peer(
        "torch.compile",
        "gathering, gradient and update of the epoch's step as one graph of static shapes",
        "with_torch:compiled",
        takes=lambda cell: cell.optimizer != "momentum" and cell.network == "mlp",
    ),
    "keras": Peer(
        "Keras",
        "on JAX: Model.fit, jit_compile, 64 steps_per_execution; timed between its own callbacks",
        "with_jax:keras_fit",
        package="keras",
        takes=lambda cell: PEERS["torch.compile"].takes(cell) and cell.num_seeds == 1,
    ),
}


_ready: dict[tuple[str, Task], Train] = {}  # in a worker, the last


def train(name: str, task: Task, settings: tuple[str, ...], starts: Sequence[Start]) -> Outcome:
    """In a worker: train as many at once as the task has seeds, and so on."""
    key, size = (name, task), task.num_seeds
    if key not in _ready:
        _ready.clear()
        make = pkgutil.resolve_name(f"benchmark.peers.{PEERS[name].prepare}")
        _ready[key] = make(task, settings, starts[:size])
    trained = [_ready[key](starts[i : i + size]) for i in range(0, len(starts), size)]
    losses = [loss for each in trained for loss in each.losses]
    return trained[0]._replace(seconds=sum(each.seconds for each in trained), losses=losses)
