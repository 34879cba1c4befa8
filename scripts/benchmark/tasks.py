"""What everyone trains: an epoch of some network, batch size, optimizer and number of seeds.

In NumPy, for peers that should not have to load PyTorch.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np

BATCH_SIZES = (1, 32, 256, 1000, 60_000)
OPTIMIZERS = {"sgd": "SGD", "momentum": "momentum", "adam": "Adam"}
NUM_SEEDS = (1, 10)
BETAS, EPS, MOMENTUM = (0.9, 0.999), 1e-8, 0.9
_SINGLES = 5  # several networks see a fifth of the examples one by one: 10^5 steps that are alike
QUICK_EXAMPLES = 1000  # of --quick, or one step where a batch is larger

Weights = list[tuple[np.ndarray, np.ndarray]]  # of a layer (out, in, ...) and (out,), float32


class Network(NamedTuple):
    """A network: its layers' weights as PyTorch has them, and what it is measured on.

    `overrides` are what it is on optsweep's command line. Where `num_examples` are fewer than an
    epoch's, an epoch takes as many times as long as it has more.
    """

    title: str
    layers: tuple[tuple[int, ...], ...]
    num_examples: int
    batch_sizes: Sequence[int] = (32, 256)
    optimizers: Sequence[str] = ("sgd", "adam")
    overrides: tuple[str, ...] = ()

    @property
    def flops(self) -> int:
        """Additions and multiplications for an example; the inputs need no gradient.

        A convolution's weights are used at every place of its output.

        >>> NETWORKS["mlp"].flops
        447776
        """
        uses = [(784, 100)[i] if len(shape) == 4 else 1 for i, shape in enumerate(self.layers)]
        of_layers = [2 * math.prod(each) * n for each, n in zip(self.layers, uses, strict=True)]
        return 3 * sum(of_layers) - of_layers[0]


def _mlp(*hidden: int) -> tuple[tuple[int, ...], ...]:
    return tuple((b, a) for a, b in itertools.pairwise((784, *hidden, 10)))


_LENET = ((6, 1, 5, 5), (16, 6, 5, 5), (120, 400), (84, 120), (10, 84))
_WIDE, _WIDER = ("model.hidden_sizes=[512,256]",), ("model.hidden_sizes=[1024,1024]",)
NETWORKS = {
    "mlp": Network("128-56", _mlp(128, 56), 60_000, BATCH_SIZES, tuple(OPTIMIZERS)),
    "standardised": Network(
        "128-56, standardised", _mlp(128, 56), 15_000, (1, 32, 256), overrides=("dataset=npz",)
    ),
    "512-256": Network("512-256", _mlp(512, 256), 3000, overrides=_WIDE),
    "1024-1024": Network("1024-1024", _mlp(1024, 1024), 1500, overrides=_WIDER),
    "lenet": Network("LeNet", _LENET, 3000, optimizers=("sgd",), overrides=("model=lenet",)),
}


class Images(NamedTuple):
    """Training examples: pixels (N, 784) uint8, labels (N,) int64; a file of standardised ones."""

    pixels: np.ndarray
    labels: np.ndarray
    standardised_file: str = ""

    def inputs(self, network: str) -> np.ndarray:
        """(N, 784) float32 in [0, 1], or of mean 0 and variance 1 over all pixels together."""
        x = self.pixels / np.float32(255)
        return (x - x.mean()) / x.std() if network == "standardised" else x


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
    def num_steps(self) -> int:
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
            *NETWORKS[self.network].overrides,
            f"optimizer={'adam' if self.optimizer == 'adam' else 'sgd'}",
            *([f"momentum={MOMENTUM}"] if self.optimizer == "momentum" else []),
            f"optimizer.lr={self.lr}",
            f"batch_size={min(self.batch_size, self.num_examples)}",
            f"num_seeds={self.num_seeds}",
            f"dataset.train_size={self.num_examples}",
            "trainer.epochs=1",
        ]


CELL = list(Task._fields[:4])


def cell_name(row: Any) -> str:
    """A task, or a row of a table with its fields, in words.

    >>> cell_name(Task("lenet", 1000, "sgd", 10, 3000))
    'LeNet, SGD, 10 seeds, b = 1,000'
    """
    return f"{setting_name(row)}, b = {row.batch_size:,}"


def setting_name(row: Any) -> str:
    """The same without the batch size."""
    network = "" if row.network == "mlp" else f"{NETWORKS[row.network].title}, "
    seeds = f"{row.num_seeds} seed{'s' if row.num_seeds > 1 else ''}"
    return f"{network}{OPTIMIZERS[row.optimizer]}, {seeds}"


def cells(
    networks: Sequence[str], sizes: Sequence[int], optimizers: Sequence[str], seeds: Sequence[int]
) -> Iterator[Task]:
    """The cells of these networks among those that are wanted, small stacks first."""
    for name, count, optimizer, size in itertools.product(networks, seeds, optimizers, sizes):
        network = NETWORKS[name]
        if name == "mlp" or (size in network.batch_sizes and optimizer in network.optimizers):
            part = _SINGLES if size == 1 and count > 1 else 1
            yield Task(name, size, optimizer, count, network.num_examples // part)


def initial_weights(network: str, seed: int) -> Weights:
    """What optsweep, and a PyTorch script with that seed, starts from.

    Uniform in ±1/sqrt(fan_in), out of the lower 24 bits of a Mersenne Twister's numbers.
    """
    twister = np.random.RandomState(seed)

    def draw(bound: float, *shape: int) -> np.ndarray:
        bits = twister.randint(0, 2**32, shape, np.uint32) & np.uint32(2**24 - 1)
        share = bits.astype(np.float32) * np.float32(2**-24)
        return share * np.float32(2 * bound) - np.float32(bound)

    bounds = [1 / math.sqrt(math.prod(shape[1:])) for shape in NETWORKS[network].layers]
    shapes = zip(bounds, NETWORKS[network].layers, strict=True)
    return [(draw(bound, *shape), draw(bound, shape[0])) for bound, shape in shapes]


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


def mean_loss(weights: Weights, inputs: np.ndarray, labels: np.ndarray) -> float:
    """Mean cross entropy of an MLP over inputs (N, 784) with labels (N,)."""
    x = inputs
    for layer, (weight, bias) in enumerate(weights):
        x = (np.maximum(x, 0) if layer else x) @ weight.T + bias
    logits = x.astype(np.float64)
    return float((np.logaddexp.reduce(logits, axis=1) - logits[np.arange(len(x)), labels]).mean())
