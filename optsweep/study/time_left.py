"""How long cells will take, told from how long others took."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from optsweep.cli.grids import Cell


class Clock:
    """Estimates by batch size, for which a pass over the data costs most differently."""

    def __init__(self) -> None:
        """Start with nothing but guesses."""
        self._seconds: dict[int, float] = {}  # by batch size, of training alone
        self._guesses: dict[int, float] = {}  # of the same cells
        self._overhead = 1.0  # seconds that a cell takes beside training

    def learn(self, cell: Cell, result: Mapping[str, Any]) -> None:
        """Take a finished cell into account, unless it diverged and so may have ended early."""
        if result["status"] == "completed":
            size = cell.config.trainer.batch_size
            self._seconds[size] = self._seconds.get(size, 0.0) + result["seconds"]
            self._guesses[size] = self._guesses.get(size, 0.0) + guess(cell)

    def learn_overhead(self, seconds: float, num_cells: int) -> None:
        """Take into account how many seconds beside training some cells took in all."""
        if num_cells:
            self._overhead = seconds / num_cells

    def estimate(self, cells: Iterable[Cell]) -> float:
        """Seconds that cells will take."""
        factor = sum(self._seconds.values()) / sum(self._guesses.values()) if self._guesses else 1
        total = 0.0
        for cell in cells:
            size = cell.config.trainer.batch_size
            known = size in self._guesses
            total += guess(cell) * (self._seconds[size] / self._guesses[size] if known else factor)
            total += self._overhead
        return total


def guess(cell: Cell) -> float:
    """Seconds of training on about two cores; good for comparing cells."""
    trainer, num_examples = cell.config.trainer, cell.config.dataset.num_train_examples
    passes = cell.config.num_seeds * trainer.epochs * num_examples / 60_000
    return passes * (0.15 + 0.85 / trainer.batch_size)


def in_words(seconds: float) -> str:
    """Seconds as a reader wants them.

    >>> in_words(80), in_words(100)
    ('about 80 s', 'about 2 min')
    """
    return f"about {seconds / 60:.0f} min" if seconds >= 90 else f"about {seconds:.0f} s"
