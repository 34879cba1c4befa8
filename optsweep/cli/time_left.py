"""How long cells will take, told from how long others took."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from optsweep.cli.grids import Cell
from optsweep.config.schema import MLPConfig

_Kind = tuple[str, str, int]  # the engine that was asked for, the network, and the batch size
_OTHER_NETWORK = 20  # of the MLP's time, what LeNet takes
_EAGER_STEP = 1e-3  # seconds of a step where PyTorch was asked for, whatever is in it


class Clock:
    """Estimates by engine, network and batch size, on which the cost of a pass depends most."""

    def __init__(self) -> None:
        """Start with nothing but guesses."""
        self._seconds: dict[_Kind, float] = {}  # of training alone
        self._guesses: dict[_Kind, float] = {}  # of the same cells
        self._overhead = 1.0  # seconds that a cell takes beside training

    def learn(self, cell: Cell, result: Mapping[str, Any]) -> None:
        """Take a finished cell into account, unless it diverged and so may have ended early."""
        if result["status"] == "completed":
            kind = _kind(cell)
            self._seconds[kind] = self._seconds.get(kind, 0.0) + result["seconds"]
            self._guesses[kind] = self._guesses.get(kind, 0.0) + guess(cell)

    def learn_overhead(self, seconds: float, num_cells: int) -> None:
        """Take into account how many seconds beside training some cells took in all."""
        if num_cells:
            self._overhead = seconds / num_cells

    def estimate(self, cells: Iterable[Cell]) -> float:
        """Seconds that cells will take."""
        total = 0.0
        for cell in cells:
            kind = _kind(cell)
            alike = [kind] if kind in self._guesses else self._of_engine(kind)
            guesses = sum(self._guesses[each] for each in alike)
            factor = sum(self._seconds[each] for each in alike) / guesses if guesses else 1
            total += guess(cell) * factor + self._overhead
        return total

    def _of_engine(self, kind: _Kind) -> list[_Kind]:
        """The kinds known that an engine trained: others may be a hundred times as slow."""
        return [each for each in self._guesses if each[0] == kind[0]]


def guess(cell: Cell) -> float:
    """Seconds of training on about two cores; good for comparing cells."""
    trainer, num_examples = cell.config.trainer, cell.config.dataset.num_train_examples
    passes = cell.config.num_seeds * trainer.epochs * num_examples / 60_000
    network = 1 if isinstance(cell.config.model, MLPConfig) else _OTHER_NETWORK
    steps = trainer.epochs * num_examples / trainer.batch_size
    of_calls = _EAGER_STEP * steps if trainer.engine == "torch" else 0.0
    return passes * network * (0.15 + 0.85 / trainer.batch_size) + of_calls


def _kind(cell: Cell) -> _Kind:
    model, trainer = cell.config.model, cell.config.trainer
    network = "" if isinstance(model, MLPConfig) else model.target
    return trainer.engine, network, trainer.batch_size


def in_words(seconds: float) -> str:
    """Seconds as a reader wants them.

    >>> in_words(80), in_words(100)
    ('about 80 s', 'about 2 min')
    """
    return f"about {seconds / 60:.0f} min" if seconds >= 90 else f"about {seconds:.0f} s"
