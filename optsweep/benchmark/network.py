"""The network of all peers, in NumPy: initial weights, and the loss by which work is compared."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence

import numpy as np

from optsweep.benchmark.tasks import HIDDEN_SIZES

Weights = list[tuple[np.ndarray, np.ndarray]]  # per layer (in, out) and (out,), float32

_ROWS = 10_000  # examples of one pass: bounds its memory


def widths(num_inputs: int, num_classes: int) -> list[int]:
    """Units of every layer, the inputs first."""
    return [num_inputs, *HIDDEN_SIZES, num_classes]


def initial_weights(seed: int, num_inputs: int, num_classes: int) -> Weights:
    """The weights that optsweep, and a PyTorch script with that seed, starts from.

    Uniform in ±1/sqrt(fan_in), out of the lower 24 bits of a Mersenne Twister's numbers.
    """
    twister = np.random.RandomState(seed)
    weights = []

    def draw(shape: tuple[int, ...], bound: float) -> np.ndarray:
        bits = twister.randint(0, 2**32, shape, np.uint32) & np.uint32(2**24 - 1)
        share = bits.astype(np.float32) * np.float32(2**-24)
        return share * np.float32(2 * bound) - np.float32(bound)

    for fan_in, fan_out in itertools.pairwise(widths(num_inputs, num_classes)):
        bound = 1 / math.sqrt(fan_in)
        weight = np.ascontiguousarray(draw((fan_out, fan_in), bound).T)
        weights.append((weight, draw((fan_out,), bound)))
    return weights


def epoch_order(seed: int, num_examples: int) -> np.ndarray:
    """(N,) int32, a random order of the examples."""
    return np.random.default_rng([seed, 1]).permutation(num_examples).astype(np.int32)


def mean_loss(weights: Weights, images: np.ndarray, labels: np.ndarray) -> float:
    """Mean cross entropy of a network.

    Args:
        weights: Of its layers.
        images: (N, inputs).
        labels: (N,).
    """
    total = 0.0
    for start in range(0, len(images), _ROWS):
        x = images[start : start + _ROWS]
        for weight, bias in weights[:-1]:
            x = np.maximum(x @ weight + bias, 0)
        weight, bias = weights[-1]
        logits = (x @ weight + bias).astype(np.float64)
        highest = logits.max(1)
        right = logits[np.arange(len(x)), labels[start : start + _ROWS]]
        total += float((np.log(np.exp(logits - highest[:, None]).sum(1)) + highest - right).sum())
    return total / len(images)


def num_weights(num_inputs: int, num_classes: int) -> int:
    """Numbers that an optimizer updates."""
    sizes: Sequence[int] = widths(num_inputs, num_classes)
    return sum((a + 1) * b for a, b in itertools.pairwise(sizes))
