"""What is measured: an epoch of some batch size, optimizer and number of seeds."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

BATCH_SIZES = (1, 32, 256, 1000, 60_000)
OPTIMIZERS = ("sgd", "momentum", "adam")
NUM_SEEDS = (1, 10)
HIDDEN_SIZES = (128, 56)
BETAS, EPS = (0.9, 0.999), 1e-8
MOMENTUM = 0.9

QUICK_EXAMPLES = 1000  # of --quick, or one step where a batch is larger


class Cell(NamedTuple):
    """One cell of the matrix."""

    batch_size: int
    optimizer: str
    num_seeds: int


@dataclass(frozen=True)
class Task:
    """Train `num_seeds` networks for one epoch over the first `num_examples` images.

    Attributes:
        batch_size: Examples of a step; the last step may have fewer.
        optimizer: One of `OPTIMIZERS`; momentum is SGD with a momentum of 0.9.
        num_seeds: Networks that are trained, each with its own weights and orders.
        num_examples: Training examples of the epoch.
    """

    batch_size: int
    optimizer: str
    num_seeds: int
    num_examples: int

    @property
    def cell(self) -> Cell:
        """The cell of the matrix that this is an epoch, or a part of one, of."""
        return Cell(self.batch_size, self.optimizer, self.num_seeds)

    @property
    def num_steps(self) -> int:
        """Steps of the epoch; the last, partial one counts."""
        return math.ceil(self.num_examples / self.batch_size)

    @property
    def is_full_batch(self) -> bool:
        """Whether every step sees all examples, so that their order does not matter."""
        return self.batch_size >= self.num_examples

    @property
    def lr(self) -> float:
        """The learning rate."""
        return learning_rate(self.optimizer, self.batch_size)

    @property
    def overrides(self) -> list[str]:
        """What the task is on optsweep's command line."""
        chosen = {"sgd": ["sgd"], "momentum": ["sgd", f"momentum={MOMENTUM}"], "adam": ["adam"]}
        name, *more = chosen[self.optimizer]
        return [
            f"optimizer={name}",
            *more,
            f"optimizer.lr={self.lr}",
            f"batch_size={min(self.batch_size, self.num_examples)}",
            f"num_seeds={self.num_seeds}",
            f"dataset.train_size={self.num_examples}",
            "trainer.epochs=1",
        ]


def learning_rate(optimizer: str, batch_size: int) -> float:
    """PyTorch's or the report's learning rate, a tenth of it for momentum and for single examples.

    At these, losses fall in the first epoch at every batch size: equal work shows in equal losses.

    >>> [learning_rate(optimizer, 256) for optimizer in OPTIMIZERS]
    [0.1, 0.01, 0.001]
    """
    lr = {"sgd": 0.1, "momentum": 0.01, "adam": 0.001}[optimizer]
    return round(lr / 10, 6) if batch_size == 1 else lr


def cells(
    batch_sizes: Sequence[int], optimizers: Sequence[str], num_seeds: Sequence[int]
) -> Iterator[Cell]:
    """Every cell of the matrix, small stacks first."""
    for count in num_seeds:
        for optimizer in optimizers:
            for batch_size in batch_sizes:
                yield Cell(batch_size, optimizer, count)


def task_of(cell: Cell, num_train: int, parts: Mapping[int, int], quick: bool) -> Task:
    """The epoch that a peer is timed on.

    Args:
        cell: Of the matrix.
        num_train: All training examples.
        parts: How many of them are enough, by batch size; all where it has none.
        quick: Whether a few are enough everywhere.
    """
    most = parts.get(cell.batch_size, num_train)
    if quick:
        most = max(cell.batch_size, QUICK_EXAMPLES)
    return Task(*cell, num_examples=min(num_train, most))


def num_repeats(cell: Cell, repeats: int, quick: bool) -> int:
    """How often a cell is measured: more often where that takes a fraction of a second.

    And less often where a measurement is an epoch of half a million steps and more.

    >>> num_repeats(Cell(256, "sgd", 1), 3, False), num_repeats(Cell(1, "sgd", 10), 3, False)
    (5, 2)
    """
    if quick:
        return repeats
    if cell.batch_size == 1:
        return max(1, repeats - 1) if cell.num_seeds > 1 else repeats
    return repeats + 2 if cell.num_seeds == 1 else repeats


def as_mapping(task: Task) -> dict[str, Any]:
    """Fit for JSON; `Task(**mapping)` is the way back."""
    return {
        "batch_size": task.batch_size,
        "optimizer": task.optimizer,
        "num_seeds": task.num_seeds,
        "num_examples": task.num_examples,
    }
