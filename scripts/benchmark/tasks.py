"""What everyone trains: an epoch of some network, batch size, optimizer and number of seeds.

In NumPy, for peers that should not have to load PyTorch.
"""

from __future__ import annotations

import functools
import itertools
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np

from optsweep.cli.composition import compose
from optsweep.config.checks import InputError
from optsweep.data.arrays import load_arrays

BATCH_SIZES = (1, 32, 256, 1000, 60_000)
OPTIMIZERS = {"sgd": "SGD", "momentum": "momentum", "adam": "Adam"}
BETAS, EPS, MOMENTUM = (0.9, 0.999), 1e-8, 0.9
STANDARDISED = "standardised"

# Of each layer (in, out), or a convolution's (out, in, height, width), and (out,), float32.
Weights = list[tuple[np.ndarray, np.ndarray]]
Start = tuple[int, Weights]  # a seed, for the order of examples, and the weights that belong to it


class Network(NamedTuple):
    """A network: shapes of its layers' weights, optsweep's setting, and what it is measured on."""

    title: str
    layers: Sequence[tuple[int, ...]]
    override: str
    num_examples: int
    batch_sizes: Sequence[int] = (32, 256)
    optimizers: Sequence[str] = ("sgd", "adam")


def _mlp(title: str, hidden: Sequence[int], *measured: Any) -> Network:
    setting = f"model.hidden_sizes=[{','.join(map(str, hidden))}]"
    return Network(title, tuple(itertools.pairwise((784, *hidden, 10))), setting, *measured)


_LENET = ((6, 1, 5, 5), (16, 6, 5, 5), (400, 120), (120, 84), (84, 10))
NETWORKS = {
    "mlp": _mlp("128-56", (128, 56), 60_000, BATCH_SIZES, tuple(OPTIMIZERS)),
    STANDARDISED: _mlp("128-56, standardised", (128, 56), 15_000, (1, 32, 256)),
    "512-256": _mlp("512-256", (512, 256), 3000),
    "1024-1024": _mlp("1024-1024", (1024, 1024), 1500),
    "lenet": Network("LeNet", _LENET, "model=lenet", 512, optimizers=("sgd",)),
}


class Task(NamedTuple):
    """Train `num_seeds` networks for one epoch over the first `num_examples` images.

    Each has its own weights and orders. The last step may have fewer examples; momentum is SGD
    with a momentum of 0.9.
    """

    network: str
    batch_size: int
    optimizer: str
    num_seeds: int
    num_examples: int

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


CELL = list(Task._fields[:4])


def cell_name(row: Any) -> str:
    """A task, or a row of a table with its fields, in words.

    >>> cell_name(Task("lenet", 1000, "sgd", 10, 3000))
    'LeNet, SGD, 10 seeds, b = 1,000'
    """
    network = "" if row.network == "mlp" else f"{NETWORKS[row.network].title}, "
    seeds = f"{row.num_seeds} seed{'s' if row.num_seeds > 1 else ''}"
    return f"{network}{OPTIMIZERS[row.optimizer]}, {seeds}, b = {row.batch_size:,}"


def cells(most: int = 60_000) -> Iterator[Task]:
    """All cells for which so many examples suffice, small stacks first.

    Where steps are many and alike, fewer are enough: ten networks see a third of the examples, and
    one by one a network sees 12,000 of them, ten of them half as many.
    """
    for name, network in NETWORKS.items():
        settings = itertools.product((1, 10), network.optimizers, network.batch_sizes)
        for num_seeds, optimizer, size in settings:
            part = whole = network.num_examples
            if size == 1:
                part = 12_000 if num_seeds == 1 else 6000
            elif num_seeds > 1 and size < whole:
                part = max(whole // 3, 3000)
            if size <= most:
                yield Task(name, size, optimizer, num_seeds, min(part, whole, most))


def examples(task: Task, settings: tuple[str, ...]) -> tuple[np.ndarray, np.ndarray]:
    """Inputs (N, 784) float32 and labels (N,) int64 of a task's epoch.

    Inputs are in [0, 1] or, for the network of that name, of mean 0 and variance 1 over all pixels.
    """
    x, labels = images(settings)
    if task.network == STANDARDISED:
        x = (x - x.mean()) / x.std()
    return x[: task.num_examples], labels[: task.num_examples]


@functools.lru_cache(1)
def images(settings: tuple[str, ...]) -> tuple[np.ndarray, np.ndarray]:
    """The same of all training images, which optsweep finds by such settings.

    Raises:
        InputError: If the data are missing or corrupt, or not what all peers take.
    """
    config = compose(*settings).dataset
    arrays = load_arrays(config)
    pixels = arrays.train_images.reshape(config.num_train, -1)[: config.num_train_examples]
    if (pixels.dtype, pixels.shape[1], config.num_classes) != (np.uint8, 784, 10):
        raise InputError(f"dataset {config.name}: expected 784 bytes an example and 10 classes")
    return pixels / np.float32(255), arrays.train_labels[: len(pixels)].astype(np.int64)


def updated(task: Task, w: Any, g: Any, m: Any, v: Any, count: Any) -> tuple[Any, Any, Any]:
    """Weights and moments after a step, the first with count 1, in any library's arrays."""
    (b1, b2), lr = BETAS, task.lr
    if task.optimizer == "sgd":
        return w - lr * g, m, v
    if task.optimizer == "momentum":
        m = MOMENTUM * m + g
        return w - lr * m, m, v
    m, v = b1 * m + (1 - b1) * g, b2 * v + (1 - b2) * g * g
    rate, scale = lr / (1 - b1**count), (1 - b2**count) ** -0.5
    return w - rate * m / (scale * v**0.5 + EPS), m, v
