"""What everyone trains: an epoch of some network, batch size, optimizer and number of seeds.

In NumPy, for peers that should not have to load PyTorch.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

import numpy as np

BATCH_SIZES = (1, 32, 256, 1000, 60_000)
OPTIMIZERS = {"sgd": "SGD", "momentum": "momentum", "adam": "Adam"}
NUM_SEEDS = (1, 10)
NUM_INPUTS, HIDDEN_SIZES, NUM_CLASSES = 784, (128, 56), 10
BETAS, EPS = (0.9, 0.999), 1e-8
MOMENTUM = 0.9
LENET_BATCH_SIZE = 256

_ROWS = 10_000  # examples of one pass that scores a network: bounds its memory

Weights = list[tuple[np.ndarray, np.ndarray]]  # per layer (in, out) and (out,), float32


class Images(NamedTuple):
    """Training examples: pixels (N, 784) uint8 and labels (N,) int64."""

    pixels: np.ndarray
    labels: np.ndarray


class Task(NamedTuple):
    """Train `num_seeds` networks for one epoch over the first `num_examples` images.

    Attributes:
        model: mlp, with 128 and 56 hidden units, or lenet.
        batch_size: Examples of a step; the last step may have fewer.
        optimizer: One of `OPTIMIZERS`; momentum is SGD with a momentum of 0.9.
        num_seeds: Networks that are trained, each with its own weights and orders.
        num_examples: Training examples of the epoch.
    """

    model: str
    batch_size: int
    optimizer: str
    num_seeds: int
    num_examples: int

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
        """PyTorch's or the report's learning rate, a tenth for momentum and for single examples.

        At these, losses fall in the first epoch: equal work shows in equal losses.
        """
        lr = {"sgd": 0.1, "momentum": 0.01, "adam": 0.001}[self.optimizer]
        return round(lr / 10, 6) if self.batch_size == 1 else lr

    @property
    def overrides(self) -> list[str]:
        """What the task is on optsweep's command line."""
        return [
            *([f"model={self.model}"] if self.model != "mlp" else []),
            f"optimizer={'adam' if self.optimizer == 'adam' else 'sgd'}",
            *([f"momentum={MOMENTUM}"] if self.optimizer == "momentum" else []),
            f"optimizer.lr={self.lr}",
            f"batch_size={min(self.batch_size, self.num_examples)}",
            f"num_seeds={self.num_seeds}",
            f"dataset.train_size={self.num_examples}",
            "trainer.epochs=1",
        ]

    def __str__(self) -> str:
        """The cell of the matrix, in words."""
        network = "" if self.model == "mlp" else f"{self.model}, "
        return network + cell_name(self.batch_size, self.optimizer, self.num_seeds)


CELL = list(Task._fields[:4])  # of the matrix


def cell_name(batch_size: int, optimizer: str, num_seeds: int | None = None) -> str:
    """A cell of the matrix in words.

    >>> cell_name(60000, "sgd", 10), cell_name(1, "adam")
    ('SGD, 10 seeds, batch size 60,000', 'Adam, batch size 1')
    """
    seeds = "" if num_seeds is None else f" {seeds_name(num_seeds)},"
    return f"{OPTIMIZERS[optimizer]},{seeds} batch size {batch_size:,}"


def seeds_name(num_seeds: int) -> str:
    """How many seeds."""
    return "1 seed" if num_seeds == 1 else f"{num_seeds} seeds"


def products(
    batch_size: int, hidden_sizes: Sequence[int] = HIDDEN_SIZES
) -> Iterator[tuple[int, int, int, str]]:
    """Every product of a step, as rows, inner, columns and which operand is transposed.

    >>> [shape for *shape, _ in products(32)][:3]
    [[32, 784, 128], [784, 32, 128], [32, 128, 56]]
    """
    for layer, (a, b) in enumerate(itertools.pairwise([NUM_INPUTS, *hidden_sizes, NUM_CLASSES])):
        yield batch_size, a, b, "none"  # outputs
        yield a, batch_size, b, "left"  # gradient of the weights
        if layer:
            yield batch_size, b, a, "right"  # gradient of the inputs


def flops_of(shapes: Iterable[tuple[int, int, int, str]]) -> int:
    """Additions and multiplications of some products.

    >>> flops_of(products(1))  # of an example, forward and backward
    447776
    """
    return sum(2 * rows * inner * columns for rows, inner, columns, _ in shapes)


def initial_weights(seed: int) -> Weights:
    """The MLP that optsweep, and a PyTorch script with that seed, starts from.

    Uniform in ±1/sqrt(fan_in), out of the lower 24 bits of a Mersenne Twister's numbers.
    """
    twister = np.random.RandomState(seed)

    def draw(bound: float, *shape: int) -> np.ndarray:
        bits = twister.randint(0, 2**32, shape, np.uint32) & np.uint32(2**24 - 1)
        share = bits.astype(np.float32) * np.float32(2**-24)
        return share * np.float32(2 * bound) - np.float32(bound)

    weights = []
    for fan_in, fan_out in itertools.pairwise([NUM_INPUTS, *HIDDEN_SIZES, NUM_CLASSES]):
        bound = 1 / math.sqrt(fan_in)
        weight = np.ascontiguousarray(draw(bound, fan_out, fan_in).T)
        weights.append((weight, draw(bound, fan_out)))
    return weights


def mean_loss(weights: Weights, pixels: np.ndarray, labels: np.ndarray) -> float:
    """Mean cross entropy of an MLP over pixels (N, 784) in [0, 1] with labels (N,)."""
    total = 0.0
    for start in range(0, len(pixels), _ROWS):
        x = pixels[start : start + _ROWS]
        for layer, (weight, bias) in enumerate(weights):
            x = (np.maximum(x, 0) if layer else x) @ weight + bias
        logits = x.astype(np.float64)
        right = logits[np.arange(len(x)), labels[start : start + _ROWS]]
        total += float((np.logaddexp.reduce(logits, axis=1) - right).sum())
    return total / len(pixels)
